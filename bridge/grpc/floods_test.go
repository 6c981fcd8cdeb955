package grpc_test

import (
	"bufio"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// floods are frames that cost their sender next to nothing, the n-th of each; n is odd, as a client's streams are.
var floods = map[string]func(h *hostile, n uint32) error{
	"SETTINGS": func(h *hostile, n uint32) error {
		return h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n})
	},
	"PINGs whose answers are read": func(h *hostile, n uint32) error { return h.WritePing(false, [8]byte{byte(n)}) },
	"PRIORITY":                     func(h *hostile, n uint32) error { return h.WritePriority(n, http2.PriorityParam{Weight: byte(n)}) },
	"frames of an unknown type":    func(h *hostile, n uint32) error { return h.WriteRawFrame(99, 0, n, []byte("unknown")) },
	"empty DATA":                   onFirst(func(h *hostile) error { return h.WriteData(1, false, nil) }),
	"WINDOW_UPDATE of a stream":    onFirst(func(h *hostile) error { return h.WriteWindowUpdate(1, 1) }),
	"WINDOW_UPDATE":                func(h *hostile, _ uint32) error { return h.WriteWindowUpdate(0, 1) },
	"RST_STREAM of an ended stream": onFirst(func(h *hostile) error {
		return h.WriteRSTStream(1, http2.ErrCodeCancel)
	}),
	"rapid reset": rapidReset,
	"DATA of an ended stream": func(h *hostile, n uint32) error {
		if n == 1 {
			if err := h.open(1); err != nil {
				return err
			}
			return h.WriteRSTStream(1, http2.ErrCodeCancel)
		}
		return h.WriteData(1, false, []byte("late"))
	},
	"empty HEADERS": func(h *hostile, n uint32) error {
		return h.WriteHeaders(http2.HeadersFrameParam{StreamID: n, EndHeaders: true, EndStream: true})
	},
}

func rapidReset(h *hostile, id uint32) error {
	if err := h.open(id); err != nil {
		return err
	}
	return h.WriteRSTStream(id, http2.ErrCodeCancel)
}

// onFirst opens a call first.
func onFirst(write func(h *hostile) error) func(*hostile, uint32) error {
	return func(h *hostile, n uint32) error {
		if n == 1 {
			return h.open(1)
		}
		return write(h)
	}
}

// flood writes frames as fast as the proxy takes them, and reads what it answers. It has to be told that it is too much.
func flood(t *testing.T, m *mesh, write func(h *hostile, n uint32) error) {
	t.Helper()
	h := dialHostile(t, m.tcp)
	ended := make(chan bool, 1)
	go func() { ended <- h.calmed() }()
	w := bufio.NewWriterSize(h.Conn, 32<<10)
	fast := &hostile{Conn: h.Conn, Framer: http2.NewFramer(w, nil), block: h.block}
	fast.AllowIllegalWrites = true
	var err error
	for n := uint32(1); err == nil && n < 1<<22; n += 2 {
		err = write(fast, n)
	}
	if err == nil || !<-ended {
		t.Errorf("two million of them are taken: %v", err)
	}
}

// oneClient is what the process may hold more because of one client: 4 MiB of output that waits for it (h2's bound), as much that is being
// written, and 2 MiB for what arrives, the windows of its streams, and the test's own buffers.
const oneClient = 10 << 20

// watch is another client's calls, and what the process holds after each of them.
type watch struct {
	t            *testing.T
	good         *grpc.ClientConn
	before, peak int64
	calls        atomic.Int32
}

func watched(t *testing.T, good *grpc.ClientConn) *watch {
	return &watch{t: t, good: good, before: heap()}
}

// during makes calls while attack runs, one at least; each has to pass.
func (w *watch) during(attack func()) {
	w.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := do(within(w.t), w.good, []byte("x")); err != nil {
				w.t.Errorf("call %d of another client meanwhile: %v", w.calls.Load()+1, err)
				return
			}
			w.peak = max(w.peak, heap()-w.before)
			w.calls.Add(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	attack()
	close(stop)
	<-done
}

// held checks the peak.
func (w *watch) held(most int64) {
	w.t.Helper()
	if w.peak > most {
		w.t.Errorf("the process held %d KiB more at its peak, want at most %d", w.peak>>10, most>>10)
	}
	w.t.Logf("%d KiB more at the peak of %d samples", w.peak>>10, w.calls.Load())
}

// heap is what is in use: what a collection, run for it, has found.
func heap() int64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64())
}
