package grpc_test

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/wire"
)

// talker writes the frames of a grpc-go peer: what it has said before it says by the table.
type talker struct {
	out, block bytes.Buffer
	enc        *hpack.Encoder
	w          *http2.Framer
}

func newTalker() *talker {
	p := &talker{}
	p.enc, p.w = hpack.NewEncoder(&p.block), http2.NewFramer(&p.out, nil)
	return p
}

func (p *talker) headers(id uint32, end bool, fields ...string) {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = p.w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block.Bytes(), EndHeaders: true, EndStream: end})
}

var message = append([]byte{0, 0, 0, 4, 0}, make([]byte, 1024)...)

// calls returns how to carry the next unary call of 1 KiB through a machine of a side.
func calls(tb testing.TB, side wire.Side) func() {
	p := newTalker()
	c := bridge.NewConn(&protocol().Config, side, wire.OriginClientProxy)
	if side == wire.Acceptor {
		p.out.WriteString(http2.ClientPreface)
	}
	_ = p.w.WriteSettings()
	var ev wire.Event
	feed := func(want wire.EventKind) {
		for p.out.Len() > 0 {
			n, err := c.Feed(p.out.Bytes(), &ev)
			if err != nil || n == 0 && ev.Kind == wire.EventNone {
				tb.Fatalf("%d of %d bytes were taken: %v", n, p.out.Len(), err)
			}
			p.out.Next(n)
		}
		if want != wire.EventNone && ev.Kind != want {
			tb.Fatalf("%v", ev.Kind)
		}
		p.out.Reset()
	}
	feed(wire.EventNone)
	if side == wire.Acceptor {
		c.Welcome(wire.Welcome{})
	}
	spare, id := c.Take(nil), uint32(1)
	grant := func() {
		if id += 2; id%64 == 1 {
			_ = p.w.WriteWindowUpdate(0, 64<<10)
			feed(wire.EventNone)
			c.Tick()
		}
	}
	if side == wire.Acceptor {
		answer := (&wire.ResponseHead{HeadersPresent: true}).Append(nil)
		return func() {
			p.headers(id, false, ":method", "POST", ":scheme", "http", ":path", "/octo.test.v1.Thing/Do", ":authority", "a", "content-type", "application/grpc",
				"user-agent", "grpc-go/1.85.0", "te", "trailers")
			_ = p.w.WriteData(id, true, message)
			c.Begin()
			feed(wire.EventRequest)
			s := ev.Stream
			s.Call = c
			c.Consume(s, ev.Frame.Cost())
			if !c.Send(s, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Head: answer, Body: message[5:]}) {
				tb.Fatal("there was no room")
			}
			spare = c.Take(spare)
			grant()
		}
	}
	head := wire.AppendMethod(nil, "thing", "octo.test.v1.Thing", "Do", wire.KindUnspecified)
	head = wire.AppendMetadata(head, "user-agent", "grpc-go/1.85.0")
	head = wire.AppendEncodings(head, "", []string{"gzip"})
	hop := wire.AppendHop(nil, wire.HopCaller, "caller")
	return func() {
		s, err := c.Open(c)
		if err != nil || !c.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: head, Post: hop, Body: message[5:]}) {
			tb.Fatal("there was no room", err)
		}
		spare = c.Take(spare)
		p.headers(s.ID, false, ":status", "200", "content-type", "application/grpc")
		_ = p.w.WriteData(s.ID, false, message)
		p.headers(s.ID, true, "grpc-status", "0", "grpc-message", "")
		c.Begin()
		feed(wire.EventResponse)
		grant()
	}
}

// TestAUnaryCallAllocatesNothing holds what HTTP/2 costs where what is said repeats itself.
func TestAUnaryCallAllocatesNothing(t *testing.T) {
	for _, side := range []wire.Side{wire.Acceptor, wire.Dialer} {
		call := calls(t, side)
		if n := testing.AllocsPerRun(1000, call); n > 0 {
			t.Errorf("%v allocations a call, as side %v", n, side)
		}
	}
}

func benchmark(b *testing.B, side wire.Side) {
	call := calls(b, side)
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}

// BenchmarkOfAClient is what a unary call of 1 KiB costs in the machine of a client's connection, besides what its peer costs.
func BenchmarkOfAClient(b *testing.B) { benchmark(b, wire.Acceptor) }

// BenchmarkToAServer is the same in that of a server's.
func BenchmarkToAServer(b *testing.B) { benchmark(b, wire.Dialer) }
