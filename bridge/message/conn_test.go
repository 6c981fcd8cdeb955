package message_test

import (
	"bytes"
	"testing"

	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/wire"
)

// serving is a connection of a client's behind its first words.
func serving(t testing.TB, cfg message.Config) *message.Conn {
	t.Helper()
	cfg.Codec = plain{multiplexed: true}
	c := message.NewConn(&cfg, wire.Acceptor, wire.OriginClientProxy)
	var ev wire.Event
	if n, err := c.Feed([]byte{0}, &ev); n != 0 || err != nil || ev.Kind != wire.EventHello {
		t.Fatalf("%d, %v, %v", n, err, ev.Kind)
	}
	return c
}

// dialed is a connection to a server, with one call.
func dialed(t testing.TB, cfg message.Config) (*message.Conn, *wire.Stream) {
	t.Helper()
	cfg.Codec = plain{multiplexed: true}
	c := message.NewConn(&cfg, wire.Dialer, wire.OriginServerProxy)
	if ev := c.Late(); ev == nil || ev.Kind != wire.EventWelcome {
		t.Fatalf("%+v", ev)
	}
	s, err := c.Open("call")
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func requestHead(total uint64) []byte {
	h := wire.RequestHead{TotalLength: total, Service: []byte("bank"), ContentType: []byte("application/x-plain")}
	return h.Append(nil)
}

func TestRequestsThatAreHeldAreBounded(t *testing.T) {
	c := serving(t, message.Config{MaxHeld: 3000})
	one := frame('?', 0, 1, "bank/Pay", string(make([]byte, 1400)))
	for i := range 3 {
		var ev wire.Event
		if n, err := c.Feed(one, &ev); n != len(one) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if i == 2 {
			if ev.Kind != wire.EventNone || !bytes.Contains(c.Take(nil), []byte("QUEUE_FULL")) {
				t.Errorf("a request over the bound is %v", ev.Kind)
			}
			continue
		}
		ev.Stream.Call = i
		if i == 0 { // an answered one is held no more
			st := wire.Status{Code: wire.Aborted}
			c.Reset(ev.Stream, &wire.ResetHead{Status: st})
			if n, _ := c.Feed(one, &ev); n != len(one) || ev.Kind != wire.EventRequest {
				t.Fatalf("%v", ev.Kind)
			}
			ev.Stream.Call = i
			c.Take(nil)
		}
	}
}

func TestWhoDoesNotReadIsGivenUp(t *testing.T) {
	c := serving(t, message.Config{MaxHeld: 1000})
	one := frame('h', 0, 1, "", "")
	for range 1000 {
		var ev wire.Event
		if _, err := c.Feed(one, &ev); err != nil {
			if !c.Done() {
				t.Error("the connection goes on")
			}
			return
		}
	}
	t.Errorf("%d bytes wait", c.Queued())
}

func TestWhatCannotBeSentFailsItsCallAlone(t *testing.T) {
	body := frame('?', 0, 1, "bank/Pay", "x")
	message1 := wire.FlagMessage | wire.FlagEnd
	for name, tc := range map[string]struct {
		outs []wire.Out
		want wire.Reason
	}{
		"head":       {[]wire.Out{{Type: wire.TypeRequest, Flags: message1, Head: []byte{0xff}, Body: body}}, wire.ReasonBadHead},
		"length":     {[]wire.Out{{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagMore, Head: requestHead(plainMax + 1), Body: body}}, wire.ReasonMessageTooLarge},
		"no message": {[]wire.Out{{Type: wire.TypeRequest, Flags: wire.FlagEnd, Head: requestHead(0)}}, wire.ReasonBadMessage},
		"no frame":   {[]wire.Out{{Type: wire.TypeRequest, Flags: message1, Head: requestHead(0), Body: body[1:]}}, wire.ReasonBadMessage},
		"an answer":  {[]wire.Out{{Type: wire.TypeRequest, Flags: message1, Head: requestHead(0), Body: frame('!', 0, 1, "", "")}}, wire.ReasonBadMessage},
		"two frames": {[]wire.Out{{Type: wire.TypeRequest, Flags: message1, Head: requestHead(0), Body: append(body[:len(body):len(body)], body...)}}, wire.ReasonBadMessage},
		"two messages": {[]wire.Out{{Type: wire.TypeRequest, Flags: wire.FlagMessage, Head: requestHead(0), Body: body},
			{Type: wire.TypeMessage, Flags: message1, Body: body}}, wire.ReasonBadMessage},
		"much in pieces": {[]wire.Out{{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagMore, Head: requestHead(5000), Body: make([]byte, 2500)},
			{Type: wire.TypeMessage, Flags: message1, Body: make([]byte, 2500)}}, wire.ReasonQueueFull},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := dialed(t, message.Config{MaxHeld: 4000})
			other, err := c.Open("other")
			if err != nil {
				t.Fatal(err)
			}
			for i := range tc.outs {
				if !c.Send(s, &tc.outs[i]) {
					t.Fatal("it waits for credit")
				}
			}
			ev := c.Late()
			if ev == nil || ev.Kind != wire.EventFailed || ev.Call != "call" || ev.Status.Reason != tc.want || ev.Status.Origin != wire.OriginBridge || s.Call != nil {
				t.Fatalf("%+v", ev)
			}
			if c.Late() != nil || c.OpenStreams() != 1 {
				t.Error("it is told twice")
			}
			c.Take(nil)
			c.Send(other, &wire.Out{Type: wire.TypeRequest, Flags: message1, Head: requestHead(0), Body: body})
			if c.Queued() != len(body) {
				t.Errorf("the other call wrote %d bytes", c.Queued())
			}
		})
	}
}

