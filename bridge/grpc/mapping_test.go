package grpc_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/wire"
)

// end is a bare HTTP/2 peer of a machine: it writes frames, and reads what comes back.
type end struct {
	t *testing.T
	*http2.Framer
	out, back bytes.Buffer
	c         *bridge.Conn
	reader    *http2.Framer
	events    []wire.Event
	calls     map[uint32]*wire.Stream
}

func newEnd(t *testing.T, side wire.Side) *end {
	t.Helper()
	e := &end{t: t, c: bridge.NewConn(&protocol().Config, side, wire.OriginClientProxy), calls: make(map[uint32]*wire.Stream)}
	e.Framer = http2.NewFramer(&e.out, nil)
	e.AllowIllegalWrites = true
	e.reader = http2.NewFramer(nil, &e.back)
	e.reader.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if side == wire.Acceptor {
		e.out.WriteString(http2.ClientPreface)
	} else {
		e.take()
		e.back.Next(len(http2.ClientPreface))
	}
	_ = e.WriteSettings()
	e.feed()
	e.take()
	for e.back.Len() > 0 {
		if _, err := e.reader.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	e.events = nil
	return e
}

func (e *end) take() { e.back.Write(e.c.Take(nil)) }

func (e *end) feed() {
	e.t.Helper()
	e.c.Begin()
	b := bytes.Clone(e.out.Bytes())
	e.out.Reset()
	for {
		var ev wire.Event
		n, err := e.c.Feed(b, &ev)
		if err != nil {
			e.t.Fatal(err)
		}
		if b = b[n:]; n == 0 && ev.Kind == wire.EventNone {
			break
		}
		switch ev.Kind {
		case wire.EventNone:
			continue
		case wire.EventHello:
			e.c.Welcome(wire.Welcome{})
		case wire.EventRequest:
			ev.Stream.Call = e
			e.calls[ev.Stream.ID] = ev.Stream
		}
		ev.Frame.Head, ev.Frame.Body = bytes.Clone(ev.Frame.Head), bytes.Clone(ev.Frame.Body)
		e.events = append(e.events, ev)
	}
}

// headers writes a header list.
func (e *end) headers(id uint32, end bool, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
	}
	_ = e.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

func (e *end) request(end bool, extra ...string) {
	e.headers(1, end, append([]string{":method", "POST", ":scheme", "http", ":path", "/octo.test.v1.Thing/Do", ":authority", "thing.local:80",
		"content-type", "application/grpc+proto", "te", "trailers"}, extra...)...)
}

// call opens a stream at the machine's side that dials.
func (e *end) call(h wire.RequestHead, flags wire.Flags, body string) *wire.Stream {
	e.t.Helper()
	s, err := e.c.Open(e)
	if err != nil {
		e.t.Fatal(err)
	}
	if !e.c.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: flags, Head: h.Append(nil), Body: []byte(body)}) {
		e.t.Fatal("there was no room")
	}
	return s
}

// read returns what the machine has written, a line a frame.
func (e *end) read() string {
	e.t.Helper()
	e.take()
	var out []string
	for e.back.Len() > 0 {
		f, err := e.reader.ReadFrame()
		if err != nil {
			e.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			line := "HEADERS"
			for _, h := range f.Fields {
				line += " " + h.Name + "=" + h.Value
			}
			out = append(out, line+ends(f.StreamEnded()))
		case *http2.DataFrame:
			out = append(out, fmt.Sprintf("DATA %x%s", f.Data(), ends(f.StreamEnded())))
		case *http2.RSTStreamFrame:
			out = append(out, "RST "+f.ErrCode.String())
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
		default:
			out = append(out, f.Header().Type.String())
		}
	}
	return strings.Join(out, "\n")
}

func ends(yes bool) string {
	if yes {
		return " END"
	}
	return ""
}

func (e *end) head() wire.RequestHead {
	e.t.Helper()
	e.feed()
	var h wire.RequestHead
	if len(e.events) != 1 || e.events[0].Kind != wire.EventRequest {
		e.t.Fatalf("events %v, answered\n%s", e.events, e.read())
	}
	if err := h.Parse(e.events[0].Frame.Head); err != nil || !h.FromSDK {
		e.t.Fatalf("the head: %v, from an SDK: %v", err, h.FromSDK)
	}
	return h
}

