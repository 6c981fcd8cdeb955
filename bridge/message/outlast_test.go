package message_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/wire"
)

// gate is an address before a proxy's: connections to it are made at once, and say nothing until it opens.
type gate struct {
	address string
	opens   chan struct{}
	open    func()
}

func startGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: l.Addr().String(), opens: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opens) })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { g.pass(ctx, nc, to) })
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	return g
}

// pass joins a connection to another one, until either ends.
func (g *gate) pass(ctx context.Context, nc net.Conn, to string) {
	defer func() { _ = nc.Close() }()
	select {
	case <-g.opens:
	case <-ctx.Done():
		return
	}
	other, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close(); _ = other.Close() })
	defer stop()
	var wg sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{nc: other, other: nc} {
		wg.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
	}
	wg.Wait()
}

// leftBehind sends a one-way call that waits in the client's proxy, and ends its connection: when it returns, the proxy has closed it, too.
func leftBehind(t *testing.T) (*bank, *plainMesh, *gate) {
	t.Helper()
	b := startBank(t)
	m := startPlainMesh(t, b.l.Addr().String(), true, message.Config{})
	m.ready(t) // the server's proxy has its connection to the bank
	g := startGate(t, m.server.Address)
	if err := m.client.Endpoints(map[string][]string{"bank": {g.address}}); err != nil {
		t.Fatal(err)
	}
	c := m.dial(t)
	c.send(frame('?', 0, 1, "bank/Wait", "answered")) // of the same connection: it ends with it
	c.send(frame('1', 0, 2, "bank/Note", "one-way"))
	clientsCalls(t, m, 2)
	if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c.nc) // whatever is said of the other call, up to the end
	clientsCalls(t, m, 1)
	return b, m, g
}

// clientsCalls waits until so many calls are open in the client's proxy.
func clientsCalls(t *testing.T, m *plainMesh, want int) {
	t.Helper()
	for until := time.Now().Add(patience); len(m.client.OpenCalls()) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d calls are open, not %d", len(m.client.OpenCalls()), want)
		}
	}
}

func TestAOneWayCallOutlastsItsConnection(t *testing.T) {
	b, m, g := leftBehind(t)
	g.open()
	if name := <-b.came; name != "bank/Note" {
		t.Errorf("%s came", name)
	}
	open(t, m, 0)
}

func TestADrainWaitsForAOneWayCallWhoseConnectionHasEnded(t *testing.T) {
	b, m, g := leftBehind(t)
	cut := make(chan int, 1)
	go func() { cut <- m.client.Drain(context.Background()) }()
	for m.listens() {
		time.Sleep(time.Millisecond)
	}
	g.open()
	if name := <-b.came; name != "bank/Note" {
		t.Errorf("%s came", name)
	}
	if n := <-cut; n != 0 {
		t.Errorf("%d calls were cut off", n)
	}
}

func TestTheEndOfTheProxyEndsAOneWayCall(t *testing.T) {
	_, m, _ := leftBehind(t)
	m.client.Close() // goleak would tell of a session that stays
}

func TestTheDrainDeadlineEndsAOneWayCall(t *testing.T) {
	_, m, _ := leftBehind(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it has passed
	if cut := m.client.Drain(ctx); cut != 1 {
		t.Errorf("%d calls were cut off", cut)
	}
}

// TestWhatIsLostTwiceIsLost holds the machine to it, whatever the session does.
func TestWhatIsLostTwiceIsLost(t *testing.T) {
	c := serving(t, message.Config{})
	var ev wire.Event
	for i, kind := range []byte{'?', '1'} {
		if _, err := c.Feed(frame(kind, 0, uint32(i), "bank/Pay", "x"), &ev); err != nil || ev.Kind != wire.EventRequest {
			t.Fatalf("%v, %v", ev.Kind, err)
		}
		ev.Stream.Call = kind
	}
	for i, kind := range []byte{'?', '1'} {
		if c.Done() {
			t.Error("it is done with a call open")
		}
		c.Lost(false, func(call any, _ wire.Status) {
			if call != kind {
				t.Errorf("%c is lost the %d. time", call, i+1)
			}
		})
	}
	if !c.Done() || c.OpenStreams() != 0 {
		t.Errorf("%d calls are open", c.OpenStreams())
	}
}
