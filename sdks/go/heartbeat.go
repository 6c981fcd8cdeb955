package octomesh

import (
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

const (
	handshakeTimeout = 2 * time.Second
	// linger is how long last words may take to be read before the socket closes.
	linger = time.Second
)

// pulse is what the owner of a connection has to say about its liveness, and wants to know of it. missed, ticked and gone may be nil.
type pulse struct {
	waiting func() bool // a unary call waits; called with the connection locked
	missed  func()      // a sign of life is overdue
	ticked  func()      // the connection has had its tick; it is locked
	gone    func()      // the connection is given up; it ends next
}

// heartbeat asks a silent peer for a sign of life and closes the connection of one that is gone.
func heartbeat(tc *transport.Conn, wc *wire.Conn, p pulse, stop <-chan struct{}) {
	beat := transport.NewBeat()
	defer beat.Stop()
	tc.Probe() // from here on reads may be short: each tick looks for an end that they missed
	var live wire.Liveness
	var seen uint64
	for n := uint64(1); ; n++ {
		select {
		case <-stop:
			return
		case <-beat.C():
		}
		inTime := beat.Take()
		now := tc.Received()
		if now == seen {
			tc.Probe()
		}
		tc.Lock()
		wc.Tick()
		if p.ticked != nil {
			p.ticked()
		}
		if tc.Trim() {
			wc.Trim()
		}
		if !wc.Ready() {
			tc.Unlock()
			continue
		}
		verdict := live.Tick(now != seen, inTime && tc.Drained(), p.waiting())
		seen = now
		if verdict == wire.SendPing {
			wc.Ping(n)
		}
		tc.FlushUnlock()
		switch {
		case verdict == wire.Gone:
			if p.gone != nil {
				p.gone()
			}
			tc.Close()
		case live.Missed() && p.missed != nil:
			p.missed()
		}
	}
}
