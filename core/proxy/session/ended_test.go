package session_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// A server that reads nothing leaves what was sent to it behind: none of it stays with the session that has ended.
func TestSessionThatHasEndedHoldsNoOutput(t *testing.T) {
	h := newHub(t, wire.Limits{})
	stop := make(chan struct{})
	r, err := meshtest.Dial("unix", h.at, wire.Hello{Role: wire.RoleServe, Kind: wire.PeerSDK, Targets: []string{"t"}}, wire.Limits{},
		func(_ *meshtest.Raw, ev *wire.Event) {
			if ev.Kind == wire.EventRequest {
				<-stop
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { close(stop); r.Close(); <-r.Done() }()
	up, c := h.up(0), h.caller()
	body := string(make([]byte, 60_000))
	for range 100 {
		c.call(t, body)
	}
	waitFor(t, "output that waits", func() bool { return session.Queued(up) > 1<<20 })
	up.Kill()
	<-up.Done()
	if n := session.Queued(up); n > 0 {
		t.Errorf("%d bytes are held", n)
	}
}
