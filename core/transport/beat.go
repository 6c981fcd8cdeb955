package transport

import "time"

// TickEvery is how often owners of connections look for signs of life (W-LIVE-4).
const TickEvery = 500 * time.Millisecond

// lateAfter is how late a tick may come and still say something of a peer's silence.
const lateAfter = TickEvery / 2

// Beat ticks for the owners of connections. Each tick is due a whole period after the one before was taken: a time.Ticker
// makes up for a late tick by an early one, and then a peer has less time to answer than it is due.
type Beat struct {
	timer *time.Timer
	due   time.Time
}

// NewBeat returns one whose first tick is due after TickEvery.
func NewBeat() *Beat {
	return &Beat{timer: time.NewTimer(TickEvery), due: time.Now().Add(TickEvery)}
}

// C is where ticks come. Take must be called for each.
func (b *Beat) C() <-chan time.Time { return b.timer.C }

// Take notes that a tick has come, and tells whether it came in time. If it did not, this process was not served, or was
// stopped, and the silence of its peers proves nothing.
func (b *Beat) Take() (inTime bool) {
	now := time.Now()
	inTime = now.Sub(b.due) <= lateAfter
	b.due = now.Add(TickEvery)
	b.timer.Reset(TickEvery)
	return inTime
}

// Stop ends the ticks.
func (b *Beat) Stop() { b.timer.Stop() }
