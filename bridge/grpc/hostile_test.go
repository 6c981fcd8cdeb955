package grpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// hostile is a connection that speaks HTTP/2 as it likes.
type hostile struct {
	net.Conn
	*http2.Framer
	block []byte // of a request for a call of every kind
}

func dialHostile(t *testing.T, address string, settings ...http2.Setting) *hostile {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	h := &hostile{Conn: nc, Framer: http2.NewFramer(nc, nc), block: block("/" + service + "/Chat")}
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return h
}

func block(path string, more ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "a", "content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
	}
	return b.Bytes()
}

func (h *hostile) open(id uint32) error {
	return h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block, EndHeaders: true})
}

// calmed reads until the proxy ends the connection, and tells whether it said that it was for too much.
func (h *hostile) calmed() bool {
	for {
		f, err := h.ReadFrame()
		if err != nil {
			return false
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode == http2.ErrCodeEnhanceYourCalm {
			return true
		}
	}
}

// endlessBlock begins a header block that never ends.
func endlessBlock(t *testing.T, m *mesh) {
	t.Helper()
	h := dialHostile(t, m.tcp)
	ended := make(chan bool, 1)
	go func() { ended <- h.calmed() }()
	err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block})
	for n := 0; err == nil && n < 1<<17; n++ {
		err = h.WriteContinuation(1, false, nil)
	}
	if err == nil || !<-ended {
		t.Errorf("a header block may have %d frames: %v", 1<<17, err)
	}
}

// oversizeLists sends requests with too long header lists.
func oversizeLists(t *testing.T, m *mesh) {
	t.Helper()
	h := dialHostile(t, m.tcp)
	h.SetMaxReadFrameSize(1 << 20)
	h.block = block("/"+service+"/Do", "large", string(bytes.Repeat([]byte("x"), 70<<10)))
	answered := 0
	for id := uint32(1); id < 200; id += 2 {
		first := true
		for rest := h.block; len(rest) > 0; first = false {
			part := rest[:min(len(rest), 16<<10)]
			rest = rest[len(part):]
			if first {
				_ = h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: len(rest) == 0, EndStream: true})
			} else if err := h.WriteContinuation(id, len(rest) == 0, part); err != nil {
				t.Fatal(err)
			}
		}
		for {
			f, err := h.ReadFrame()
			if err != nil {
				t.Fatalf("after %d answers: %v", answered, err)
			}
			if _, ok := f.(*http2.HeadersFrame); ok {
				answered++
				break
			}
		}
	}
}

// unreadPings asks for answers that it does not read.
func unreadPings(t *testing.T, m *mesh) {
	t.Helper()
	h := dialHostile(t, m.tcp)
	var err error
	for n := 0; err == nil && n < 1<<20; n++ {
		err = h.WritePing(false, [8]byte{1})
	}
	if err == nil {
		t.Error("a million PINGs are taken")
	}
}

// slowClients is how many clients read nothing of what they ask for.
const slowClients = 16

// slowReaders has clients ask for endless answers, allow for gigabytes of them, and read none.
func slowReaders(t *testing.T, m *mesh, good *grpc.ClientConn, sent *atomic.Int64) {
	t.Helper()
	before := sent.Load()
	var all []*hostile
	for range slowClients {
		h := dialHostile(t, m.tcp, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		_ = h.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_ = h.WriteWindowUpdate(0, 1<<30)
		_ = h.open(1)
		_ = h.WriteData(1, false, []byte{0, 0, 0, 0, 0})
		all = append(all, h)
	}
	// They hold until nothing more comes for them.
	for last := int64(-1); last != sent.Load(); {
		last = sent.Load()
		for range 50 {
			if _, err := do(within(t), good, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What the proxy and the kernel hold for each of them.
	if n := sent.Load() - before; n > int64(len(all))*20<<20 {
		t.Errorf("%d bytes were taken for %d clients that read none", n, len(all))
	}
}

// TestHostileClientsHarmThemselvesAlone: while they go on, calls of another client pass, and what the process
// holds at its peak is what few clients may hold.
func TestHostileClientsHarmThemselvesAlone(t *testing.T) {
	m := startMesh(t, nil)
	var sent atomic.Int64
	m.serve(t, thing{chat: func(_ context.Context, s *octomesh.ServerStream[msg, msg]) error {
		if _, err := s.Receive(); err != nil {
			return err
		}
		for body := text(string(make([]byte, 32<<10))); ; sent.Add(32 << 10) { // as much as the client takes
			if err := s.Send(body); err != nil {
				return err
			}
		}
	}})
	good := dial(t, m.tcp, nil)
	if _, err := do(within(t), good, []byte("x")); err != nil {
		t.Fatal(err)
	}
	attacks := map[string]func(*testing.T){
		"CONTINUATION without an end":      func(t *testing.T) { endlessBlock(t, m) },
		"oversize header lists":            func(t *testing.T) { oversizeLists(t, m) },
		"PINGs whose answers are not read": func(t *testing.T) { unreadPings(t, m) },
		"slow readers":                     func(t *testing.T) { slowReaders(t, m, good, &sent) },
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			most := int64(oneClient)
			if name == "slow readers" {
				most *= slowClients
			}
			w := watched(t, good)
			w.during(func() { attack(t) })
			w.held(most)
		})
	}
	for name, write := range floods {
		t.Run(name, func(t *testing.T) {
			w := watched(t, good)
			w.during(func() {
				for w.calls.Load() < 8 && !t.Failed() { // who is turned away comes again
					flood(t, m, write)
				}
			})
			w.held(oneClient)
		})
	}
}
