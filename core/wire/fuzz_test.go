package wire

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// vectorBytes are the byte strings of the golden vectors, whatever they stand for there: seeds.
func vectorBytes(f *testing.F, pattern string) (all [][]byte) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "conformance", "vectors", pattern))
	if err != nil || len(files) == 0 {
		f.Fatalf("no vectors match %s: %v", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			f.Fatal(err)
		}
		all = append(all, hexStrings(v)...)
	}
	return all
}

func hexStrings(v any) (all [][]byte) {
	switch v := v.(type) {
	case string:
		if b, err := hex.DecodeString(v); err == nil && len(b) >= 4 && len(b) < 4096 {
			all = append(all, b)
		}
	case []any:
		for _, e := range v {
			all = append(all, hexStrings(e)...)
		}
	case map[string]any:
		for _, e := range v {
			all = append(all, hexStrings(e)...)
		}
	}
	return all
}

// FuzzFeed gives arbitrary bytes, in arbitrary pieces, to a connection of each side and role. Whatever
// comes, it must not panic, must keep its books, and must not hold more than what it accepted.
func FuzzFeed(f *testing.F) {
	f.Add(uint8(1), uint8(7), Header{Type: TypeRequest, Flags: FlagMessage | FlagEnd, Stream: 1, BodyLen: 1}.Append(nil))
	f.Add(uint8(3), uint8(1), Header{Type: TypeResponse, Flags: FlagEnd, Stream: 2}.Append(nil))
	for _, pattern := range []string{"frame.json", "malformed.json", "machine/*.json"} {
		for i, b := range vectorBytes(f, pattern) {
			f.Add(uint8(i), uint8(i*7), b)
		}
	}
	f.Add(uint8(0), uint8(200), append(Header{Type: TypeHello, HeadLen: 2}.Append(nil), 8, 1))
	f.Fuzz(func(t *testing.T, kind, piece uint8, b []byte) {
		c := NewConn(Config{Side: Side(kind & 1), Local: Limits{MaxStreams: 4}, Origin: OriginServerSDK})
		if kind&4 == 0 {
			c.Resume(RoleCall+Role(kind>>1&1), Limits{MaxStreams: 4})
		}
		if c.Opens() {
			for range 3 {
				s, _ := c.Open("call")
				c.Send(s, &Out{Type: TypeRequest, Flags: FlagMessage, Body: []byte("x")})
			}
		}
		var ev Event
		reset := 0
		for have := min(len(b), 1+int(piece)); ; {
			n, err := c.Feed(b[:have], &ev)
			if err != nil {
				if !c.Closed() || c.Queued() == 0 {
					t.Fatal("an error must close the connection and tell the peer")
				}
				return
			}
			if ev.Kind == EventReset || ev.Kind == EventFailed {
				reset++
			}
			handleFuzzed(c, &ev)
			b, have = b[n:], have-n
			if n == 0 {
				if have == len(b) {
					break
				}
				have = min(len(b), have+1+int(piece))
			}
			if c.OpenStreams() > 4 || c.held > 4 || len(c.refusals) > 4 {
				t.Fatalf("%d streams, %d held, %d refusals", c.OpenStreams(), c.held, len(c.refusals))
			}
		}
		c.Abort(func(any, Status) {})
		if c.OpenStreams() != 0 {
			t.Fatal("Abort left streams open")
		}
	})
}

// handleFuzzed does with an event what an owner might.
func handleFuzzed(c *Conn, ev *Event) {
	switch ev.Kind {
	case EventHello:
		c.Welcome(Welcome{})
	case EventRequest, EventMessage, EventResponse:
		if ev.Kind == EventRequest {
			ev.Stream.Call = "served"
			c.Started(ev.Stream)
		}
		if ev.Stream.Call == nil {
			return // closed by this frame
		}
		c.Consume(ev.Stream, ev.Frame.Cost())
		if !c.Opens() && ev.Stream.RemoteEnded() {
			c.Send(ev.Stream, &Out{Type: TypeResponse, Flags: FlagMessage | FlagEnd, Body: ev.Frame.Body})
		}
	case EventReset, EventFailed:
		if !c.Opens() {
			c.Release()
		}
	}
	c.Take(nil)
}

// FuzzConversation lets two sides that keep to the protocol talk by a random script. Neither may ever
// find fault with the other, every byte must arrive, and every call must end.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("\x00\x10\x01\x20\x02\x30\x03\x40\x04\x50\x05\x60"))
	f.Add([]byte{0, 255, 1, 255, 1, 255, 4, 0, 2, 200, 5, 0, 3, 9, 6, 0, 7, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		role := RoleCall
		if len(script) > 0 && script[0]&1 == 1 {
			role = RoleServe
		}
		talk := newTalk(t, role)
		for len(script) >= 2 && !talk.left {
			talk.step(script[0]%8, int(script[1]))
			script = script[2:]
		}
		talk.finish()
	})
}

// talk is two sides with a model of what has been said.
type talk struct {
	*pair
	opener, server *Conn
	calls          []*talkCall
	left           bool
}

type talkCall struct {
	up, down     *Stream
	upOut, doOut *Out // unfinished sends
	sentUp, got  int
	sentDown, gd int
	ended        bool
}

func newTalk(t *testing.T, role Role) *talk {
	p := newPair(t, role, Limits{MaxStreams: 8}, Limits{MaxStreams: 8})
	k := &talk{pair: p, opener: p.dialer, server: p.acceptor}
	if role == RoleServe {
		k.opener, k.server = p.acceptor, p.dialer
	}
	return k
}