func entries(all []wire.Entry) (out []string) {
	for _, e := range all {
		out = append(out, string(e.Key)+"="+string(e.Value))
	}
	return out
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("%s\n got %s\nwant %s", what, g, w)
	}
}

func TestRequestBecomesOneFrame(t *testing.T) {
	e := newEnd(t, wire.Acceptor)
	e.request(false, "grpc-timeout", "250m", "grpc-encoding", "gzip", "grpc-accept-encoding", "identity,gzip",
		"a", "1", "b", "2", "a", "3", "x-bin", "AAE, /w==,AP8", "user-agent", "stock/1", "octo-lane", "forged",
		"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage", "lane=blue%20sky;p=1, octo-x=1")
	_ = e.WriteData(1, true, []byte("\x01\x00\x00\x00\x05hello"))
	h := e.head()
	f := e.events[0].Frame
	same(t, "flags", f.Flags, wire.FlagMessage|wire.FlagCompressed|wire.FlagEnd)
	same(t, "body", f.Body, []byte("hello"))
	same(t, "timeout", h.TimeoutUS, 250_000)
	same(t, "names", []string{string(h.Target), string(h.Service), string(h.Method), string(h.Path), string(h.Authority)},
		[]string{"thing", "octo.test.v1.Thing", "Do", "/octo.test.v1.Thing/Do", "thing.local:80"})
	same(t, "content type", h.ContentType, "application/grpc+proto")
	same(t, "encodings", [][]byte{h.MessageEncoding, h.AcceptedEncodings[0], h.AcceptedEncodings[1]}, []string{"gzip", "identity", "gzip"})
	same(t, "metadata", entries(h.Metadata), []string{"a=1", "b=2", "a=3", "x-bin=\x00\x01", "x-bin=\xff", "x-bin=\x00\xff", "user-agent=stock/1", "via=2 octo"})
	same(t, "baggage", entries(h.Baggage), []string{"lane=blue sky"})
	same(t, "trace", h.Traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
}

// TestPrefixAloneTakesNothingOfAnotherCall: clients write a message's prefix as a DATA frame of its own, and go on with another call.
func TestPrefixAloneTakesNothingOfAnotherCall(t *testing.T) {
	other := func(e *end, id uint32) {
		e.headers(id, false, ":method", "POST", ":scheme", "http", ":path", "/octo.test.v1.Thing/Do", ":authority", "thing", "content-type", "application/grpc")
	}
	for name, between := range map[string]func(*end){
		"a new call": func(e *end) { other(e, 5); _ = e.WriteData(5, true, []byte("\x00\x00\x00\x00\x05other")) },
		"its bytes":  func(e *end) { _ = e.WriteData(1, true, []byte("\x00\x00\x00\x00\x05other")) },
		"its end":    func(e *end) { _ = e.WriteRSTStream(1, http2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, wire.Acceptor)
			e.request(false)
			e.feed()
			other(e, 3)
			_ = e.WriteData(3, false, []byte("\x00\x00\x00\x00\x05"))
			between(e)
			_ = e.WriteData(3, true, []byte("hello"))
			e.feed()
			var bodies []string
			for _, ev := range e.events {
				if ev.Kind != wire.EventReset {
					bodies = append(bodies, fmt.Sprintf("%d %s", ev.Frame.Stream, ev.Frame.Body))
				} else {
					bodies = append(bodies, fmt.Sprintf("%d reset", ev.Frame.Stream))
				}
			}
			want := map[string][]string{
				"a new call": {"1 ", "3 ", "5 other", "3 hello"}, "its bytes": {"1 ", "3 ", "1 other", "3 hello"}, "its end": {"1 ", "3 ", "1 reset", "3 hello"},
			}
			same(t, "what came for which call", bodies, want[name])
			same(t, "answers", e.read(), "")
		})
	}
}

func TestTimeouts(t *testing.T) {
	for text, us := range map[string]uint64{
		"1n": 1, "1000n": 1, "1001n": 2, "7u": 7, "3m": 3000, "2S": 2e6, "1M": 60e6, "1H": 3600e6, "99999999H": 3153600000000000, "00000001S": 1e6,
	} {
		e := newEnd(t, wire.Acceptor)
		e.request(true, "grpc-timeout", text)
		if h := e.head(); h.TimeoutUS != us {
			t.Errorf("%s is %d µs, want %d", text, h.TimeoutUS, us)
		}
	}
	for us, text := range map[uint64]string{1: "1u", 99999999: "99999999u", 100000001: "100001m", 3153600000000000: "52560000M"} {
		e := newEnd(t, wire.Dialer)
		e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m"), TimeoutUS: us}, wire.FlagEnd, "")
		if got := e.read(); !strings.Contains(got+" ", " grpc-timeout="+text+" ") {
			t.Errorf("%d µs: %s", us, got)
		}
	}
}

