package h2_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

// peer writes frames to a machine, and takes what it says.
type peer struct {
	t *testing.T
	*http2.Framer
	out  bytes.Buffer // to the machine
	c    *h2.Conn
	said []h2.Event
	back bytes.Buffer // what the machine has written
	err  error
}

// newPeer is a client of a machine that has shaken hands.
func newPeer(t *testing.T, cfg h2.Config) *peer {
	t.Helper()
	cfg.Side = h2.Server
	p := &peer{t: t, c: h2.NewConn(cfg)}
	p.Framer = http2.NewFramer(&p.out, nil)
	p.AllowIllegalWrites = true
	p.out.WriteString(http2.ClientPreface)
	_ = p.WriteSettings()
	p.feed()
	return p
}

// newServerPeer is a server of a machine that has shaken hands.
func newServerPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, c: h2.NewConn(h2.Config{Side: h2.Client})}
	p.Framer = http2.NewFramer(&p.out, nil)
	p.AllowIllegalWrites = true
	_ = p.WriteSettings()
	p.feed()
	p.take()
	return p
}

// feed gives the machine what was written, in pieces of step bytes if it is given.
func (p *peer) feed(step ...int) {
	b := p.out.Bytes()
	end := len(b)
	if len(step) > 0 {
		end = 0
	}
	for used := 0; p.err == nil; {
		if len(step) > 0 {
			end = min(end+step[0], len(b))
		}
		for used < end && p.err == nil {
			var ev h2.Event
			var n int
			n, p.err = p.c.Feed(b[used:end], &ev)
			if n == 0 && ev.Kind == h2.EventNone {
				break
			}
			used += n
			p.on(&ev)
		}
		if end == len(b) {
			break
		}
	}
	p.out.Reset()
}

func (p *peer) on(ev *h2.Event) {
	switch ev.Kind {
	case h2.EventNone:
		return
	case h2.EventPreface:
		p.c.Start()
	case h2.EventHeaders:
		if !ev.Trailers {
			ev.Stream.User = p
		}
	case h2.EventReset, h2.EventFailed:
		p.c.Release()
	}
	e := *ev
	e.Data, e.Fields = bytes.Clone(ev.Data), append([]hpack.HeaderField(nil), ev.Fields...)
	p.said = append(p.said, e)
}

// take moves the machine's output.
func (p *peer) take() { p.back.Write(p.c.Take(nil)) }

func (p *peer) block(extra ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/s/m"}, {":authority", "a"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for i := 0; i < len(extra); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: extra[i], Value: extra[i+1], Sensitive: true})
	}
	return b.Bytes()
}

func (p *peer) open(id uint32, end bool) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(), EndHeaders: true, EndStream: end})
}

// calmed checks that the connection has ended by the code.
func (p *peer) ended(code http2.ErrCode) {
	p.t.Helper()
	var e *h2.ConnError
	if !errors.As(p.err, &e) || e.Code != code {
		p.t.Fatalf("the connection ended %v, want %v", p.err, code)
	}
	p.take()
	f := http2.NewFramer(nil, &p.back)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			p.t.Fatal("no GOAWAY was written")
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				p.t.Fatalf("GOAWAY says %v", g.ErrCode)
			}
			return
		}
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	const calm = http2.ErrCodeEnhanceYourCalm
	for name, c := range map[string]struct {
		code  http2.ErrCode
		flood func(p *peer, n int)
	}{
		"PING": {calm, func(p *peer, _ int) { _ = p.WritePing(false, [8]byte{1}) }},
		"PING answers that are not read": {calm, func(p *peer, _ int) {
			_ = p.WriteWindowUpdate(0, 1)
			_ = p.WritePing(false, [8]byte{1})
		}},
		"SETTINGS":      {calm, func(p *peer, _ int) { _ = p.WriteSettings() }},
		"PRIORITY":      {calm, func(p *peer, _ int) { _ = p.WritePriority(1, http2.PriorityParam{Weight: 3}) }},
		"unknown":       {calm, func(p *peer, _ int) { _ = p.WriteRawFrame(99, 0, 0, nil) }},
		"empty DATA":    {calm, func(p *peer, n int) { p.first(n); _ = p.WriteData(1, false, nil) }},
		"WINDOW_UPDATE": {calm, func(p *peer, n int) { p.first(n); _ = p.WriteWindowUpdate(1, 1) }},
		"rapid reset": {calm, func(p *peer, n int) {
			p.open(uint32(2*n+1), true)
			_ = p.WriteRSTStream(uint32(2*n+1), http2.ErrCodeCancel)
		}},
		"refused":          {calm, func(p *peer, n int) { p.open(uint32(2*n+1), false) }},
		"DATA of an ended": {calm, func(p *peer, n int) { p.openReset(n); _ = p.WriteData(1, false, nil) }},
		"CONTINUATION": {calm, func(p *peer, n int) {
			if n == 0 {
				_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()})
			}
			_ = p.WriteContinuation(1, false, nil)
		}},
		"a block without an end": {calm, func(p *peer, n int) {
			if n == 0 {
				_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()})
			}
			_ = p.WriteContinuation(1, false, h2.AppendField(nil, "x", strings.Repeat("y", 16000)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			strikes := -1
			if name == "PING" {
				strikes = 0
			}
			p := newPeer(t, h2.Config{MaxStreams: 8, PingStrikes: strikes})
			largest := 0
			for n := 0; p.err == nil && n < 20_000; n++ {
				c.flood(p, n)
				p.feed()
				p.said = p.said[:0]
				largest = max(largest, p.c.Queued())
				if name != "PING answers that are not read" && name != "refused" {
					p.take()
				}
			}
			p.ended(c.code)
			if largest > 64<<10 {
				t.Errorf("%d bytes of output were held", largest)
			}
		})
	}
}

