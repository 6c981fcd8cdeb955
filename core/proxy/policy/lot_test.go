package policy_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// waiter notes in which order waiters are resumed.
type waiter struct {
	name    byte
	order   *[]byte
	resumed func()
}

func (w *waiter) Resume() {
	if w.order != nil {
		*w.order = append(*w.order, w.name)
	}
	if w.resumed != nil {
		w.resumed()
	}
}

func newLot(limit uint32) *policy.Bounded {
	return policy.NewBounded(&policy.Lot{}, limit, time.Second, wire.OriginClientProxy)
}

func TestLotIsBounded(t *testing.T) {
	lot := newLot(2)
	a, b, c := &waiter{name: 'a'}, &waiter{name: 'b'}, &waiter{name: 'c'}
	if !lot.Add(a) || !lot.Add(b) {
		t.Fatal("two must find room")
	}
	if lot.Add(c) || lot.Add(a) || lot.Len() != 2 {
		t.Errorf("the third, or one that waits already, was taken; %d wait", lot.Len())
	}
	if lot.Full.Reason != wire.ReasonQueueFull || lot.Expired.Reason != wire.ReasonProxyUnready {
		t.Errorf("refuses %s and %s", lot.Full.Reason, lot.Expired.Reason)
	}
	if !lot.Remove(a) || lot.Remove(a) || !lot.Add(c) {
		t.Error("a place that was left must be free, and is left once")
	}
}

func TestLotResumesInOrder(t *testing.T) {
	lot, order := newLot(10), []byte{}
	waiters := map[byte]*waiter{}
	for _, name := range []byte("abcdef") {
		waiters[name] = &waiter{name: name, order: &order}
		lot.Add(waiters[name])
	}
	lot.Remove(waiters['a']) // the first, one in the middle, the last
	lot.Remove(waiters['c'])
	lot.Remove(waiters['f'])
	if !lot.WakeOne() {
		t.Fatal("nobody was resumed")
	}
	lot.Add(waiters['a'])
	if n := lot.WakeAll(); n != 3 || string(order) != "bdea" || lot.Len() != 0 {
		t.Errorf("resumed %d, in the order %q; %d wait still", n, order, lot.Len())
	}
	if lot.WakeOne() || lot.WakeAll() != 0 {
		t.Error("an empty lot resumed somebody")
	}
}

func TestWakeAllDoesNotResumeWhoParksAgain(t *testing.T) {
	lot := newLot(10)
	w, times := &waiter{}, 0
	w.resumed = func() { times++; lot.Add(w) }
	lot.Add(w)
	lot.WakeAll()
	if times != 1 || lot.Len() != 1 {
		t.Errorf("resumed %d times, %d wait", times, lot.Len())
	}
}

func TestEachWaiterLeavesOnce(t *testing.T) {
	lot := newLot(64)
	var resumed, removed, added atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				lot.WakeOne()
				lot.WakeAll()
			}
		}
	})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 3000 {
				w := &waiter{resumed: func() { resumed.Add(1) }}
				if lot.Add(w) {
					added.Add(1)
					if lot.Remove(w) {
						removed.Add(1)
					}
				}
			}
		})
	}
	users.Wait()
	close(stop)
	wg.Wait()
	lot.WakeAll()
	if resumed.Load()+removed.Load() != added.Load() || lot.Len() != 0 {
		t.Errorf("%d came, %d were resumed and %d removed; %d wait", added.Load(), resumed.Load(), removed.Load(), lot.Len())
	}
}