func TestPiecesBecomeOneFrame(t *testing.T) {
	c, s := dialed(t, message.Config{})
	body := frame('?', 0, 77, "bank/Pay", "a longer payload")
	c.Send(s, &wire.Out{Type: wire.TypeRequest, Head: requestHead(uint64(len(body)))})
	c.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagMore, Body: body[:5]})
	c.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagMore, Body: body[5:20]})
	if c.Queued() != 0 {
		t.Error("a part is written")
	}
	c.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagEnd, Body: body[20:]})
	if got := c.Take(nil); !bytes.Equal(got, frame('?', 0, s.ID, "bank/Pay", "a longer payload")) {
		t.Errorf("%q", got)
	}
	answer := frame('!', 3, s.ID, "", "no")
	var ev wire.Event
	if n, err := c.Feed(answer, &ev); n != len(answer) || err != nil || ev.Kind != wire.EventResponse || ev.Call != "call" {
		t.Fatalf("%d, %v, %v", n, err, ev.Kind)
	}
	if st := wire.ScanStatus(ev.Frame.Head); st.Code != wire.InvalidArgument || st.Origin != wire.OriginApplication || st.Disposition != wire.DispositionProcessed {
		t.Errorf("%+v", st)
	}
	if n, err := c.Feed(answer, &ev); n != len(answer) || err != nil || ev.Kind != wire.EventNone {
		t.Errorf("the answer again is %v, %v", ev.Kind, err)
	}
}

func TestEntriesThatNobodyMaySetAreLeftOut(t *testing.T) {
	c := serving(t, message.Config{})
	var ev wire.Event
	if _, err := c.Feed(frame('?', 0, 1, "bank/Pay", "lane=blue"), &ev); err != nil || ev.Kind != wire.EventRequest {
		t.Fatalf("%v, %v", ev.Kind, err)
	}
	var h wire.RequestHead
	if err := h.Parse(ev.Frame.Head); err != nil || !h.FromSDK {
		t.Fatalf("%v", err)
	}
	if len(h.Metadata) != 1 || string(h.Metadata[0].Key) != "lane" || string(h.Metadata[0].Value) != "blue" {
		t.Errorf("%q", h.Metadata)
	}
	if string(h.Target) != "bank" || string(h.Service) != "bank" || string(h.Method) != "Pay" || string(h.ContentType) != "application/x-plain" {
		t.Errorf("%+v", h)
	}
}

func TestNothingIsAllocatedForACall(t *testing.T) {
	c := serving(t, message.Config{})
	one := frame('?', 0, 1, "bank/Pay", "x")
	head := wire.AppendAnswer(nil, "", nil, "application/x-plain")
	out := wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Head: head, Body: frame('!', 0, 9, "", "y")}
	var ev wire.Event
	var call any = t
	var spare []byte
	once := func() {
		c.Begin()
		if _, err := c.Feed(one, &ev); err != nil || ev.Kind != wire.EventRequest {
			t.Fatalf("%v, %v", ev.Kind, err)
		}
		ev.Stream.Call = call
		c.Send(ev.Stream, &out)
		spare = c.Take(spare)
	}
	once()
	if n := testing.AllocsPerRun(100, once); n > 1 { // the target's name
		t.Errorf("%v allocations", n)
	}
}

// FuzzFeed gives both roles any bytes, in two pieces, and answers or gives up the calls that they open.
func FuzzFeed(f *testing.F) {
	for _, b := range [][]byte{frame('?', 0, 1, "bank/Pay", "ten"), frame('1', 0, 1, "a/b", ""), frame('!', 5, 1, "", "x"), frame('h', 0, 1, "", "")} {
		f.Add(append(b[:len(b):len(b)], b...), uint16(7), true)
		f.Add(b, uint16(len(b)-1), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, server bool) {
		var c *message.Conn
		if server {
			c = serving(t, message.Config{MaxCalls: 4, MaxHeld: 1 << 16})
		} else {
			var s *wire.Stream
			c, s = dialed(t, message.Config{})
			c.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: requestHead(0), Body: frame('?', 0, 1, "a/b", "")})
		}
		used := 0
		for _, end := range []int{min(int(cut), len(b)), len(b)} {
			c.Begin()
			for used < end {
				var ev wire.Event
				n, err := c.Feed(b[used:end], &ev)
				if err != nil {
					return
				}
				if n == 0 {
					break
				}
				used += n
				if ev.Kind == wire.EventRequest {
					ev.Stream.Call = used
					if used%2 == 0 {
						c.Reset(ev.Stream, &wire.ResetHead{Status: wire.Status{Code: wire.Aborted}})
					}
				}
			}
		}
		if c.OpenStreams() > 4 {
			t.Fatalf("%d calls are open", c.OpenStreams())
		}
		ended := 0
		c.Lost(false, func(any, wire.Status) { ended++ })
		c.Lost(false, func(any, wire.Status) { ended++ }) // one-way calls, too
		if c.OpenStreams() != 0 || !c.Done() {
			t.Fatal("a call outlives its connection")
		}
	})
}