func TestWhatIsNoCallIsAnsweredHere(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		answer string
	}{
		"GET":           {[]string{":method", "GET", ":scheme", "http", ":path", "/a/b"}, "HEADERS :status=405 END"},
		"JSON":          {[]string{":method", "POST", ":scheme", "http", ":path", "/a/b", "content-type", "application/json"}, "HEADERS :status=415 END"},
		"gRPC-Web":      {[]string{":method", "POST", ":scheme", "http", ":path", "/a/b", "content-type", "application/grpc-web"}, "HEADERS :status=415 END"},
		"no method":     {call("/a"), "HEADERS :status=200 content-type=application/grpc grpc-status=12 "},
		"bad timeout":   {call("/a/b", "grpc-timeout", "1x"), "HEADERS :status=200 content-type=application/grpc grpc-status=13 "},
		"long timeout":  {call("/a/b", "grpc-timeout", "123456789S"), "HEADERS :status=200 content-type=application/grpc grpc-status=13 "},
		"no time":       {call("/a/b", "grpc-timeout", "0S"), "HEADERS :status=200 content-type=application/grpc grpc-status=4 "},
		"broken base64": {call("/a/b", "x-bin", "%%"), "HEADERS :status=200 content-type=application/grpc grpc-status=13 "},
	} {
		e := newEnd(t, wire.Acceptor)
		e.headers(1, true, c.fields...)
		e.feed()
		if got := e.read(); !strings.HasPrefix(got, c.answer) || !strings.HasSuffix(got, " END") || len(e.events) > 0 || e.c.OpenStreams() != 0 {
			t.Errorf("%s: answered %q, events %v", name, got, e.events)
		} else if c.answer[len(c.answer)-1] == ' ' && !strings.Contains(got, "octo-origin=bridge") {
			t.Errorf("%s: %q does not say who spoke", name, got)
		}
	}
}

func call(path string, extra ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":path", path, "content-type", "application/grpc"}, extra...)
}

func TestAMessageInPiecesStaysInPieces(t *testing.T) {
	e := newEnd(t, wire.Acceptor)
	e.request(false)
	_ = e.WriteData(1, false, []byte("\x00\x00"))
	_ = e.WriteData(1, false, []byte("\x00\x00\x06ab"))
	_ = e.WriteData(1, false, []byte("cd"))
	_ = e.WriteData(1, false, []byte("ef\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01z"))
	_ = e.WriteData(1, true, nil)
	e.feed()
	var got []string
	for _, ev := range e.events {
		var h wire.ResponseHead
		if ev.Kind == wire.EventMessage && h.Parse(ev.Frame.Head) != nil {
			t.Fatal("a head that does not parse")
		}
		got = append(got, fmt.Sprintf("%v %x %s %d", ev.Kind, int(ev.Frame.Flags), ev.Frame.Body, h.TotalLength))
	}
	same(t, "events", got, []string{"request 0  0", "message a ab 6", "message a cd 0", "message 8 ef 0", "message 8  0", "message c z 0", "message 1  0"})
}

