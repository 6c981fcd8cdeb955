package grpc_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gate is a way to a server that can be shut: what comes then stays where it is.
type gate struct {
	address string
	to, fro sync.RWMutex // held while that direction is shut
}

func startGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			_ = in.(*net.TCPConn).SetReadBuffer(64 << 10)
			all.Go(func() { pass(out, in, &g.to) })
			all.Go(func() { pass(in, out, &g.fro) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return g
}

// pass passes on what comes, while nobody holds the lock, until either end ends.
func pass(to, from net.Conn, shut *sync.RWMutex) {
	defer func() { _, _ = to.Close(), from.Close() }()
	for b := make([]byte, 16<<10); ; {
		n, err := from.Read(b)
		shut.RLock()
		_, werr := to.Write(b[:n])
		shut.RUnlock()
		if err != nil || werr != nil {
			return
		}
	}
}

// TestAServerThatStandsStillForAMomentCostsNoCall: 240 calls of 64 KiB wait for it then, nearly as much
// as a server with wide windows lets one connection hold.
func TestAServerThatStandsStillForAMomentCostsNoCall(t *testing.T) {
	s := startStockAt(t, "127.0.0.1:0", nil, grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(16<<20), grpc.MaxConcurrentStreams(1000))
	g := startGate(t, s.address)
	m := startServed(t, g.address)
	m.registered(t, true)
	cc := dial(t, "unix:"+m.client.Socket, nil)
	ctx := within(t)
	if _, err := do(ctx, cc, []byte("warm")); err != nil {
		t.Fatal(err)
	}
	const calls, size = 240, 64 << 10
	g.to.Lock()
	open := sync.OnceFunc(g.to.Unlock)
	defer open()
	ended := make(chan error, calls)
	body := make([]byte, size)
	for range calls {
		go func() {
			_, err := do(ctx, cc, body)
			ended <- err
		}()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	left := calls
	for left == calls && len(m.servers[0].OpenCalls()) < calls {
		select {
		case err := <-ended:
			left--
			t.Errorf("while nothing gets through a call ended: %v", err)
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
	open()
	for range left {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestAnswersThatComeTooLateCostNoOtherCall: a server answers hundreds of calls that are cancelled before their answers arrive. What comes of
// them is nobody's, and the connection's other calls go on.
func TestAnswersThatComeTooLateCostNoOtherCall(t *testing.T) {
	const calls = 600
	var given atomic.Int64
	answer, stay := make(chan struct{}), make(chan struct{})
	s := startStockAt(t, "127.0.0.1:0", func(_ context.Context, in *msg) (*msg, error) {
		if string(in.Value) == "stays" {
			<-stay
			return in, nil
		}
		<-answer
		given.Add(1)
		return in, nil
	})
	g := startGate(t, s.address)
	m := startServed(t, g.address)
	m.registered(t, true)
	cc := dial(t, "unix:"+m.client.Socket, nil)
	ctx := within(t)
	some, cancel := context.WithCancel(ctx)
	defer cancel()
	stays, late := make(chan error, 1), make(chan error, calls)
	go func() {
		_, err := do(ctx, cc, []byte("stays"))
		stays <- err
	}()
	for range calls {
		go func() {
			_, err := do(some, cc, []byte("late"))
			late <- err
		}()
	}
	eventually(ctx, t, func() bool { return s.calls.Load() == calls+1 })
	g.fro.Lock()
	open := sync.OnceFunc(g.fro.Unlock)
	defer open()
	close(answer)
	eventually(ctx, t, func() bool { return given.Load() == calls })
	cancel()
	for range calls {
		if err := <-late; status.Code(err) != codes.Canceled {
			t.Errorf("a call that was cancelled ended: %v", err)
		}
	}
	eventually(ctx, t, func() bool { return len(m.servers[0].OpenCalls()) == 1 }) // the server's proxy has given them up, too
	open()
	close(stay)
	if err := <-stays; err != nil {
		t.Errorf("the call that was not cancelled ended: %v", err)
	}
}

// eventually waits until something is so.
func eventually(ctx context.Context, t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}
