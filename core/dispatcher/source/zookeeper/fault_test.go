package zookeeper_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	"github.com/octomesh/octomesh/core/dispatcher/source/zookeeper"
)

// opcode is an operation of ZooKeeper's protocol, as a request's header has it.
type opcode int32

const (
	opGetChildren opcode = 12
	opMulti       opcode = 14
	opSetAuth     opcode = 100
	opClose       opcode = -11
)

// fate is what becomes of a request.
type fate int

const (
	sent   fate = iota
	failed      // it cannot be written
	lost        // it is written, and never reaches the server, which answers all others
)

// handshake may take so long, which is short to a test and long to a loaded machine.
const handshake = 2 * time.Second

// patience bounds what must not wait for ever; it is there to fail.
const patience = 30 * time.Second

// faults are what a source's connections suffer.
type faults struct {
	address string // connections lead there, whatever the library says

	mu   sync.Mutex
	rule func(opcode) fate // nil: all is sent
	last net.Conn
}

func (f *faults) set(rule func(opcode) fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// one has the next request of a kind suffer.
func (f *faults) one(op opcode, what fate) {
	done := false
	f.set(func(o opcode) fate {
		if o != op || done {
			return sent
		}
		done = true
		return what
	})
}

// cut breaks the connection; another one can be made at once.
func (f *faults) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.last.Close()
}

func (f *faults) dial(network, _ string, timeout time.Duration) (net.Conn, error) {
	f.mu.Lock()
	address := f.address
	f.mu.Unlock()
	c, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = c
	return &faultyConn{Conn: c, faults: f}, nil
}

// source makes one through the faults.
func (f *faults) source(t *testing.T, c zookeeper.Config, answers time.Duration) *zookeeper.Source {
	t.Helper()
	c.Servers = []string{"127.0.0.1:1"}
	s, err := zookeeper.NewThrough(c, f.dial, handshake, answers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closes(t, s) })
	return s
}

type faultyConn struct {
	net.Conn
	faults  *faults
	greeted bool
}

// Write is given one whole request by the library, of which the handshake is the first.
func (c *faultyConn) Write(p []byte) (int, error) {
	c.faults.mu.Lock()
	what := sent
	if c.greeted && c.faults.rule != nil {
		what = c.faults.rule(opcode(int32(binary.BigEndian.Uint32(p[8:])))) // behind the length and the number
	}
	c.greeted = true
	c.faults.mu.Unlock()
	switch what {
	case failed:
		return 0, errors.New("a fault of the test")
	case lost:
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// closes fails the test if a source cannot be closed.
func closes(t *testing.T, s *zookeeper.Source) {
	t.Helper()
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the source cannot be closed")
	}
}

// registers until it can be done, and gives up when it must have been possible long ago.
func registers(t *testing.T, s *zookeeper.Source, instance string, lost func()) {
	t.Helper()
	if err := tryRegister(t.Context(), s, instance, lost); err != nil {
		t.Fatalf("%s cannot be registered: %v", instance, err)
	}
}

func tryRegister(ctx context.Context, s *zookeeper.Source, instance string, lost func()) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.Register(ctx, cart, sourcetest.Endpoint(cart, instance, 1), 0, lost)
		if err == nil || source.KindOf(err) != source.Unavailable || ctx.Err() != nil {
			return err
		}
	}
}

// neverLost is of a registration that has to last.
func neverLost(t *testing.T) func() {
	return func() {
		if t.Context().Err() == nil {
			t.Error("a registration is lost although its session went on")
		}
	}
}

var cart = source.Key{Environment: "test", Target: "shop.cart"}

func TestNothingWaitsForEver(t *testing.T) {
	t.Parallel()
	address := server(t)
	for i, c := range []struct {
		name string
		run  func(*testing.T, *faults, zookeeper.Config)
	}{
		{"AWriteFailsAfterReconnecting", aWriteFailsAfterReconnecting},
		{"TheConnectionBreaksUnderRegistrations", theConnectionBreaksUnderRegistrations},
		{"WritesFailWhileItCloses", writesFailWhileItCloses},
		{"TheEndOfTheSessionIsNotAnswered", theEndOfTheSessionIsNotAnswered},
		{"ATransactionIsNotAnswered", aTransactionIsNotAnswered},
		{"AReadIsNotAnswered", aReadIsNotAnswered},
		{"AHandshakeStopsHalfWay", aHandshakeStopsHalfWay},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The session outlives what is done to its connections.
			c.run(t, &faults{address: address}, zookeeper.Config{Prefix: fmt.Sprintf("/octo/fault-%d", i), Session: 5 * time.Second})
		})
	}
}

