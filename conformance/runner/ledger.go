package main

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// ledger is what handlers say that they saw, by call id. Testees write to it on a connection that does not
// pass the system under test.
type ledger struct {
	listener net.Listener
	mu       sync.Mutex
	entries  map[string][]*conformancev1.LedgerEntry
	changed  chan struct{} // closed, and replaced, with each entry
}

func newLedger() (*ledger, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	led := &ledger{listener: l, entries: make(map[string][]*conformancev1.LedgerEntry), changed: make(chan struct{})}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go led.read(nc)
		}
	}()
	return led, nil
}

func (l *ledger) address() string { return l.listener.Addr().String() }

func (l *ledger) read(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	in := bufio.NewReader(nc)
	for {
		e := &conformancev1.LedgerEntry{}
		if err := readFrame(in, e); err != nil {
			return // with its testee; what it owes, somebody misses
		}
		l.mu.Lock()
		l.entries[e.CallId] = append(l.entries[e.CallId], e)
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
	}
}

// of are the entries of a call with an event, in their order.
func (l *ledger) of(id string, event conformancev1.LedgerEntry_Event) []*conformancev1.LedgerEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*conformancev1.LedgerEntry
	for _, e := range l.entries[id] {
		if e.Event == event {
			all = append(all, e)
		}
	}
	return all
}

// await waits until a call has n entries with an event.
func (l *ledger) await(id string, event conformancev1.LedgerEntry_Event, n int, within time.Duration) error {
	late := time.After(within)
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		got := len(l.of(id, event))
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return fmt.Errorf("the ledger has %d of %d %v of call %s after %v", got, n, event, id, within)
		}
	}
}
