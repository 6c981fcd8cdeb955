package octomesh_test

import (
	"net"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// knock lets a test play a caller that dialed a server. It has said HELLO and heard WELCOME.
func knock(t *testing.T, address string) *raw {
	t.Helper()
	r := dialRaw(t, address)
	r.do(func(wc *wire.Conn) {
		wc.Hello(wire.Hello{Role: wire.RoleCall, Kind: wire.PeerSDK, Environment: "default", Application: "test"})
	})
	r.next(t, wire.EventWelcome)
	return r
}

func dialRaw(t *testing.T, address string) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return rawOn(t, nc)
}

// rawOn lets a test play a caller on a connection.
func rawOn(t *testing.T, nc net.Conn) *raw {
	r := &raw{events: make(chan rawEvent, 4096), closed: make(chan struct{})}
	r.wc = wire.NewConn(wire.Config{Side: wire.Dialer, Origin: wire.OriginClientSDK})
	r.tc = transport.New(nc, r.wc)
	t.Cleanup(r.tc.Close)
	go r.read(nil)
	return r
}

// send opens a call with any head, flags and body.
func (r *raw) send(head []byte, flags wire.Flags, body []byte) *wire.Stream {
	var s *wire.Stream
	r.do(func(wc *wire.Conn) {
		s, _ = wc.Open(r)
		wc.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: flags, Head: head, Body: body})
	})
	return s
}

func TestCallsThatBreakARuleEndAloneAndAsTheSpecificationSays(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0")
	r := knock(t, at)
	say := sayHead()
	with := func(change func(h *wire.RequestHead)) []byte {
		h := sayHead()
		change(&h)
		return h.Append(nil)
	}
	const whole = wire.FlagMessage | wire.FlagEnd
	for name, test := range map[string]struct {
		head   []byte
		flags  wire.Flags
		body   []byte
		code   wire.Code
		reason wire.Reason
	}{
		"head that does not parse":  {[]byte{0xff}, whole, nil, wire.InvalidArgument, wire.ReasonBadHead},
		"hop field of an SDK":       {with(func(h *wire.RequestHead) { h.Caller = []byte("x") }), whole, nil, wire.InvalidArgument, wire.ReasonBadHead},
		"field twice":               {append(say.Append(nil), say.Append(nil)...), whole, nil, wire.InvalidArgument, wire.ReasonBadHead},
		"foreign content type":      {with(func(h *wire.RequestHead) { h.ContentType = []byte("application/json") }), whole, nil, wire.Unimplemented, wire.ReasonUnknownContentType},
		"unknown encoding":          {with(func(h *wire.RequestHead) { h.MessageEncoding = []byte("br") }), whole | wire.FlagCompressed, []byte("x"), wire.Unimplemented, wire.ReasonUnknownEncoding},
		"compressed without saying": {say.Append(nil), whole | wire.FlagCompressed, []byte("x"), wire.Internal, wire.ReasonBadMessage},
		"no gzip":                   {with(func(h *wire.RequestHead) { h.MessageEncoding = []byte("gzip") }), whole | wire.FlagCompressed, []byte("x"), wire.Internal, wire.ReasonBadMessage},
		"no message":                {say.Append(nil), wire.FlagEnd, nil, wire.Internal, wire.ReasonBadMessage},
		"no protobuf":               {say.Append(nil), whole, []byte{0xff}, wire.Internal, wire.ReasonBadMessage},
		"unknown critical flag":     {say.Append(nil), whole | wire.FlagCritical, nil, wire.Unimplemented, wire.ReasonUnknownFlag},
		"known content type":        {with(func(h *wire.RequestHead) { h.ContentType = []byte("application/grpc+proto") }), whole, nil, wire.OK, 0},
		"unspecified kind":          {with(func(h *wire.RequestHead) { h.Kind = 0 }), whole, nil, wire.OK, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r.send(test.head, test.flags, test.body)
			st := r.end(t)
			if st.Code != test.code || st.Reason != test.reason {
				t.Fatalf("got %v, %v: %s", st.Code, st.Reason, st.Message)
			}
		})
	}
	r.send(say.Append(nil), whole, nil)
	if st := r.end(t); st.Code != wire.OK {
		t.Fatalf("the connection did not go on: %v", st.Code)
	}
}

// end waits for a call's end, by RESPONSE or by RESET.
func (r *raw) end(t *testing.T) wire.Status {
	t.Helper()
	for {
		select {
		case ev := <-r.events:
			switch ev.kind {
			case wire.EventReset:
				return ev.status
			case wire.EventResponse:
				h, _ := responseOf(t, ev)
				return h.Status
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the call did not end")
		}
	}
}

func TestExtraMessageOfAUnaryCall(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0")
	r := knock(t, at)
	h := sayHead()
	s := r.send(h.Append(nil), wire.FlagMessage, nil)
	r.do(func(wc *wire.Conn) {
		wc.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagEnd})
	})
	if st := r.end(t); st.Code != wire.Internal || st.Reason != wire.ReasonBadMessage {
		t.Fatalf("got %v, %v", st.Code, st.Reason)
	}
}