func TestBrokenMessagesEndTheCall(t *testing.T) {
	for name, data := range map[string]string{"a flag that is none": "\x02\x00\x00\x00\x00", "half a message": "\x00\x00\x00\x00\x05hel", "half a prefix": "\x00\x00"} {
		e := newEnd(t, wire.Acceptor)
		e.request(false)
		e.feed()
		_ = e.WriteData(1, true, []byte(data))
		e.feed()
		if last := e.events[len(e.events)-1]; last.Kind != wire.EventFailed || last.Call != e {
			t.Errorf("%s: %v", name, last.Kind)
		}
		if got := e.read(); !strings.Contains(got, "grpc-status=13 ") || !strings.HasSuffix(got, " END") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAnswers(t *testing.T) {
	details := []byte{8, 5, 255}
	ok := func(h wire.ResponseHead) []byte { return h.Append(nil) }
	failed := wire.Status{Code: 99, Message: []byte("é 100%\n"), Details: details, Origin: wire.OriginApplication}
	refused := wire.Refuse(wire.ReasonRateLimited, wire.OriginClientProxy, "enough")
	refused.RetryAfterMS = 30
	begin := "HEADERS :status=200 content-type=application/grpc+proto"
	for name, c := range map[string]struct {
		out  []wire.Out
		want string
	}{
		"unary": {
			[]wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("hi"), Head: ok(wire.ResponseHead{
				HeadersPresent: true, Metadata: []wire.Entry{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a-bin"), Value: []byte{255}}},
				Trailers: []wire.Entry{{Key: []byte("b"), Value: []byte("2")}, {Key: []byte("octo-x"), Value: []byte("forged")}, {Key: []byte("Bad"), Value: []byte("k")}},
			})}},
			begin + " a=1 a-bin=/w\nDATA 00000000026869\nHEADERS grpc-status=0 b=2 END",
		},
		"an empty message": {
			[]wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd}},
			begin + "\nDATA 0000000000\nHEADERS grpc-status=0 END",
		},
		"trailers only": {
			[]wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: ok(wire.ResponseHead{Status: failed})}},
			begin + " grpc-status=99 grpc-message=%C3%A9 100%25%0A grpc-status-details-bin=" + base64.RawStdEncoding.EncodeToString(details) + " END",
		},
		"headers and a status": {
			[]wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: ok(wire.ResponseHead{Status: wire.Status{Code: 5}, HeadersPresent: true})}},
			begin + "\nHEADERS grpc-status=5 END",
		},
		"a stream": {
			[]wire.Out{
				{Type: wire.TypeResponse, Head: ok(wire.ResponseHead{HeadersPresent: true, MessageEncoding: []byte("gzip")})},
				{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagCompressed, Body: []byte("a")},
				{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagMore, Head: wire.AppendTotalLength(nil, 3), Body: []byte("b")},
				{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: []byte("cd")},
				{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: ok(wire.ResponseHead{HeadersPresent: true})},
			},
			begin + " grpc-encoding=gzip\nDATA 010000000161\nDATA 000000000362\nDATA 6364\nHEADERS grpc-status=0 END",
		},
		"a message whose head comes last": {
			[]wire.Out{
				{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagMore | wire.FlagCompressed, Head: wire.AppendTotalLength(nil, 2), Body: []byte("a")},
				{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("b"), Head: ok(wire.ResponseHead{HeadersPresent: true, MessageEncoding: []byte("br")})},
			},
			begin + " grpc-encoding=br\nDATA 010000000261\nDATA 62\nHEADERS grpc-status=0 END",
		},
		"a refusal of the mesh": {
			[]wire.Out{{Type: wire.TypeReset, Head: (&wire.ResetHead{Status: refused}).Append(nil)}},
			begin + " grpc-status=8 grpc-message=enough octo-origin=client-proxy octo-reason=RATE_LIMITED grpc-retry-pushback-ms=30 END",
		},
		"a reset of the server": {
			[]wire.Out{{Type: wire.TypeReset, Head: (&wire.ResetHead{Status: wire.Status{Code: 8}, HTTP2Code: uint32(http2.ErrCodeEnhanceYourCalm)}).Append(nil)}},
			"RST ENHANCE_YOUR_CALM",
		},
	} {
		e := newEnd(t, wire.Acceptor)
		e.request(true, "grpc-accept-encoding", "identity,br")
		e.feed()
		s := e.calls[1]
		for i := range c.out {
			if o := &c.out[i]; o.Type == wire.TypeReset {
				e.c.ForwardReset(s, o.Head)
				e.c.Release()
			} else if !e.c.Send(s, o) {
				t.Fatalf("%s: there was no room", name)
			}
		}
		same(t, name, e.read(), c.want)
		if e.c.OpenStreams() != 0 || s.Call != nil {
			t.Errorf("%s: the stream is open still", name)
		}
	}
}

func TestTheAnswersEndGoesBehindAllOfIt(t *testing.T) {
	e := newEnd(t, wire.Acceptor)
	e.request(false) // the client has not half-closed
	_ = e.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
	e.feed()
	out := wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("hello")}
	if e.c.Send(e.calls[1], &out) {
		t.Fatal("it went beyond the window")
	}
	same(t, "first", e.read(), "HEADERS :status=200 content-type=application/grpc+proto\nDATA 00000000056865")
	e.events = nil
	_ = e.WriteWindowUpdate(1, 100)
	e.feed()
	if s := e.c.Turn(); len(e.events) > 0 || s != e.calls[1] || !e.c.Send(s, &out) || e.c.Turn() != nil {
		t.Fatalf("it is the turn of %v, after %v", s, e.events)
	}
	same(t, "then", e.read(), "DATA 6c6c6f\nHEADERS grpc-status=0 END\nRST NO_ERROR")
}

