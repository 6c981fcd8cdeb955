package wire

import (
	"bytes"
	"testing"
)

// pair is two ends of one connection with the bytes between them.
type pair struct {
	t                testing.TB
	dialer, acceptor *Conn
	ev               Event
}

// newPair returns a pair that has shaken hands.
func newPair(t testing.TB, role Role, dialer, acceptor Limits) *pair {
	p := &pair{
		t:        t,
		dialer:   NewConn(Config{Side: Dialer, Local: dialer, Origin: OriginClientSDK}),
		acceptor: NewConn(Config{Side: Acceptor, Local: acceptor, Origin: OriginServerSDK}),
	}
	p.dialer.Hello(Hello{Role: role, Application: "test"})
	p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
		if ev.Kind == EventHello {
			p.acceptor.Welcome(Welcome{})
		}
	})
	p.feed(p.dialer, p.acceptor.Take(nil), nil)
	if !p.dialer.Ready() || !p.acceptor.Ready() {
		t.Fatal("the handshake failed")
	}
	return p
}

// feed gives bytes to one end, a frame at a time.
func (p *pair) feed(to *Conn, b []byte, seen func(*Event)) {
	p.t.Helper()
	for len(b) > 0 {
		n, err := to.Feed(b, &p.ev)
		if err != nil {
			p.t.Fatalf("Feed: %v", err)
		}
		if n == 0 {
			p.t.Fatalf("half a frame: % x", b)
		}
		b = b[n:]
		if seen != nil {
			seen(&p.ev)
		}
	}
}

func TestUnaryCallGoesThereAndBack(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	head := (&RequestHead{Target: []byte("stock"), Service: []byte("s.Stock"), Method: []byte("Get")}).Append(nil)
	s, err := p.dialer.Open("mine")
	if err != nil {
		t.Fatal(err)
	}
	p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagMessage | FlagEnd, Head: head, Body: []byte("ping")})
	p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
		if ev.Kind != EventRequest || string(ev.Frame.Body) != "ping" || !ev.Stream.RemoteEnded() {
			t.Fatalf("got %v", ev.Kind)
		}
		p.acceptor.Send(ev.Stream, &Out{Type: TypeResponse, Flags: FlagMessage | FlagEnd, Body: []byte("pong")})
	})
	p.feed(p.dialer, p.acceptor.Take(nil), func(ev *Event) {
		if ev.Kind != EventResponse || ev.Call != "mine" || string(ev.Frame.Body) != "pong" {
			t.Fatalf("got %v %v", ev.Kind, ev.Call)
		}
	})
	if p.dialer.OpenStreams() != 0 || p.acceptor.OpenStreams() != 0 || p.acceptor.held != 0 {
		t.Fatal("a stream was left open")
	}
}

func TestUnaryCallAllocatesNothing(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	head := (&RequestHead{TimeoutUS: 5, Target: []byte("t"), Service: []byte("s"), Method: []byte("m")}).Append(nil)
	body := make([]byte, 1024)
	var parsed RequestHead
	var out Out
	var spareA, spareB []byte
	call := new(int)
	unary := func() {
		s, _ := p.dialer.Open(call)
		out = Out{Type: TypeRequest, Flags: FlagMessage | FlagEnd, Head: head, Body: body}
		p.dialer.Send(s, &out)
		b := p.dialer.Take(spareA)
		spareA = b
		if _, err := p.acceptor.Feed(b, &p.ev); err != nil || parsed.Parse(p.ev.Frame.Head) != nil {
			t.Fatal("the request did not arrive")
		}
		p.acceptor.Started(p.ev.Stream)
		out = Out{Type: TypeResponse, Flags: FlagMessage | FlagEnd, Body: p.ev.Frame.Body}
		p.acceptor.Send(p.ev.Stream, &out)
		b = p.acceptor.Take(spareB)
		spareB = b
		if _, err := p.dialer.Feed(b, &p.ev); err != nil || p.ev.Call != call {
			t.Fatal("the response did not arrive")
		}
	}
	unary()
	if n := testing.AllocsPerRun(1000, unary); n > 0 {
		t.Fatalf("%v allocations a call", n)
	}
}