func TestBrokenFramingEndsTheConnectionAlone(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0")
	other := knock(t, at)
	for name, b := range map[string][]byte{
		"magic":    []byte("GET / HTTP/1.1\r\n"),
		"too long": wire.Header{Type: wire.TypePing, BodyLen: 1 << 30}.Append(nil),
		"id order": append(wire.Header{Type: wire.TypeMessage, Stream: 7}.Append(nil), 0),
	} {
		t.Run(name, func(t *testing.T) {
			r := knock(t, at)
			r.write(b)
			if ev := r.next(t, wire.EventGoAway); ev.goAway.Code != wire.GoAwayProtocolError || ev.goAway.Message == "" {
				t.Fatalf("got %+v", ev.goAway)
			}
			r.tc.Close()
		})
	}
	h := sayHead()
	other.send(h.Append(nil), wire.FlagMessage|wire.FlagEnd, nil)
	if st := other.end(t); st.Code != wire.OK {
		t.Fatal(st.Code)
	}
}

func TestServerRefusesWhoDoesNotBelong(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0", octomesh.WithEnvironment("prod"))
	for name, hello := range map[string]wire.Hello{
		"environment": {Role: wire.RoleCall, Environment: "test"},
		"role":        {Role: wire.RoleServe, Environment: "prod"},
		"version":     {Role: wire.RoleCall, Environment: "prod", LowestVersion: 2, HighestVersion: 9},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, at)
			r.do(func(wc *wire.Conn) { wc.Hello(hello) })
			if ev := r.next(t, wire.EventGoAway); ev.goAway.Code != wire.GoAwayRefused {
				t.Fatalf("got %+v", ev.goAway)
			}
			r.tc.Close()
		})
	}
}

func TestServerClosesOnWhoSaysNoHello(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0")
	r := dialRaw(t, at)
	begin := time.Now()
	r.waitClosed(t)
	if d := time.Since(begin); d < time.Second {
		t.Fatalf("closed after %v", d)
	}
}

func TestAnswersThatBreakARule(t *testing.T) {
	for name, test := range map[string]struct {
		out  wire.Out
		want octomesh.Error
	}{
		"head that does not parse": {out: wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: []byte{0xff}},
			want: octomesh.Error{Code: octomesh.InvalidArgument, Reason: octomesh.ReasonBadHead}},
		"no message": {out: wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd},
			want: octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonBadMessage}},
		"no protobuf": {out: wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd | wire.FlagMessage, Body: []byte{0xff}},
			want: octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonBadMessage}},
		"foreign encoding": {out: wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd | wire.FlagMessage | wire.FlagCompressed,
			Head: (&wire.ResponseHead{MessageEncoding: []byte("br")}).Append(nil), Body: []byte("x")},
			want: octomesh.Error{Code: octomesh.Unimplemented, Reason: octomesh.ReasonUnknownEncoding}},
		"foreign content": {out: wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd | wire.FlagMessage,
			Head: (&wire.ResponseHead{ContentType: []byte("text/html")}).Append(nil), Body: []byte("x")},
			want: octomesh.Error{Code: octomesh.Unimplemented, Reason: octomesh.ReasonUnknownContentType}},
		"MESSAGE with END": {out: wire.Out{Type: wire.TypeMessage, Flags: wire.FlagEnd},
			want: octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonStreamProtocol}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, at := throughProxy(t)
			done := start(c.Say, "")
			r := at.accept(t)
			ev := r.next(t, wire.EventRequest)
			r.do(func(wc *wire.Conn) { wc.Send(ev.stream, &test.out) })
			check(t, (<-done).err, test.want)
			done = start(c.Say, "")
			r.answer(r.next(t, wire.EventRequest), &message{})
			if got := <-done; got.err != nil {
				t.Fatal("the connection did not go on:", got.err)
			}
		})
	}
}

func TestHalfAMessageIsNoSuccess(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	r := at.accept(t)
	ev := r.next(t, wire.EventRequest)
	r.do(func(wc *wire.Conn) {
		wc.Send(ev.stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagMore,
			Head: wire.AppendTotalLength(nil, 10), Body: []byte("half")})
		wc.Send(ev.stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd})
	})
	check(t, (<-done).err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonStreamProtocol})
}

func TestFramingErrorOfThePeerIsAnsweredAndEndsItsCalls(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	r := at.accept(t)
	r.next(t, wire.EventRequest)
	r.write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	if ev := r.next(t, wire.EventGoAway); ev.goAway.Code != wire.GoAwayProtocolError {
		t.Fatalf("got %+v", ev.goAway)
	}
	check(t, (<-done).err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonConnectionLost})
}
