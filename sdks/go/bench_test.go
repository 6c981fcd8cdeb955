package octomesh_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// BenchmarkUnary echoes 1 KB over a Unix socket, client and server in this process. The columns are those
// of docs/perf: connections and calls in flight. cpu-s/100k is user and system time of both sides.
func BenchmarkUnary(b *testing.B) {
	for _, load := range []struct{ connections, inFlight int }{{1, 1}, {1, 16}, {1, 100}, {4, 100}} {
		b.Run(fmt.Sprintf("%d:%d", load.connections, load.inFlight), func(b *testing.B) {
			_, at := serve(b, echo{say: func(_ context.Context, m *message) (*message, error) { return m, nil }},
				"unix:"+filepath.Join(b.TempDir(), "s"))
			clients := make([]testproto.EchoClient, load.connections)
			for i := range clients {
				clients[i] = testproto.NewEchoClient(dial(b, octomesh.WithDirect(at)))
			}
			payload := make([]byte, 1024)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for i := range load.inFlight {
				wg.Go(func() {
					c := clients[i%len(clients)]
					req := &message{Data: payload}
					for next.Add(1) <= int64(b.N) {
						if _, err := c.Say(context.Background(), req); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric((cpu()-before).Seconds()/float64(b.N)*1e5, "cpu-s/100k")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Of a unary call's allocations four are the messages that client and handler get, one is the handler's
// context. AllocsPerRun counts those of both sides.
func TestAllocationsOfAUnaryCall(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	c := client(t, echo{say: func(_ context.Context, m *message) (*message, error) { return m, nil }})
	req := &message{Data: make([]byte, 1024)}
	call := func() {
		if _, err := c.Say(context.Background(), req); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		call()
	}
	if n := testing.AllocsPerRun(1000, call); n > 6 {
		t.Fatalf("%v allocations a call", n)
	}
}

// BenchmarkBothWays is BenchmarkUnary's first column through what decides between the ways, and measures: a stand-in for the proxy answers.
func BenchmarkBothWays(b *testing.B) {
	for _, permille := range []uint32{1000, 500} {
		b.Run(fmt.Sprint(permille), func(b *testing.B) {
			w := newWays(b, share(permille, 1))
			req := &message{Data: make([]byte, 1024)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Say(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A call that is decided and measured takes no more memory than another.
func TestAllocationsOfACallWithTwoWays(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	w := newWays(t, share(500, 1))
	w.went(t)
	for range 100 {
		w.went(t)
	}
	req := &message{Data: make([]byte, 1024)}
	call := func() {
		if _, err := w.Say(context.Background(), req); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, call); n > 7 { // one more than with one way: the answer's text
		t.Fatalf("%v allocations a call", n)
	}
}
