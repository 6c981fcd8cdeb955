package grpc_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// gate is a way to a server that can be shut: what comes then stays where it is.
type gate struct {
	address string
	mu      sync.RWMutex // held while it is shut
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
			all.Go(func() { defer func() { _, _ = in.Close(), out.Close() }(); _, _ = io.Copy(in, out) })
			all.Go(func() {
				defer func() { _, _ = in.Close(), out.Close() }()
				for b := make([]byte, 16<<10); ; {
					n, err := in.Read(b)
					g.mu.RLock()
					_, werr := out.Write(b[:n])
					g.mu.RUnlock()
					if err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return g
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
	g.mu.Lock()
	open := sync.OnceFunc(g.mu.Unlock)
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