func TestCallsOfTheMeshReachAServer(t *testing.T) {
	e := newEnd(t, wire.Dialer)
	e.call(wire.RequestHead{
		Target: []byte("thing"), Service: []byte("pkg.S"), Method: []byte("M"), MessageEncoding: []byte("gzip"), AcceptedEncodings: [][]byte{[]byte("gzip"), []byte("br")},
		Metadata: []wire.Entry{{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("k-bin"), Value: []byte{0}}, {Key: []byte("octo-y"), Value: []byte("n")}, {Key: []byte("te"), Value: []byte("n")}},
		Baggage:  []wire.Entry{{Key: []byte("lane"), Value: []byte("a b")}}, Caller: []byte("web"),
	}, wire.FlagMessage|wire.FlagCompressed|wire.FlagEnd, "hi")
	same(t, "request", e.read(), "HEADERS :method=POST :scheme=http :path=/pkg.S/M :authority=thing content-type=application/grpc te=trailers grpc-encoding=gzip "+
		"grpc-accept-encoding=gzip,br baggage=lane=a%20b k=v k-bin=AA\nDATA 01000000026869 END")
	e.headers(1, false, ":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip", "h", "1")
	_ = e.WriteData(1, false, []byte("\x01\x00\x00\x00\x02ok"))
	e.headers(1, true, "grpc-status", "3", "grpc-message", "%E2%82%AC%zz", "grpc-status-details-bin", "CAX/", "t", "2", "octo-origin", "forged")
	e.feed()
	var kinds []string
	for _, ev := range e.events {
		kinds = append(kinds, fmt.Sprintf("%v %x %s", ev.Kind, int(ev.Frame.Flags), ev.Frame.Body))
	}
	same(t, "events", kinds, []string{"response 0 ", "message c ok", "response 1 "})
	var first, last wire.ResponseHead
	if first.Parse(e.events[0].Frame.Head) != nil || last.Parse(e.events[2].Frame.Head) != nil {
		t.Fatal("a head does not parse")
	}
	same(t, "headers", append(entries(first.Metadata), string(first.MessageEncoding), fmt.Sprint(first.HeadersPresent)), []string{"h=1", "gzip", "true"})
	same(t, "trailers", entries(last.Trailers), []string{"t=2"})
	st := last.Status
	same(t, "status", fmt.Sprintf("%v %s %x %v %v", st.Code, st.Message, st.Details, st.Origin, st.Disposition), "INVALID_ARGUMENT €%zz 0805ff APPLICATION PROCESSED")
	if e.c.OpenStreams() != 0 {
		t.Error("the stream is open still")
	}
}

func TestServersThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(e *end)
		want string
	}{
		"trailers only": {func(e *end) {
			e.headers(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "7")
		}, "response PERMISSION_DENIED PROCESSED 0"},
		"a page of an error": {func(e *end) {
			e.headers(1, false, ":status", "502", "content-type", "text/html")
			_ = e.WriteData(1, true, []byte("<p>"))
		}, "failed UNAVAILABLE UNKNOWN 0"},
		"not found": {func(e *end) { e.headers(1, true, ":status", "404") }, "failed UNIMPLEMENTED UNKNOWN 0"},
		"not gRPC":  {func(e *end) { e.headers(1, true, ":status", "200", "content-type", "text/html") }, "failed UNKNOWN UNKNOWN 0"},
		"no status": {func(e *end) { e.headers(1, true, ":status", "200", "content-type", "application/grpc") }, "response UNKNOWN UNKNOWN 0"},
		"no trailers": {func(e *end) {
			e.headers(1, false, ":status", "200", "content-type", "application/grpc")
			_ = e.WriteData(1, true, nil)
		}, "failed INTERNAL UNKNOWN 0"},
		"refused":   {func(e *end) { _ = e.WriteRSTStream(1, http2.ErrCodeRefusedStream) }, "reset UNAVAILABLE NOT_PROCESSED 7"},
		"calm":      {func(e *end) { _ = e.WriteRSTStream(1, http2.ErrCodeEnhanceYourCalm) }, "reset RESOURCE_EXHAUSTED UNKNOWN 11"},
		"cancelled": {func(e *end) { _ = e.WriteRSTStream(1, http2.ErrCodeCancel) }, "reset CANCELLED UNKNOWN 8"},
		"no error":  {func(e *end) { _ = e.WriteRSTStream(1, http2.ErrCodeNo) }, "reset INTERNAL UNKNOWN 0"},
		"it leaves": {func(e *end) { _ = e.WriteGoAway(0, http2.ErrCodeNo, nil) }, "goaway UNAVAILABLE NOT_PROCESSED 0"},
	} {
		e := newEnd(t, wire.Dialer)
		e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m")}, wire.FlagMessage, "x")
		c.say(e)
		e.feed()
		if len(e.events) == 0 {
			t.Errorf("%s: nothing was told", name)
			continue
		}
		first, last := e.events[0], e.events[len(e.events)-1]
		st := last.Status
		if last.Kind == wire.EventResponse {
			st = wire.ScanStatus(last.Frame.Head)
		}
		kind := first.Kind
		if name == "no trailers" {
			kind = last.Kind
		}
		same(t, name, fmt.Sprintf("%v %v %v %d", kind, st.Code, st.Disposition, last.HTTP2Code), c.want)
		if e.c.OpenStreams() != 0 || last.Call != e && last.Kind != wire.EventGoAway {
			t.Errorf("%s: %d streams are open, of call %v", name, e.c.OpenStreams(), last.Call)
		}
	}
}

// granted reads how many bytes the machine has granted to the stream.
func (e *end) granted() (n uint32) {
	e.t.Helper()
	e.take()
	for e.back.Len() > 0 {
		f, err := e.reader.ReadFrame()
		if err != nil {
			e.t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 1 {
			n += w.Increment
		}
	}
	return n
}

func TestLastMessageOfAnAnswerWithoutTrailersCounts(t *testing.T) {
	for name, split := range map[string]int{"in one piece": 10, "its prefix alone": 5, "in two": 7} {
		e := newEnd(t, wire.Dialer)
		e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m")}, wire.FlagMessage, "x")
		e.headers(1, false, ":status", "200", "content-type", "application/grpc")
		message := []byte("\x00\x00\x00\x00\x05hello")
		_ = e.WriteData(1, split == len(message), message[:split])
		if split < len(message) {
			_ = e.WriteData(1, true, message[split:])
		}
		e.feed()
		var got []string
		for _, ev := range e.events {
			got = append(got, fmt.Sprintf("%v %s %v", ev.Kind, ev.Frame.Body, ev.Frame.Flags&wire.FlagEnd != 0))
		}
		want := []string{"response  false", "message hello false", "failed  false"}
		if name == "in two" {
			want = []string{"response  false", "message he false", "message llo false", "failed  false"}
		}
		same(t, name, got, want)
		if e.c.OpenStreams() != 0 || e.events[len(e.events)-1].Status.Code != wire.Internal {
			t.Errorf("%s: %d streams are open, and the call ended by %v", name, e.c.OpenStreams(), e.events[len(e.events)-1].Status)
		}
	}
}

func TestCreditGoesBackAsBytesLeave(t *testing.T) {
	e := newEnd(t, wire.Acceptor)
	e.request(false)
	message := append([]byte{0, 0, 0, 0xc0, 0}, make([]byte, 48<<10)...)
	for n := range 4 {
		for rest := message; len(rest) > 0; {
			k := min(len(rest), 16384)
			_ = e.WriteData(1, false, rest[:k])
			rest = rest[k:]
		}
		e.feed()
		if got := e.granted(); n == 0 && got != 192<<10 || n > 0 && got != 0 {
			t.Fatalf("with message %d, of which nothing has left, %d bytes were granted", n, got)
		}
	}
	var cost int64
	for _, ev := range e.events {
		if ev.Frame.Has(wire.FlagMessage) {
			cost += ev.Frame.Cost()
		}
	}
	e.c.Consume(e.calls[1], cost/4)
	if got := e.granted(); got != 0 {
		t.Errorf("%d bytes were granted for a quarter", got)
	}
	e.c.Consume(e.calls[1], cost/2)
	e.c.Consume(e.calls[1], cost-cost/4-cost/2)
	if got, all := e.granted(), uint32(4*len(message)); got < all/2 || got > all {
		t.Errorf("%d bytes were granted for %d", got, all)
	}
}