// The library sends the credentials again by itself, and could not go on when that failed.
func aWriteFailsAfterReconnecting(t *testing.T, f *faults, c zookeeper.Config) {
	c.User, c.Password = "octo", "secret"
	s := f.source(t, c, patience)
	registers(t, s, "before", neverLost(t))
	f.one(opSetAuth, failed)
	f.cut()
	registers(t, s, "after", neverLost(t))
	if names := instances(t, connect(t, f.address), c); len(names) != 2 {
		t.Errorf("there is %v, want two instances", names)
	}
}

func theConnectionBreaksUnderRegistrations(t *testing.T, f *faults, c zookeeper.Config) {
	const n, atOnce, every = 200, 16, 80 // it breaks after so many transactions
	s := f.source(t, c, patience)
	transactions := 0
	f.set(func(op opcode) fate {
		if op != opMulti {
			return sent
		}
		if transactions++; transactions%every == 0 {
			return failed
		}
		return sent
	})
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := tryRegister(t.Context(), s, fmt.Sprint("i", i), neverLost(t)); err != nil {
				t.Errorf("i%d cannot be registered: %v", i, err)
			}
		})
	}
	wg.Wait()
	if names := instances(t, connect(t, f.address), c); len(names) != n {
		t.Errorf("%d of %d are registered", len(names), n)
	}
}

// Who closes a source has its nodes deleted, so that what watches them asks again, after the end and on a connection
// that breaks. It is a matter of chance whom that held up, so that there are several.
func writesFailWhileItCloses(t *testing.T, f *faults, c zookeeper.Config) {
	const sources, n = 8, 10
	direct := connect(t, f.address)
	var wg sync.WaitGroup
	for i := range sources {
		f, c := &faults{address: f.address}, c
		c.Prefix += fmt.Sprint("-", i)
		s := f.source(t, c, patience)
		for i := range n {
			registers(t, s, fmt.Sprint("i", i), func() {})
		}
		names := instances(t, direct, c)
		closing := make(chan struct{})
		f.set(func(op opcode) fate {
			switch {
			case op == opClose:
				close(closing)
				return lost
			case isClosed(closing):
				return failed
			}
			return sent
		})
		wg.Go(func() { closes(t, s) })
		wg.Go(func() {
			<-closing
			for _, name := range names {
				if err := direct.Delete(target(c)+"/"+name, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func theEndOfTheSessionIsNotAnswered(t *testing.T, f *faults, c zookeeper.Config) {
	s := f.source(t, c, patience)
	registers(t, s, "a", func() {})
	f.one(opClose, lost)
	closes(t, s)
}

func aTransactionIsNotAnswered(t *testing.T, f *faults, c zookeeper.Config) {
	s := f.source(t, c, 2*time.Second)
	registers(t, s, "before", neverLost(t))
	f.one(opMulti, lost)
	_, err := s.Register(t.Context(), cart, sourcetest.Endpoint(cart, "after", 1), 0, func() {})
	if source.KindOf(err) != source.Unavailable || !errors.Is(err, zk.ErrConnectionClosed) {
		t.Errorf("it returned %v", err)
	}
	registers(t, s, "after", neverLost(t))
}

func aReadIsNotAnswered(t *testing.T, f *faults, c zookeeper.Config) {
	s := f.source(t, c, patience)
	registers(t, s, "a", neverLost(t))
	asked := make(chan struct{})
	f.set(func(op opcode) fate {
		if op != opGetChildren || isClosed(asked) {
			return sent
		}
		close(asked)
		return lost
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := s.List(ctx, cart.Environment); !errors.Is(err, context.Canceled) {
		t.Errorf("a list that was cancelled returned %v", err)
	}
	keys, err := s.List(t.Context(), cart.Environment)
	if err != nil || len(keys) != 1 {
		t.Errorf("the next one returned %v, %v", keys, err)
	}
}

// A server that tells how long its answer is and no more holds nothing up: not the next attempt, and not the end.
func aHandshakeStopsHalfWay(t *testing.T, f *faults, c zookeeper.Config) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	defer open.Wait()
	defer listener.Close()
	met := make(chan struct{}, 2)
	open.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{0, 0, 0, 37})
			met <- struct{}{}
			open.Go(func() {
				defer c.Close()
				for buffer := make([]byte, 64); ; {
					if _, err := c.Read(buffer); err != nil {
						return
					}
				}
			})
		}
	})
	whole := f.address
	f.address = listener.Addr().String()
	s, closedAtOnce := f.source(t, c, patience), f.source(t, c, patience)
	<-met
	<-met
	closes(t, closedAtOnce)
	f.mu.Lock()
	f.address = whole
	f.mu.Unlock()
	registers(t, s, "a", func() {})
}

func connect(t *testing.T, address string) *zk.Conn {
	t.Helper()
	c, _, err := zk.Connect([]string{address}, time.Minute, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func target(c zookeeper.Config) string { return source.Layout{Prefix: c.Prefix}.Target(cart) }

// instances are the nodes of what is registered.
func instances(t *testing.T, c *zk.Conn, config zookeeper.Config) []string {
	t.Helper()
	names, _, err := c.Children(target(config))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
