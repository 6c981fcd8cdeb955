package grpc_test

import (
	"bufio"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// cancels has a client cancel so many calls, each as soon as it is opened, wait until the proxy has seen all, and leave.
func cancels(t *testing.T, m *mesh, calls uint32) {
	t.Helper()
	h := dialHostile(t, m.tcp)
	w := bufio.NewWriterSize(h.Conn, 32<<10)
	fast := &hostile{Conn: h.Conn, Framer: http2.NewFramer(w, nil), block: h.block}
	var err error
	for n := uint32(0); err == nil && n < calls; n++ {
		err = rapidReset(fast, 2*n+1)
	}
	if err == nil {
		_ = fast.WritePing(false, [8]byte{'a', 'l', 'l'})
		err = w.Flush()
	}
	for err == nil {
		var f http2.Frame
		if f, err = h.ReadFrame(); err == nil {
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
				break
			}
		}
	}
	if err != nil {
		t.Errorf("a client that cancels %d calls: %v", calls, err)
	}
	_ = h.Close()
}

// TestClientsThatResetTogetherHarmNobodyElse: each cancels as much as one may, leaves, and comes again at once. What they cancel goes over links
// that the calls of others share, whose receivers close them for too many RESETs (W-FLOW-13): the proxies hold back (W-FLOW-14).
func TestClientsThatResetTogetherHarmNobodyElse(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{})
	good := dial(t, m.tcp, nil)
	if _, err := do(within(t), good, []byte("x")); err != nil {
		t.Fatal(err)
	}
	const clients, times = 6, 6
	var over atomic.Int32
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			defer over.Add(1)
			for range times {
				cancels(t, m, 900)
			}
		})
	}
	for n := 0; over.Load() < clients; n++ {
		if _, err := do(within(t), good, []byte("x")); err != nil {
			t.Errorf("call %d of another client: %v", n, err)
			break
		}
	}
	all.Wait()
	out, err := do(within(t), good, []byte("after them"))
	if err != nil || string(out) != "after them" {
		t.Errorf("after them: %q, %v", out, err)
	}
}
