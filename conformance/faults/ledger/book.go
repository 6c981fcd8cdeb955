package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// MaxCalls bounds a book: 8 bytes a call.
const MaxCalls = 1 << 24

// Book is the ledger of a batch: of the calls whose ids are its name, "-" and a number from 0. Its methods are
// safe for concurrent use.
type Book struct {
	ledger *Ledger
	name   string

	// Guarded by ledger.mu.
	calls   []call
	began   int
	ended   int
	sent    int
	owed    int            // calls that ended OK and have no handler yet
	servers map[string]int // handlers that ran, by server
	strange []string       // what fits no call, the first few
}

// call is what is known of one.
type call struct {
	began, ended uint16
	answers      uint8
	answer       answer
}

type answer uint8

const (
	answerOK answer = iota + 1
	answerFailed
	answerNotProcessed
)

// maxStrange bounds what is kept of what should not be.
const maxStrange = 10

// Open makes the book of a batch. The name holds no call's id yet.
func (l *Ledger) Open(name string) *Book {
	b := &Book{ledger: l, name: name, servers: make(map[string]int)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books[name] = b
	return b
}

// at is the call of a number, nil if it cannot be.
func (b *Book) at(n int) *call {
	if n < 0 || n >= MaxCalls {
		b.wonder("call %d: no such number", n)
		return nil
	}
	if n >= len(b.calls) {
		b.calls = append(b.calls, make([]call, n+1-len(b.calls))...)
	}
	return &b.calls[n]
}

func (b *Book) wonder(format string, args ...any) {
	if len(b.strange) < maxStrange {
		b.strange = append(b.strange, fmt.Sprintf(format, args...))
	}
}

func (b *Book) add(number string, e *Entry) {
	n, err := strconv.Atoi(number)
	if err != nil {
		b.wonder("entry of call %q: %v", e.CallId, err)
		return
	}
	c := b.at(n)
	if c == nil {
		return
	}
	switch e.Event {
	case conformancev1.LedgerEntry_EVENT_BEGAN:
		if c.began == 0 && c.answer == answerOK {
			b.owed--
		}
		c.began++
		b.began++
		b.servers[e.Server]++
	case conformancev1.LedgerEntry_EVENT_ENDED:
		c.ended++
		b.ended++
	}
}

// Answered says how the calls of a batch ended that were sent, by what the caller's program was told.
func (b *Book) Answered(r *conformancev1.BatchResult) {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	b.sent = int(r.Calls)
	for _, group := range r.Failed {
		a := answerFailed
		if group.Status.GetDisposition() == wirev1.Disposition_DISPOSITION_NOT_PROCESSED {
			a = answerNotProcessed
		}
		for _, n := range group.Calls {
			if int(n) >= b.sent {
				b.wonder("call %d ended, and only %d were sent", n, b.sent)
			} else if c := b.at(int(n)); c != nil {
				c.answers++
				c.answer = a
			}
		}
	}
	for n := range b.sent { // the others
		c := b.at(n)
		if c == nil {
			return
		}
		if c.answers == 0 {
			c.answers, c.answer = 1, answerOK
			if c.began == 0 {
				b.owed++
			}
		}
	}
}

// Handlers are how many have begun, in all and by server.
type Handlers struct {
	All     int
	Servers map[string]int
}

// has tells whether so many have begun.
func (b *Book) has(least Handlers) bool {
	for name, n := range least.Servers {
		if b.servers[name] < n {
			return false
		}
	}
	return b.began >= least.All
}

// Settle waits until at least so many handlers have begun, each that began has ended, and each call that ended OK has
// had one. What it does not see within the time, Audit and Handlers tell.
func (b *Book) Settle(within time.Duration, least Handlers) error {
	err := b.ledger.until(within, func() bool {
		return b.ended >= b.began && b.owed == 0 && b.has(least)
	})
	if err == nil {
		return nil
	}
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	return fmt.Errorf("batch %s: of %d handlers that began %d have ended after %v; %d calls were sent", b.name, b.began, b.ended, within, b.sent)
}

// Await waits until so many handlers have begun.
func (b *Book) Await(handlers int, within time.Duration) error {
	if err := b.ledger.until(within, func() bool { return b.began >= handlers }); err != nil {
		return fmt.Errorf("batch %s: %d of %d handlers began within %v", b.name, b.Handlers().All, handlers, within)
	}
	return nil
}

// Handlers is how many have begun.
func (b *Book) Handlers() Handlers {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	return Handlers{b.began, maps.Clone(b.servers)}
}

// Audit says what is not as it must be, whatever was done to the mesh: each call was answered once; one that
// ended OK was executed; one that was answered as not processed was not; none was executed more often
// than executions; nothing was executed that nobody sent. At most ten findings, then their number.
// Call it once the batch is settled.
func (b *Book) Audit(executions int) []string {
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	found := slices.Clone(b.strange)
	more := 0
	problem := func(n int, format string, args ...any) {
		if len(found) >= maxStrange {
			more++
			return
		}
		found = append(found, fmt.Sprintf("call %s-%d: ", b.name, n)+fmt.Sprintf(format, args...))
	}
	for n, c := range b.calls {
		if n >= b.sent && c.began > 0 {
			problem(n, "executed %d times, and never sent", c.began)
			continue
		}
		if c.answers > 1 {
			problem(n, "answered %d times", c.answers)
		}
		switch {
		case c.answer == answerOK && c.began == 0:
			problem(n, "answered OK, and never executed")
		case c.answer == answerNotProcessed && c.began > 0:
			problem(n, "answered NOT_PROCESSED, and executed %d times", c.began)
		case int(c.began) > executions:
			problem(n, "executed %d times, at most %d allowed", c.began, executions)
		}
	}
	if more > 0 {
		found = append(found, fmt.Sprintf("and %d more like these", more))
	}
	return found
}
