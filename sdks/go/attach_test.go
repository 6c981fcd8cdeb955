package octomesh_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// attached starts a server that serves through a proxy that the test plays.
func attached(t *testing.T, e testproto.EchoServer, opts ...octomesh.ServerOption) (*octomesh.Server, *socket, *raw, chan error) {
	t.Helper()
	at := newSocket(t)
	opts = append([]octomesh.ServerOption{octomesh.WithSocket(at.path), octomesh.WithMode("auto"),
		octomesh.WithApplication("shop"), octomesh.WithEnvironment("test"), quiet}, opts...)
	opts = append(opts, octomesh.WithRegistration(octomesh.Registration{Off: true})) // it would dial, too
	s := octomesh.NewServer("echo", opts...)
	testproto.RegisterEcho(s, e)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	r := at.accept(t)
	if err := s.Ready(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return s, at, r, done
}

func TestServerAttachesToItsProxyAndServes(t *testing.T) {
	var peer octomesh.Peer
	_, _, r, _ := attached(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		peer, _ = octomesh.PeerInfo(ctx)
		return m, nil
	}})
	h := r.hello
	if h.Role != wire.RoleServe || !slices.Equal(h.Targets, []string{"echo"}) || h.Application != "shop" ||
		h.Environment != "test" || h.Instance == "" || h.Incarnation == 0 || h.SDK != "go" {
		t.Fatalf("HELLO is %+v", h)
	}
	head := sayHead()
	head.Caller, head.VerifiedCaller, head.HasVerifiedCaller = []byte("cart"), []byte("cart"), true
	r.request(head, &message{Text: "hi"})
	rh, m := responseOf(t, r.next(t, wire.EventResponse))
	if rh.Status.Code != wire.OK || m.Text != "hi" {
		t.Fatalf("got %+v, %v", rh.Status, m)
	}
	if peer.Application != "cart" || peer.Verified != "cart" || !peer.Proxied {
		t.Fatalf("peer is %+v", peer)
	}
}

func TestServerDialsAnewWhenItsProxyLeavesAndServesTheOldUntilDrained(t *testing.T) {
	_, at, old, _ := attached(t, echo{})
	old.do(func(wc *wire.Conn) { wc.Leave(wire.GoAwayDraining, "restart") })
	next := at.accept(t)
	next.next(t, wire.EventHello)
	for range 3 { // the old connection is served although the new one stands
		old.request(sayHead(), &message{Text: "old"})
		old.next(t, wire.EventResponse)
	}
	next.request(sayHead(), &message{Text: "new"})
	next.next(t, wire.EventResponse)
	old.do(func(wc *wire.Conn) { wc.Drained() })
	old.waitClosed(t)
	next.request(sayHead(), &message{Text: "new"})
	next.next(t, wire.EventResponse)
}

func TestServerAttachesAgainAfterALoss(t *testing.T) {
	_, at, r, _ := attached(t, echo{})
	r.tc.Close()
	next := at.accept(t)
	next.next(t, wire.EventHello)
	next.request(sayHead(), &message{})
	next.next(t, wire.EventResponse)
}

func TestServerThatStopsServesWhatArrivesBeforeDrained(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	s, _, r, done := attached(t, echo{say: func(_ context.Context, m *message) (*message, error) {
		if m.Text == "slow" {
			close(began)
			<-release
		}
		return m, nil
	}})
	r.request(sayHead(), &message{Text: "slow"})
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(within(t, 5*time.Second)) }()
	if ev := r.next(t, wire.EventGoAway); ev.goAway.Code != wire.GoAwayDraining || ev.goAway.Final {
		t.Fatalf("GOAWAY is %+v", ev.goAway)
	}
	r.request(sayHead(), &message{Text: "late"})
	if _, m := responseOf(t, r.next(t, wire.EventResponse)); m.Text != "late" {
		t.Fatalf("got %v", m)
	}
	r.do(func(wc *wire.Conn) { wc.Drained() })
	close(release)
	if _, m := responseOf(t, r.next(t, wire.EventResponse)); m.Text != "slow" {
		t.Fatalf("got %v", m)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.waitClosed(t)
}

func TestServerCutsOffAtTheDrainDeadline(t *testing.T) {
	cancelled := make(chan struct{})
	began := make(chan struct{})
	s, _, r, _ := attached(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		close(began)
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}})
	r.request(sayHead(), &message{})
	<-began
	if err := s.Shutdown(within(t, 50*time.Millisecond)); err == nil {
		t.Fatal("Shutdown says that nothing was cut off")
	}
	<-cancelled
	r.next(t, wire.EventGoAway)
	if ev := r.next(t, wire.EventGoAway); !ev.goAway.Final || ev.goAway.Last != 2 {
		t.Fatalf("the last GOAWAY is %+v", ev.goAway)
	}
}
