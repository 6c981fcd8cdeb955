package checkout

import (
	"sync"

	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
)

// maxOrders bounds the orders that are remembered; the oldest is forgotten first. The catalogue remembers
// what was reserved for it.
const maxOrders = 10_000

// orders is what the service knows of orders, by id.
type orders struct {
	mu   sync.Mutex
	all  map[string]*order
	ages []string // ids, the oldest first
}

// get returns the order of an id, which becomes known with it.
func (all *orders) get(id string) *order {
	all.mu.Lock()
	defer all.mu.Unlock()
	if o := all.all[id]; o != nil {
		return o
	}
	if all.all == nil {
		all.all = make(map[string]*order)
	}
	if len(all.ages) == maxOrders {
		delete(all.all, all.ages[0])
		all.ages = all.ages[1:]
	}
	o := &order{turn: make(chan struct{}, 1), changed: make(chan struct{})}
	all.all[id] = o
	all.ages = append(all.ages, id)
	return o
}

// order is one order's way so far.
type order struct {
	turn chan struct{} // held by who places it

	mu      sync.Mutex
	history []checkoutv1.Status // never changed in place: watchers read it
	total   int64
	changed chan struct{} // closed, and made anew, when the history grows
}

func final(s checkoutv1.Status) bool {
	return s == checkoutv1.Status_STATUS_CONFIRMED || s == checkoutv1.Status_STATUS_REJECTED
}

// begin starts the history, anew after a rejection.
func (o *order) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.history = nil
	o.grow(checkoutv1.Status_STATUS_RECEIVED)
}

func (o *order) add(s checkoutv1.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.grow(s)
}

func (o *order) confirm(total int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total = total
	o.grow(checkoutv1.Status_STATUS_CONFIRMED)
}

func (o *order) grow(s checkoutv1.Status) {
	o.history = append(o.history, s)
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *order) confirmed() (total int64, yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.history)
	return o.total, n > 0 && o.history[n-1] == checkoutv1.Status_STATUS_CONFIRMED
}

// look returns the history so far and a channel that is closed when it grows.
func (o *order) look() ([]checkoutv1.Status, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.history, o.changed
}
