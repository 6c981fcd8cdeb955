// Package ledger keeps the execution ledger: what happened to each call where it was sent, executed and
// answered, outside of the system under test. Handlers tell it over a connection that does not pass the mesh
// (LedgerEntry in proto/octo/conformance/v1/service.proto); whoever makes the calls tells it the rest.
//
// A single call has all its entries (Of, Await). Calls of a batch, of which there may be millions, have a few
// bytes each in a Book, which Audit holds against what must be true of any call.
package ledger

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/octomesh/octomesh/conformance/control"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

type (
	// Entry is what a handler tells.
	Entry = conformancev1.LedgerEntry
	// Event is what happened.
	Event = conformancev1.LedgerEntry_Event
)

// Ledger accepts connections of servers until it is closed. What a handler told before its call was answered may still
// be on its way when the answer is known, since each server has a connection of its own. So whoever judges waits
// for what must come (Await, Settle), and judges what must not come once the servers have ended (Drain).
type Ledger struct {
	listener net.Listener
	readers  sync.WaitGroup

	mu      sync.Mutex
	entries map[string][]*Entry
	books   map[string]*Book
	killed  map[string]bool // servers whose handlers may go without a word
	changed chan struct{}   // closed, and replaced, with each entry
}

// New listens on the loopback interface.
func New() (*Ledger, error) {
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		listener: nl, entries: make(map[string][]*Entry), books: make(map[string]*Book), changed: make(chan struct{}), killed: make(map[string]bool),
	}
	l.readers.Go(l.accept)
	return l, nil
}

// Address is where handlers tell, "host:port".
func (l *Ledger) Address() string { return l.listener.Addr().String() }

// Close accepts no more connections.
func (l *Ledger) Close() error { return l.listener.Close() }

// Drain closes the ledger once it has all that was told. Whoever told must have ended.
func (l *Ledger) Drain(within time.Duration) error {
	if err := l.accepted(within); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	read := make(chan struct{})
	go func() {
		l.readers.Wait()
		close(read)
	}()
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-read:
		return nil
	case <-late.C:
		return fmt.Errorf("ledger: a server's connection did not end within %v", within)
	}
}

// accepted waits until all connections made so far have been accepted, or their bytes would be lost: they come in
// order, so one that is made now and has been read to its end is behind the others.
func (l *Ledger) accepted(within time.Duration) error {
	nc, err := net.DialTimeout("tcp", l.Address(), within)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	err = nc.(*net.TCPConn).CloseWrite()
	if err == nil {
		err = nc.SetReadDeadline(time.Now().Add(within))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, nc)
	}
	return err
}

func (l *Ledger) accept() {
	for {
		nc, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.readers.Go(func() { l.read(nc) })
	}
}

func (l *Ledger) read(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	in := bufio.NewReader(nc)
	running := make(map[handler]int) // of calls in books
	for {
		e := &Entry{}
		if err := control.Read(in, e); err != nil {
			l.lost(running)
			return // with its testee; what it owes, somebody misses
		}
		switch h := (handler{e.Server, e.CallId}); e.Event {
		case conformancev1.LedgerEntry_EVENT_BEGAN:
			running[h]++
		case conformancev1.LedgerEntry_EVENT_ENDED:
			if running[h]--; running[h] <= 0 {
				delete(running, h)
			}
		}
		l.Add(e)
	}
}

// handler is one that tells: of a server, for a call.
type handler struct{ server, call string }

// Kill says that a server will be killed: what runs there when its connection ends has ended with it.
func (l *Ledger) Kill(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed[server] = true
}

// lost notes that those who told over a connection tell nothing any more.
func (l *Ledger) lost(running map[handler]int) {
	for h, n := range running {
		l.mu.Lock()
		killed := l.killed[h.server]
		l.mu.Unlock()
		for range n {
			if killed {
				l.Add(&Entry{CallId: h.call, Server: h.server, Event: conformancev1.LedgerEntry_EVENT_ENDED})
			}
		}
	}
}

// Add takes an entry as if it had come over a connection.
func (l *Ledger) Add(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut := strings.LastIndexByte(e.CallId, '-'); cut >= 0 && l.books[e.CallId[:cut]] != nil {
		l.books[e.CallId[:cut]].add(e.CallId[cut+1:], e)
	} else {
		l.entries[e.CallId] = append(l.entries[e.CallId], e)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Of are the entries of a call with an event, in their order.
func (l *Ledger) Of(id string, event Event) []*Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*Entry
	for _, e := range l.entries[id] {
		if e.Event == event {
			all = append(all, e)
		}
	}
	return all
}

// Await waits until a call has n entries with an event.
func (l *Ledger) Await(id string, event Event, n int, within time.Duration) error {
	got := 0
	err := l.until(within, func() bool {
		got = 0
		for _, e := range l.entries[id] {
			if e.Event == event {
				got++
			}
		}
		return got >= n
	})
	if err != nil {
		return fmt.Errorf("the ledger has %d of %d %v of call %s after %v", got, n, event, id, within)
	}
	return nil
}

// until waits for what is asked with mu held, each time that there is something new.
func (l *Ledger) until(within time.Duration, ask func() bool) error {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		l.mu.Lock()
		yes, changed := ask(), l.changed
		l.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("not within %v", within)
		}
	}
}
