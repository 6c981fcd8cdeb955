package octomesh_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// counting is a server that counts its calls.
func counting(t *testing.T, n *atomic.Int64) string {
	_, at := serve(t, echo{say: func(_ context.Context, m *message) (*message, error) { n.Add(1); return m, nil }}, "127.0.0.1:0")
	return at
}

func TestDirectCallsSpreadByWeightAndLeaveOutTheDead(t *testing.T) {
	var a, b, none atomic.Int64
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	ch := dial(t, octomesh.WithDirectEndpoints(octomesh.Endpoint{Address: counting(t, &a), Weight: 1},
		octomesh.Endpoint{Address: counting(t, &b), Weight: 1}, octomesh.Endpoint{Address: counting(t, &none)},
		octomesh.Endpoint{Address: dead.Addr().String(), Weight: 1}))
	c := testproto.NewEchoClient(ch)
	for range 300 {
		if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
			t.Fatal(err)
		}
	}
	if a.Load() < 60 || b.Load() < 60 || none.Load() != 0 {
		t.Fatal(a.Load(), b.Load(), none.Load())
	}
}

func TestDirectCallsAvoidTheBusy(t *testing.T) {
	var quick atomic.Int64
	release := make(chan struct{})
	_, busy := serve(t, echo{say: func(_ context.Context, m *message) (*message, error) {
		if m.Text == "slow" {
			<-release
		}
		return m, nil
	}}, "127.0.0.1:0")
	ch := dial(t, octomesh.WithDirect(busy, counting(t, &quick)))
	c := testproto.NewEchoClient(ch)
	for range 10 { // some of them hang in the busy one
		start(c.Say, "slow")
	}
	time.Sleep(50 * time.Millisecond)
	before := quick.Load()
	for range 50 {
		if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := quick.Load() - before; n != 50 {
		t.Fatalf("%d of 50 went to the idle one", n)
	}
	close(release)
}

func TestRestartedServerIsCalledAgain(t *testing.T) {
	at := "unix:" + filepath.Join(t.TempDir(), "s")
	ch := dial(t, octomesh.WithDirect(at))
	c := testproto.NewEchoClient(ch)
	for range 2 {
		t.Run("run", func(t *testing.T) {
			serve(t, echo{}, at)
			if _, err := c.Say(within(t, 5*time.Second), &message{}, octomesh.WaitForReady()); err != nil {
				t.Fatal(err)
			}
			if err := ch.Ready(within(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Setenv("OCTO_SOCKET", "")
	t.Setenv("OCTO_MODE", "")
	long := octomesh.WithSocket("/" + strings.Repeat("p", 107))
	for name, opts := range map[string][]octomesh.DialOption{
		"nowhere to go":      nil,
		"path over 107":      {long},
		"on without socket":  {octomesh.WithMode("on"), octomesh.WithDirect("127.0.0.1:1")},
		"unknown mode":       {octomesh.WithMode("maybe"), octomesh.WithDirect("127.0.0.1:1")},
		"address":            {octomesh.WithDirect("nowhere")},
		"negative weight":    {octomesh.WithDirectEndpoints(octomesh.Endpoint{Address: "127.0.0.1:1", Weight: -1})},
		"direct path length": {octomesh.WithDirect("unix:/" + strings.Repeat("p", 107))},
	} {
		if ch, err := octomesh.Dial("echo", opts...); err == nil {
			_ = ch.Close()
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := octomesh.Dial("", octomesh.WithDirect("127.0.0.1:1")); err == nil {
		t.Error("a target without a name")
	}
	for name, s := range map[string]*octomesh.Server{
		"nowhere":  octomesh.NewServer("echo"),
		"path":     octomesh.NewServer("echo", long),
		"address":  octomesh.NewServer("echo", octomesh.WithListen("nowhere")),
		"no name":  octomesh.NewServer("", octomesh.WithListen("127.0.0.1:0")),
		"occupied": octomesh.NewServer("echo", octomesh.WithListen("203.0.113.1:1")),
	} {
		if err := s.Serve(context.Background()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEnvironmentOfTheProcess(t *testing.T) {
	at := newSocket(t)
	t.Setenv("OCTO_SOCKET", at.path)
	t.Setenv("OCTO_APPLICATION", "cart")
	t.Setenv("OCTO_ENVIRONMENT", "stage")
	ch, err := octomesh.Dial("echo")
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	ready := make(chan error, 1)
	go func() { ready <- ch.Ready(within(t, 5*time.Second)) }()
	r := at.accept(t)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	if h := r.hello; h.Application != "cart" || h.Environment != "stage" {
		t.Fatalf("HELLO is %+v", h)
	}
	t.Setenv("OCTO_MODE", "off")
	if _, err := octomesh.Dial("echo"); err == nil {
		t.Fatal("a channel that is off, without endpoints")
	}
}
