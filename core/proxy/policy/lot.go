package policy

import (
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Waiter is a parked call. It must be comparable, as a pointer is.
type Waiter interface {
	// Resume tells that what the call waits for may have come. It is called once for each Add, without
	// a lock held, by whoever wakes the lot; it must not wait.
	Resume()
}

// Lot is where calls to a target wait, first come first resumed. The zero value is ready. It outlives
// generations; the bound does not, and stands in [Bounded].
//
// Each waiter leaves once: a wake calls its Resume, or Remove returns true. What a waiter waits for may come
// just before Add, so look again after it.
type Lot struct {
	mu         sync.Mutex
	head, tail *space
	at         map[Waiter]*space
	free       *space
}

// space is a waiter's place in the queue. Spaces are kept for the next waiters.
type space struct {
	prev, next *space
	waiter     Waiter
}

// Bounded is a lot with the bounds of one generation.
type Bounded struct {
	*Lot
	Max int           // calls that may wait
	For time.Duration // how long a call may wait; the data path's deadline sweep sees to it
	// Full is the status of a call that Add did not take.
	Full wire.Status
	// Expired is the status of a call that waited for longer.
	Expired wire.Status
	// Resumes says that the time itself is what calls wait for: at its end the sweep takes a call out and
	// asks the policy again, rather than ending it.
	Resumes bool
}

// NewBounded bounds a lot.
func NewBounded(lot *Lot, limit uint32, wait time.Duration, origin wire.Origin) *Bounded {
	return &Bounded{
		Lot: lot, Max: int(limit), For: wait,
		Full:    wire.Refuse(wire.ReasonQueueFull, origin, "too many calls wait for the target"),
		Expired: wire.Refuse(wire.ReasonProxyUnready, origin, "waited too long for the target"),
	}
}

// Add lets a call wait. False: the lot is full, or the call is in it already.
func (b *Bounded) Add(w Waiter) bool { return b.add(w, b.Max) }

func (l *Lot) add(w Waiter, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.at) >= limit || l.at[w] != nil {
		return false
	}
	if l.at == nil {
		l.at = make(map[Waiter]*space)
	}
	s := l.free
	if s == nil {
		s = &space{}
	} else {
		l.free = s.next
	}
	*s = space{prev: l.tail, waiter: w}
	if l.tail != nil {
		l.tail.next = s
	} else {
		l.head = s
	}
	l.tail = s
	l.at[w] = s
	return true
}

// Remove takes a call out whose time is up or whose caller went away. False: it is not in the lot; its
// Resume has been called or is being called.
func (l *Lot) Remove(w Waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.at[w]
	if s == nil {
		return false
	}
	l.take(s)
	return true
}

// take unlinks a space and returns its waiter. The lock is held.
func (l *Lot) take(s *space) Waiter {
	w := s.waiter
	delete(l.at, w)
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.head = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.tail = s.prev
	}
	*s = space{next: l.free}
	l.free = s
	return w
}

// Len returns how many calls wait.
func (l *Lot) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

// WakeOne resumes the call that has waited longest. False: none waits.
func (l *Lot) WakeOne() bool {
	l.mu.Lock()
	if l.head == nil {
		l.mu.Unlock()
		return false
	}
	w := l.take(l.head)
	l.mu.Unlock()
	w.Resume()
	return true
}

// WakeAll resumes the calls that wait now, in their order, and returns how many. One that parks again
// meanwhile waits for the next wake.
func (l *Lot) WakeAll() int {
	l.mu.Lock()
	waiters := make([]Waiter, 0, len(l.at))
	for l.head != nil {
		waiters = append(waiters, l.take(l.head))
	}
	l.mu.Unlock()
	for _, w := range waiters {
		w.Resume()
	}
	return len(waiters)
}