func TestLongMessageIsSplitToCreditAndLimits(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	for _, typ := range []Type{TypeRequest, TypeResponse} {
		t.Run(typ.String(), func(t *testing.T) {
			p := newPair(t, RoleCall, Limits{}, Limits{})
			s, _ := p.dialer.Open(nil)
			from, to := p.dialer, p.acceptor
			out := &Out{Type: TypeRequest, Flags: FlagMessage | FlagEnd, Body: body}
			if typ == TypeResponse {
				p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagEnd})
				p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) { s = ev.Stream })
				from, to = p.acceptor, p.dialer
				status := (&ResponseHead{HeadersPresent: true, Status: Status{Code: NotFound}}).Append(nil)
				out = &Out{Type: TypeResponse, Flags: FlagMessage | FlagEnd, Head: status, Body: body}
			}
			got := transfer(p, from, to, s, out)
			if !bytes.Equal(got, body) {
				t.Fatalf("%d bytes arrived, want %d", len(got), len(body))
			}
		})
	}
}

// transfer sends out over as many rounds of credit as it takes and returns the bytes that arrived.
func transfer(p *pair, from, to *Conn, s *Stream, out *Out) []byte {
	var got []byte
	ended := false
	for done, round := false, 0; !done || !ended; round++ {
		if round > 1000 {
			p.t.Fatal("no progress")
		}
		if !done {
			done = from.Send(s, out)
		}
		p.feed(to, from.Take(nil), func(ev *Event) {
			if ev.Kind < EventRequest || ev.Kind > EventMessage {
				p.t.Fatalf("got %v %v", ev.Kind, ev.Status)
			}
			got = append(got, ev.Frame.Body...)
			ended = ended || ev.Frame.Has(FlagEnd)
			if ev.Frame.Has(FlagEnd) && ev.Kind == EventResponse && ScanStatus(ev.Frame.Head).Code != NotFound {
				p.t.Fatal("the final head was lost")
			}
			to.Consume(ev.Stream, ev.Frame.Cost())
		})
		p.feed(from, to.Take(nil), nil)
	}
	return got
}

func TestStreamLimitQueuesAtTheOpenerAndRefusesAtTheAcceptor(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{MaxStreams: 2})
	for range 2 {
		s, _ := p.dialer.Open(nil)
		p.dialer.Send(s, &Out{Type: TypeRequest})
	}
	if _, err := p.dialer.Open(nil); err != ErrStreamLimit {
		t.Fatalf("got %v", err)
	}
	p.dialer.peer.MaxStreams = 100 // an opener that does not keep to it
	s, _ := p.dialer.Open("third")
	p.dialer.Send(s, &Out{Type: TypeRequest})
	p.feed(p.acceptor, p.dialer.Take(nil), nil)
	p.feed(p.dialer, p.acceptor.Take(nil), func(ev *Event) {
		want := Status{Code: ResourceExhausted, Reason: ReasonQueueFull, Disposition: DispositionNotProcessed}
		if ev.Kind != EventReset || ev.Call != "third" || ev.Status.Code != want.Code ||
			ev.Status.Reason != want.Reason || ev.Status.Disposition != want.Disposition {
			t.Fatalf("got %v %+v", ev.Kind, ev.Status)
		}
	})
}

func TestHandlersOfResetStreamsMayBeAsManyAgain(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{MaxStreams: 1})
	cancels := func() (let bool) {
		s, _ := p.dialer.Open(nil)
		p.dialer.Send(s, &Out{Type: TypeRequest})
		p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) { let = ev.Kind == EventRequest })
		p.dialer.Reset(s, &ResetHead{Status: Refuse(ReasonCancelled, OriginClientSDK, "")})
		p.feed(p.acceptor, p.dialer.Take(nil), nil)
		p.feed(p.dialer, p.acceptor.Take(nil), nil)
		return let
	}
	for range 2 {
		if !cancels() {
			t.Fatal("a call was refused though one handler at most runs beside it")
		}
	}
	if cancels() {
		t.Fatal("a third call was let in beside two running handlers")
	}
	p.acceptor.Release()
	if !cancels() {
		t.Fatal("a call was refused though a handler has returned")
	}
}

func TestALostConnectionTellsWhatWasNotWritten(t *testing.T) {
	for _, unwritten := range []bool{false, true} {
		p := newPair(t, RoleCall, Limits{}, Limits{})
		call := func(name string) {
			s, _ := p.dialer.Open(name)
			p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagEnd})
		}
		call("written")
		p.dialer.Take(nil)
		call("of the last write")
		p.dialer.Take(nil)
		p.dialer.Take(nil) // there is nothing
		call("queued")
		got := map[any]Status{}
		p.dialer.Lost(unwritten, func(call any, st Status) { got[call] = st })
		for name, written := range map[string]bool{"written": true, "of the last write": !unwritten, "queued": false} {
			want := Refuse(ReasonConnectionLost, p.dialer.origin, "")
			if !written {
				want = Refuse(ReasonProxyUnready, p.dialer.origin, "")
			}
			if st := got[name]; st.Code != want.Code || st.Reason != want.Reason || st.Disposition != want.Disposition {
				t.Errorf("%v, the last write is unwritten: %v: %+v", name, unwritten, st)
			}
		}
	}
}