func (k *talk) step(op uint8, arg int) {
	size := arg * arg * 4 // up to 260 KB: more than a window
	switch op {
	case 0, 1:
		k.open(size, op == 0)
	case 2:
		k.upstream(arg, size)
	case 3, 4:
		k.answer(arg, size, op == 4)
	case 5:
		k.exchange()
	case 6:
		if c := k.pick(arg); c != nil && c.up != nil && c.up.Call == c {
			k.opener.Reset(c.up, &ResetHead{Status: Refuse(ReasonCancelled, OriginClientSDK, "")})
			c.up, c.ended = nil, true
		}
	case 7:
		k.opener.Ping(uint64(arg))
		k.server.Ping(uint64(arg))
	}
}

func (k *talk) pick(arg int) *talkCall {
	if len(k.calls) == 0 {
		return nil
	}
	return k.calls[arg%len(k.calls)]
}

func (k *talk) open(size int, end bool) {
	c := &talkCall{}
	s, err := k.opener.Open(c)
	if err != nil {
		return
	}
	c.up = s
	k.calls = append(k.calls, c)
	flags := FlagMessage
	if end {
		flags |= FlagEnd
	}
	head := AppendMetadata((&RequestHead{Target: []byte("t")}).Append(nil), "n", binary.BigEndian.AppendUint32(nil, uint32(len(k.calls)-1)))
	c.send(k.opener, c.up, &Out{Type: TypeRequest, Flags: flags, Head: head, Body: make([]byte, size)}, &c.upOut, &c.sentUp)
}

func (c *talkCall) send(conn *Conn, s *Stream, o *Out, rest **Out, sent *int) {
	*sent += len(o.Body)
	if conn.Send(s, o) {
		o = nil
	}
	*rest = o
}

func (k *talk) upstream(arg, size int) {
	c := k.pick(arg)
	if c == nil || c.up == nil || c.up.Call != c || c.up.LocalEnded() || c.upOut != nil {
		return
	}
	c.send(k.opener, c.up, &Out{Type: TypeMessage, Flags: FlagMessage | FlagEnd, Body: make([]byte, size)}, &c.upOut, &c.sentUp)
}

func (k *talk) answer(arg, size int, end bool) {
	c := k.pick(arg)
	if c == nil || c.down == nil || c.down.Call != c || c.doOut != nil {
		return
	}
	o := &Out{Type: TypeMessage, Flags: FlagMessage, Body: make([]byte, size)}
	if end {
		o.Type, o.Flags = TypeResponse, FlagMessage|FlagEnd
	}
	c.send(k.server, c.down, o, &c.doOut, &c.sentDown)
}

// exchange carries what both sides have queued.
func (k *talk) exchange() {
	k.feed(k.server, k.opener.Take(nil), func(ev *Event) {
		switch ev.Kind {
		case EventRequest:
			var h RequestHead
			if h.Parse(ev.Frame.Head) != nil {
				k.t.Fatal("the head was damaged")
			}
			c := k.calls[binary.BigEndian.Uint32(h.Metadata[0].Value)]
			ev.Stream.Call, c.down = c, ev.Stream
			k.received(k.server, ev, &c.got)
		case EventMessage:
			k.received(k.server, ev, &ev.Call.(*talkCall).got)
		case EventCredit:
			c := ev.Call.(*talkCall)
			k.resume(k.server, c.down, &c.doOut)
		case EventReset:
			k.server.Release()
		case EventFailed:
			k.t.Fatalf("fault found: %s", ev.Status.Message)
		}
	})
	k.feed(k.opener, k.server.Take(nil), func(ev *Event) {
		switch ev.Kind {
		case EventResponse, EventMessage:
			c := ev.Call.(*talkCall)
			k.received(k.opener, ev, &c.gd)
			c.ended = c.ended || ev.Frame.Has(FlagEnd)
		case EventCredit:
			c := ev.Call.(*talkCall)
			k.resume(k.opener, c.up, &c.upOut)
		case EventReset:
			ev.Call.(*talkCall).ended = true
		case EventFailed:
			k.t.Fatalf("fault found: %s", ev.Status.Message)
		}
	})
}

func (k *talk) received(to *Conn, ev *Event, got *int) {
	*got += len(ev.Frame.Body)
	if ev.Stream.Call != nil {
		to.Consume(ev.Stream, ev.Frame.Cost())
	}
}

func (k *talk) resume(conn *Conn, s *Stream, rest **Out) {
	if *rest != nil && conn.Send(s, *rest) {
		*rest = nil
	}
}

// finish answers what is open and checks that everything arrived.
func (k *talk) finish() {
	for range 40 {
		k.exchange()
		for i := range k.calls {
			k.answer(i, 10, true)
		}
	}
	for i, c := range k.calls {
		cancelled := c.up == nil
		if !c.ended {
			k.t.Fatalf("call %d never ended: %+v", i, c)
		}
		if !cancelled && c.gd != c.sentDown {
			k.t.Fatalf("call %d: %d of %d bytes came back", i, c.gd, c.sentDown)
		}
	}
	if k.opener.OpenStreams() != 0 || k.server.OpenStreams() != 0 || k.server.held != 0 {
		k.t.Fatalf("left: %d, %d streams, %d held", k.opener.OpenStreams(), k.server.OpenStreams(), k.server.held)
	}
}
