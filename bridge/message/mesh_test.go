package message_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	// speaks is the name of the plain protocol in the tests' proxies: Dials says what it means.
	speaks = resourcev1.Protocol_PROTOCOL_GRPC
)

// read reads one frame; nil: the connection has ended.
func read(r *bufio.Reader) (kind, code byte, id uint32, name, payload string, err error) {
	var h [plainHead]byte
	if _, err = io.ReadFull(r, h[:]); err != nil {
		return 0, 0, 0, "", "", err
	}
	rest := make([]byte, binary.BigEndian.Uint32(h[:])+4-plainHead)
	if _, err = io.ReadFull(r, rest); err != nil {
		return 0, 0, 0, "", "", err
	}
	return h[4], h[5], binary.BigEndian.Uint32(h[6:]), string(rest[:h[10]]), string(rest[h[10]:]), nil
}

// bank is a server of the plain protocol. It echoes; to "bank/Fail" it answers with an error, to "bank/Wait" when it may.
type bank struct {
	l    net.Listener
	wg   sync.WaitGroup
	may  chan struct{}
	came chan string // names of requests that do not echo

	mu    sync.Mutex
	conns []net.Conn
}

func startBank(t *testing.T) *bank {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{l: l, may: make(chan struct{}), came: make(chan string, 1024)}
	b.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, nc)
			b.mu.Unlock()
			b.wg.Go(func() { b.serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.kill()
		b.wg.Wait()
	})
	return b
}

// kill ends all connections.
func (b *bank) kill() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, nc := range b.conns {
		_ = nc.Close()
	}
	n, b.conns = len(b.conns), nil
	return n
}

func (b *bank) serve(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	ended := make(chan struct{})
	defer close(ended)
	var mu sync.Mutex
	answer := func(code byte, id uint32, payload string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = nc.Write(frame('!', code, id, "", payload))
	}
	r := bufio.NewReader(nc)
	for {
		_, _, id, name, payload, err := read(r)
		if err != nil {
			return
		}
		switch name {
		case "bank/Note", "bank/Silent":
			b.came <- name
		case "bank/Fail":
			answer(9, id, "no funds")
		case "bank/Wait":
			b.came <- name
			b.wg.Go(func() {
				select {
				case <-b.may:
					answer(0, id, payload)
				case <-ended:
				}
			})
		default:
			answer(0, id, payload)
		}
	}
}

// plainMesh is a client's proxy, where clients of the plain protocol come in, and the proxy of a bank.
type plainMesh struct {
	client, server *meshtest.Proxy
	address        string
}