func (p *peer) first(n int) {
	if n == 0 {
		p.open(1, false)
	}
}

func (p *peer) openReset(n int) {
	if n == 0 {
		p.open(1, true)
		p.feed()
		s := p.c.Stream(1)
		p.c.Headers(s, h2.AppendField(nil, ":status", "200"), true)
	}
}

func TestAHeaderListThatIsTooLongIsAnsweredAndOthersGoOn(t *testing.T) {
	p := newPeer(t, h2.Config{})
	block := p.block("a", strings.Repeat("x", 40<<10), "b", strings.Repeat("y", 40<<10))
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:10000]})
	for rest := block[10000:]; len(rest) > 0; {
		n := min(len(rest), 10000)
		_ = p.WriteContinuation(1, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	p.open(3, true)
	p.feed()
	if p.err != nil {
		t.Fatal(p.err)
	}
	if last := p.said[len(p.said)-1]; last.Kind != h2.EventHeaders || last.Stream.ID != 3 || p.c.OpenStreams() != 1 {
		t.Fatalf("what came last was %v of stream %v, %d streams are open", last.Kind, last.Stream.ID, p.c.OpenStreams())
	}
	p.take()
	f := http2.NewFramer(nil, &p.back)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal("no answer was written")
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			if h.StreamID != 1 || h.PseudoValue("status") != "431" {
				t.Fatalf("answered %v", h)
			}
			return
		}
	}
}

func TestBytesMeanTheSameWhereverTheyAreCut(t *testing.T) {
	script := func(p *peer) {
		p.open(1, false)
		_ = p.WriteDataPadded(1, false, []byte("hello"), make([]byte, 7))
		_ = p.WriteData(1, false, []byte(" world"))
		_ = p.WritePing(false, [8]byte{5})
		_ = p.WriteDataPadded(1, true, []byte("!"), make([]byte, 3))
		p.open(3, true)
		_ = p.WriteRSTStream(3, http2.ErrCodeCancel)
	}
	for step := 1; step < 60; step++ {
		p := newPeer(t, h2.Config{})
		script(p)
		p.feed(step)
		if p.err != nil {
			t.Fatalf("in steps of %d: %v", step, p.err)
		}
		var data, kinds []byte
		flow := 0
		for _, e := range p.said {
			data = append(data, e.Data...)
			flow += e.Flow
			if e.Kind != h2.EventData || e.End {
				kinds = append(kinds, '0'+byte(e.Kind))
			}
		}
		if string(data) != "hello world!" || string(kinds) != "13435" || flow > 12+7+3+2 {
			t.Fatalf("in steps of %d: data %q, events %s, %d bytes of window", step, data, kinds, flow)
		}
	}
}

func TestLeavingTellsTwice(t *testing.T) {
	p := newPeer(t, h2.Config{})
	p.open(1, true)
	p.feed()
	p.take()
	p.back.Reset()
	p.c.Leave("moving")
	p.take()
	p.open(3, true) // it had not heard yet
	f := http2.NewFramer(nil, &p.back)
	first, _ := f.ReadFrame()
	if g, ok := first.(*http2.GoAwayFrame); !ok || g.LastStreamID != 1<<31-1 || g.ErrCode != http2.ErrCodeNo {
		t.Fatalf("first it said %v", first)
	}
	frame, _ := f.ReadFrame()
	ping, ok := frame.(*http2.PingFrame)
	if !ok {
		t.Fatalf("then it said %v", frame)
	}
	_ = p.WritePing(true, ping.Data)
	p.open(5, true) // nobody sees it any more
	p.feed()
	p.take()
	last, _ := f.ReadFrame()
	if g, ok := last.(*http2.GoAwayFrame); !ok || g.LastStreamID != 3 {
		t.Fatalf("at last it said %v", last)
	}
	if e := p.said[len(p.said)-1]; e.Kind != h2.EventDrained || p.c.OpenStreams() != 2 {
		t.Fatalf("%v, %d streams", e.Kind, p.c.OpenStreams())
	}
}
