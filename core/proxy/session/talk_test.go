package session_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// whim decides about calls by a whim: it forwards to one of the servers, parks for a while, or refuses.
type whim struct {
	*hub
	mu    sync.Mutex
	rnd   *rand.Rand
	seen  map[*session.Call]bool // every call's memory that was ever used
	wakes sync.WaitGroup
}

func (w *whim) serve(c *session.Call, head *wire.RequestHead) {
	w.mu.Lock()
	w.seen[c] = true
	n := w.rnd.IntN(16)
	w.mu.Unlock()
	switch {
	case n < 4:
		c.Park(time.Hour, wire.ReasonProxyUnready)
		w.wakes.Go(c.Resume)
		return
	case n == 4:
		c.Refuse(wire.Refuse(wire.ReasonOverloaded, wire.OriginClientProxy, ""))
		return
	case n == 5:
		w.here(c)
		return
	}
	w.hub.mu.Lock()
	all := slices.Clone(w.serving)
	w.hub.mu.Unlock()
	for i := range all {
		if c.Forward(all[(i+n)%len(all)], head) {
			return
		}
	}
	c.Refuse(wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, "nobody serves"))
}

// here has a call refused by a service of the proxy's own, after it has sent or received something.
func (w *whim) here(c *session.Call) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond) // not all callers send anything
	l := c.Here(ctx)
	w.wakes.Go(func() {
		defer cancel()
		defer l.End(wire.Refuse(wire.ReasonOverloaded, wire.OriginClientProxy, ""))
		_, _ = l.Receive()
	})
}

func TestRandomConversationsLeaveNothingBehind(t *testing.T) {
	for seed := range uint64(10) {
		h := newHub(t, wire.Limits{MaxStreams: 5})
		w := &whim{hub: h, rnd: rand.New(rand.NewPCG(seed, 3)), seen: make(map[*session.Call]bool)}
		h.serve = w.serve
		talk := meshtest.Talk{Target: "t", Dial: func(role wire.Role, limits wire.Limits, on func(*meshtest.Raw, *wire.Event)) (*meshtest.Raw, error) {
			return meshtest.Dial("unix", h.at, wire.Hello{Role: role, Kind: wire.PeerSDK, Targets: []string{"t"}}, limits, on)
		}}
		stop, swept := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(swept)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					h.sweep(h.clock.Now())
				}
			}
		}()
		if err := talk.Run(script(seed)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		close(stop)
		<-swept
		w.wakes.Wait()
		h.each(func(s *session.Session) {
			ends(s)
			if s.OpenCalls() != 0 || s.Streams() != 0 {
				t.Errorf("seed %d: %d calls, %d streams are open", seed, s.OpenCalls(), s.Streams())
			}
		})
		for c := range w.seen {
			if n := session.Refs(c); n != 0 {
				t.Errorf("seed %d: a call has %d references", seed, n)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// ends waits for the end of a session whose peer has closed. An end that comes together with the last bytes is seen at a tick alone.
func ends(s *session.Session) {
	for {
		select {
		case <-s.Done():
			return
		case <-time.After(time.Millisecond):
			s.Tick(false)
		}
	}
}

func script(seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var b []byte
	for len(b) < 400 {
		b = binary.LittleEndian.AppendUint64(b, rnd.Uint64())
	}
	return b
}