func TestFinalGoAwayTellsWhatWasNotProcessed(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	for _, name := range []string{"answered late", "queued", "on its way"} {
		s, _ := p.dialer.Open(name)
		p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagEnd})
		if name == "queued" {
			p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
				if ev.Stream.ID == 1 {
					p.acceptor.Started(ev.Stream)
				}
			})
		}
	}
	late := p.dialer.Take(nil)
	p.acceptor.Leave(GoAwayDraining, "restart")
	p.acceptor.Finish(GoAwayDraining, "deadline", nil)
	got := map[any]Disposition{}
	p.feed(p.dialer, p.acceptor.Take(nil), func(ev *Event) {
		if ev.Kind == EventReset {
			got[ev.Call] = ev.Status.Disposition
		}
	})
	p.dialer.Abort(func(call any, st Status) { got[call] = st.Disposition })
	want := map[any]Disposition{
		"answered late": DispositionUnknown, "queued": DispositionNotProcessed, "on its way": DispositionNotProcessed,
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%v: got %v, want %v", k, got[k], v)
		}
	}
	p.feed(p.acceptor, late, nil) // discarded
	if p.acceptor.OpenStreams() != 0 {
		t.Fatal("a request after the final GOAWAY was let in")
	}
}

func TestOneBrokenStreamLeavesItsNeighboursAlone(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	good, _ := p.dialer.Open("good")
	p.dialer.Send(good, &Out{Type: TypeRequest})
	bad, _ := p.dialer.Open("bad")
	p.dialer.Send(bad, &Out{Type: TypeRequest})
	p.feed(p.acceptor, p.dialer.Take(nil), nil)
	b := Header{Type: TypeMessage, Flags: FlagMore, Stream: bad.ID}.Append(nil)
	p.feed(p.acceptor, b, func(ev *Event) {
		if ev.Kind != EventFailed || ev.Status.Code != Internal {
			t.Fatalf("got %v %+v", ev.Kind, ev.Status)
		}
	})
	p.dialer.Send(good, &Out{Type: TypeMessage, Flags: FlagMessage | FlagEnd, Body: []byte("x")})
	p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
		if ev.Kind != EventMessage || string(ev.Frame.Body) != "x" {
			t.Fatalf("got %v", ev.Kind)
		}
	})
}

func TestPingOvertakesQueuedData(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	s, _ := p.dialer.Open(nil)
	p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagMessage, Body: make([]byte, 1000)})
	if !p.dialer.Ping(42) || p.dialer.Ping(43) {
		t.Fatal("one ping may be out, not two")
	}
	b := p.dialer.Take(nil)
	if Type(b[3]) != TypePing {
		t.Fatalf("first goes %v", Type(b[3]))
	}
	p.feed(p.acceptor, b, nil)
	p.feed(p.dialer, p.acceptor.Take(nil), func(ev *Event) {
		if ev.Kind != EventPong || ev.Pong != 42 {
			t.Fatalf("got %v %d", ev.Kind, ev.Pong)
		}
	})
	if !p.dialer.Ping(44) {
		t.Fatal("an answered ping still counts as out")
	}
}

func TestLongLivedStreamsSurviveAFullTurnOfTheTable(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	var old []*Stream
	for range 10 {
		s, _ := p.dialer.Open(nil)
		p.dialer.Send(s, &Out{Type: TypeRequest})
		old = append(old, s)
	}
	for range 10_000 {
		s, err := p.dialer.Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagEnd})
		p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
			if ev.Stream.RemoteEnded() {
				p.acceptor.Send(ev.Stream, &Out{Type: TypeResponse, Flags: FlagEnd})
			}
		})
		p.feed(p.dialer, p.acceptor.Take(nil), nil)
	}
	if p.dialer.OpenStreams() != 10 || p.acceptor.OpenStreams() != 10 {
		t.Fatalf("%d and %d streams open", p.dialer.OpenStreams(), p.acceptor.OpenStreams())
	}
	for _, s := range old {
		if p.acceptor.streams.get(s.ID) == nil || p.dialer.streams.get(s.ID) != s {
			t.Fatalf("stream %d was lost", s.ID)
		}
	}
}