func startPlainMesh(t *testing.T, at string, multiplexed bool, cfg message.Config) *plainMesh {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Codec, cfg.Environment, cfg.Application = plain{multiplexed: true}, meshtest.Environment, "stock"
	m := &plainMesh{address: l.Addr().String()}
	m.client = startProxy(t, proxy.Config{
		Entrances: []proxy.Entrance{{Listener: l, Protocols: []session.Protocol{&message.Protocol{Config: cfg}}}},
	})
	m.server = startProxy(t, proxy.Config{
		Dials: map[resourcev1.Protocol]session.Protocol{
			speaks: &message.Protocol{Config: message.Config{Codec: plain{multiplexed: multiplexed}}},
		},
		Servers: []proxy.Server{{
			Application: "bank", Instance: "bank-1", Targets: []string{"bank"}, Address: at, Protocol: speaks,
		}},
	})
	if err := m.server.Endpoints(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.client.Endpoints(map[string][]string{"bank": {m.server.Address}, "sdk": {m.server.Address}}); err != nil {
		t.Fatal(err)
	}
	return m
}

func startProxy(t *testing.T, cfg proxy.Config) *meshtest.Proxy {
	t.Helper()
	p, err := meshtest.StartProxy(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// listens tells whether the client's proxy takes connections.
func (m *plainMesh) listens() bool {
	nc, err := net.Dial("tcp", m.address)
	if err == nil {
		_ = nc.Close()
	}
	return err == nil
}

// caller is one connection of a client's.
type caller struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func (m *plainMesh) dial(t *testing.T) *caller {
	t.Helper()
	nc, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &caller{t, nc, bufio.NewReader(nc)}
}

func (c *caller) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads an answer.
func (c *caller) answer(id uint32) (code byte, payload string) {
	c.t.Helper()
	kind, code, got, _, payload, err := read(c.r)
	if err != nil || kind != '!' || got != id {
		c.t.Fatalf("%q with id %d, and %d was asked: %q, %v", kind, got, id, payload, err)
	}
	return code, payload
}

// call calls until the bank is reached.
func (c *caller) call(id uint32, name, payload string) (code byte, got string) {
	c.t.Helper()
	c.send(frame('?', 0, id, name, payload))
	return c.answer(id)
}

// ended waits for the end of the connection.
func (c *caller) ended() {
	c.t.Helper()
	if _, _, _, _, _, err := read(c.r); err == nil || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("the connection goes on: %v", err)
	}
}

// ready waits until the bank is an instance.
func (m *plainMesh) ready(t *testing.T) *caller {
	t.Helper()
	c := m.dial(t)
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if code, why := c.call(1, "bank/Pay", "x"); code == 0 {
			return c
		} else if time.Now().After(until) {
			t.Fatal(why)
		}
	}
}

// both runs a test with a server of each kind.
func both(t *testing.T, test func(t *testing.T, b *bank, m *plainMesh)) {
	for _, multiplexed := range []bool{false, true} {
		t.Run(fmt.Sprintf("multiplexed=%v", multiplexed), func(t *testing.T) {
			b := startBank(t)
			test(t, b, startPlainMesh(t, b.l.Addr().String(), multiplexed, message.Config{}))
		})
	}
}

func TestCallsPassWithTheirOwnIDs(t *testing.T) {
	both(t, func(t *testing.T, _ *bank, m *plainMesh) {
		c := m.ready(t)
		for _, id := range []uint32{0, 7, 7, 1<<32 - 1} {
			if code, got := c.call(id, "bank/Pay", "ten"); code != 0 || got != "ten" {
				t.Fatalf("%d %q", code, got)
			}
		}
		if code, got := c.call(8, "bank/Fail", ""); code != 9 || got != "no funds" {
			t.Errorf("the error came as %d %q", code, got)
		}
		for _, size := range []int{0, 60 << 10, 64 << 10, 900 << 10} {
			if code, got := c.call(9, "bank/Pay", strings.Repeat("y", size)); code != 0 || len(got) != size {
				t.Errorf("%d bytes came back as %d, code %d", size, len(got), code)
			}
		}
		c.send(frame('h', 0, 4, "", ""))
		if kind, _, id, _, _, err := read(c.r); kind != 'H' || id != 4 || err != nil {
			t.Errorf("the heartbeat is answered by %q %d, %v", kind, id, err)
		}
	})
}

func TestManyCallsAtOnce(t *testing.T) {
	both(t, func(t *testing.T, _ *bank, m *plainMesh) {
		m.ready(t)
		const clients, each = 8, 64
		var wg sync.WaitGroup
		for k := range clients {
			c := m.dial(t)
			wg.Go(func() {
				var all []byte
				for i := range each {
					all = append(all, frame('?', 0, uint32(i), "bank/Pay", fmt.Sprint(k, i))...)
				}
				if _, err := c.nc.Write(all); err != nil {
					t.Error(err)
				}
				for range each {
					_, code, id, _, payload, err := read(c.r)
					if err != nil || code != 0 || payload != fmt.Sprint(k, id) {
						t.Errorf("client %d: call %d is answered %d %q, %v", k, id, code, payload, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestCallsThatWaitHoldUpNoOthers(t *testing.T) {
	both(t, func(t *testing.T, b *bank, m *plainMesh) {
		c := m.ready(t)
		const slow = 200
		for id := range uint32(slow) {
			c.send(frame('?', 0, id, "bank/Wait", "slow"))
		}
		for range slow {
			<-b.came
		}
		if code, got := m.dial(t).call(1, "bank/Pay", "quick"); code != 0 || got != "quick" {
			t.Errorf("%d %q", code, got)
		}
		const more = 100 // than connections may be made where each carries one
		for id := range uint32(more) {
			c.send(frame('?', 0, slow+id, "bank/Wait", "slow"))
		}
		close(b.may)
		for range slow + more {
			if _, code, _, _, got, err := read(c.r); code != 0 || got != "slow" || err != nil {
				t.Fatalf("%d %q, %v", code, got, err)
			}
		}
	})
}

func TestOneWayCallsAreSentAndEnd(t *testing.T) {
	both(t, func(t *testing.T, b *bank, m *plainMesh) {
		c := m.ready(t)
		for range 3 {
			c.send(frame('1', 0, 5, "bank/Note", "x"))
			<-b.came
		}
		if code, _ := c.call(6, "bank/Pay", "x"); code != 0 { // what was not answered is in nobody's way
			t.Errorf("code %d", code)
		}
		open(t, m, 0)
		last := m.dial(t) // who sends one and goes has sent it
		last.send(frame('1', 0, 5, "bank/Note", "x"))
		_ = last.nc.Close()
		<-b.came
	})
}

// open waits until so many calls are open in both proxies.
func open(t *testing.T, m *plainMesh, want int) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		n, k := len(m.client.OpenCalls()), len(m.server.OpenCalls())
		if n == want && k == want {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d and %d calls are open", n, k)
		}
	}
}

func TestTheMeshsErrorsSayWhoseTheyAre(t *testing.T) {
	b := startBank(t)
	m := startPlainMesh(t, b.l.Addr().String(), true, message.Config{MaxCalls: 2, Targets: map[string]string{"old": "bank"}})
	c := m.ready(t)
	if code, got := c.call(1, "old/Pay", "x"); code != 0 {
		t.Errorf("a service with a target: %q", got)
	}
	if code, got := c.call(1, "nobody/Pay", "x"); code == 0 || !strings.Contains(got, "octo: CLIENT_PROXY") || !strings.Contains(got, "nobody") {
		t.Errorf("%d %q", code, got)
	}
	if code, got := c.call(2, "/", "x"); code != 12 || !strings.Contains(got, "octo: BRIDGE") {
		t.Errorf("%d %q", code, got)
	}
	for id := range uint32(3) {
		c.send(frame('?', 0, id, "bank/Wait", "x"))
	}
	if code, got := c.answer(2); code != 8 || !strings.Contains(got, "too many calls") {
		t.Errorf("%d %q", code, got)
	}
	close(b.may)
	for range 2 {
		if _, code, _, _, _, err := read(c.r); code != 0 || err != nil {
			t.Errorf("%d, %v", code, err)
		}
	}
}

var quiet = octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

func TestAnotherProtocolsInstanceIsAClearError(t *testing.T) {
	b := startBank(t)
	m := startPlainMesh(t, b.l.Addr().String(), true, message.Config{})
	c := m.ready(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	ch, err := octomesh.Dial("bank", octomesh.WithApplication("web"), octomesh.WithEnvironment(meshtest.Environment), octomesh.WithInstance("web-1"), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(m.client.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ch.Close() }()
	method := octomesh.Method{Service: "bank", Name: "Pay", Kind: octomesh.Unary}
	_, err = octomesh.CallUnary[wrapperspb.BytesValue, wrapperspb.BytesValue](ctx, ch, &method, wrapperspb.Bytes([]byte("x")), nil)
	if octomesh.CodeOf(err) != octomesh.Unimplemented || !strings.Contains(err.Error(), "speaks plain") {
		t.Errorf("an SDK that calls a plain server: %v", err)
	}

	s := octomesh.NewServer("sdk", octomesh.WithApplication("sdk"), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(m.server.Socket))
	s.RegisterService(octomesh.ServiceDesc{Name: "sdk", Methods: []octomesh.MethodDesc{{
		Method:  octomesh.Method{Service: "sdk", Name: "Pay", Kind: octomesh.Unary},
		Handler: octomesh.UnaryHandler(func(_ context.Context, m *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) { return m, nil }),
	}}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if code, got := c.call(3, "sdk/Pay", "x"); code != 12 || !strings.Contains(got, "UNKNOWN_CONTENT_TYPE") {
		t.Errorf("a plain client that calls an SDK's service: %d %q", code, got)
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-done
}

func TestACallerThatGoesEndsItsCall(t *testing.T) {
	both(t, func(t *testing.T, b *bank, m *plainMesh) {
		c := m.ready(t)
		gone := m.dial(t)
		gone.send(frame('?', 0, 1, "bank/Wait", "late"))
		<-b.came
		_ = gone.nc.Close()
		open(t, m, 0)
		b.may <- struct{}{} // the answer that nobody waits for
		for range 20 {
			if code, got := c.call(1, "bank/Pay", "mine"); code != 0 || got != "mine" {
				t.Fatalf("the next call is answered %d %q", code, got)
			}
		}
	})
}

func TestALostServerIsAnErrorAndDialedAgain(t *testing.T) {
	both(t, func(t *testing.T, b *bank, m *plainMesh) {
		c := m.ready(t)
		c.send(frame('?', 0, 1, "bank/Silent", "x"))
		<-b.came
		b.kill()
		if code, got := c.answer(1); code != 14 || !strings.Contains(got, "CONNECTION_LOST") {
			t.Errorf("%d %q", code, got)
		}
		m.ready(t)
	})
}

func TestBytesOfNoProtocolEndTheConnection(t *testing.T) {
	b := startBank(t)
	m := startPlainMesh(t, b.l.Addr().String(), true, message.Config{})
	for name, bad := range map[string][]byte{
		"length over the limit": bytes.Repeat([]byte{0, 0xff}, 100), "unknown kind": append(frame('?', 0, 1, "bank/Pay", ""), frame('x', 0, 1, "", "")...),
		"an answer": append(frame('?', 0, 1, "bank/Pay", ""), frame('!', 0, 1, "", "")...),
	} {
		t.Run(name, func(t *testing.T) {
			m.ready(t)
			c := m.dial(t)
			c.send(bad)
			for {
				if _, _, _, _, _, err := read(c.r); err != nil {
					return
				}
			}
		})
	}
}

func TestADrainLosesNoCall(t *testing.T) {
	both(t, func(t *testing.T, b *bank, m *plainMesh) {
		idle, c := m.ready(t), m.dial(t)
		c.send(frame('?', 0, 1, "bank/Wait", "slow"))
		<-b.came
		cut := make(chan int, 1)
		go func() { cut <- m.client.Drain(context.Background()) }()
		for m.listens() { // no more: it leaves
			time.Sleep(time.Millisecond)
		}
		if code, got := idle.call(2, "bank/Pay", "still"); code != 0 || got != "still" {
			t.Errorf("a call on a connection that stands: %d %q", code, got)
		}
		close(b.may)
		if code, got := c.answer(1); code != 0 || got != "slow" {
			t.Errorf("the call that was open: %d %q", code, got)
		}
		idle.ended()
		c.ended()
		if n := <-cut; n != 0 {
			t.Errorf("%d calls were cut off", n)
		}
	})
}
