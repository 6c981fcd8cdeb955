package wire_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"

	"github.com/octomesh/octomesh/core/wire"
)

func TestMachineVectors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorsDir, "machine", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no machine vectors: %v", err)
	}
	for _, path := range files {
		eachVector(t, filepath.Join("machine", filepath.Base(path)), func(t *testing.T, v vector) {
			p := newPlayer(t, v.Input)
			for i, s := range in[struct{ Steps []machineStep }](t, v.Result).Steps {
				p.play(i, s)
			}
		})
	}
}

type machineStep struct {
	Note    string
	Event   map[string]json.RawMessage
	Hold    bool
	Actions []expected
}

// call is what the player keeps in Stream.Call.
type call struct{ id uint32 }

// player is the owner of a connection: it does what a script says and notes what the connection does.
type player struct {
	t       *testing.T
	conn    *wire.Conn
	dialer  bool
	streams map[uint32]*wire.Stream
	waiting map[uint32]*wire.Out
	closed  bool
	in      []byte
	ev      wire.Event
	did     observed
}

func newPlayer(t *testing.T, input json.RawMessage) *player {
	type limits struct {
		MaxStreams   uint32 `json:"max_streams"`
		StreamWindow uint32 `json:"stream_window"`
		MaxFrameBody uint32 `json:"max_frame_body"`
	}
	setup := in[struct {
		Side, Role    string
		Local, Peer   limits
		SkipHandshake bool `json:"skip_handshake"`
	}](t, input)
	cfg := wire.Config{Side: wire.Acceptor, Local: wire.Limits(setup.Local), Origin: wire.OriginServerProxy}
	if setup.Side == "dialer" {
		cfg.Side = wire.Dialer
	}
	p := &player{
		t: t, conn: wire.NewConn(cfg), dialer: setup.Side == "dialer",
		streams: map[uint32]*wire.Stream{}, waiting: map[uint32]*wire.Out{},
	}
	if setup.SkipHandshake {
		p.conn.Resume(map[string]wire.Role{"call": wire.RoleCall, "serve": wire.RoleServe}[setup.Role], wire.Limits(setup.Peer))
	}
	return p
}

func (p *player) play(i int, s machineStep) {
	p.t.Helper()
	for name, with := range s.Event {
		if name == "receive" {
			p.receive(in[chunks](p.t, with).bytes())
		} else {
			p.act(name, in[eventInput](p.t, with))
		}
	}
	if !p.closed && (p.conn.Closed() || p.conn.Done() && p.dialer) {
		p.closed, p.did.close = true, true
	}
	if !s.Hold {
		p.did.writes = append(p.did.writes, parseFrames(p.t, p.conn.Take(nil))...)
	}
	p.did.check(p.t, fmt.Sprintf("step %d %s", i, s.Note), s.Actions)
	p.did = observed{}
}

// eventInput is what any event of the owner may carry.
type eventInput struct {
	Role        wire.Role
	Type        string
	Stream      uint32
	Flags       wire.Flags
	Head        hexBytes
	BodyLen     int `json:"body_len"`
	Cost        int64
	Code        int32
	Reason      wire.Reason
	Disposition wire.Disposition
	Payload     hexBytes
	Unwritten   bool
	Calls       int
}

func (p *player) act(name string, e eventInput) {
	p.t.Helper()
	goAway := wire.GoAwayCode(e.Code)
	switch name {
	case "hello":
		p.conn.Hello(wire.Hello{Role: e.Role})
	case "accept":
		p.conn.Welcome(wire.Welcome{})
	case "refuse":
		p.conn.Refuse(wire.GoAway{Code: goAway})
	case "open":
		p.open(e)
	case "send":
		types := map[string]wire.Type{"REQUEST": wire.TypeRequest, "RESPONSE": wire.TypeResponse, "MESSAGE": wire.TypeMessage}
		p.send(e.Stream, &wire.Out{Type: types[e.Type], Flags: e.Flags, Head: e.Head, Body: make([]byte, e.BodyLen)})
	case "consume":
		p.conn.Consume(p.stream(e.Stream), e.Cost)
	case "reset":
		p.conn.Reset(p.stream(e.Stream), &wire.ResetHead{Status: wire.Status{Code: wire.Code(e.Code), Reason: e.Reason, Disposition: e.Disposition}})
		p.forget(e.Stream)
	case "started":
		p.conn.Started(p.stream(e.Stream))
	case "released":
		p.conn.Release()
	case "leave":
		p.conn.Leave(goAway, "")
	case "final":
		p.conn.Finish(goAway, "", p.ended)
	case "drained":
		p.conn.Drained()
	case "ping":
		p.conn.Ping(binary.BigEndian.Uint64(e.Payload))
	case "tick":
		p.conn.Tick()
	case "cancels":
		p.cancels(e.Calls)
	case "lost":
		p.conn.Lost(e.Unwritten, p.ended)
	default:
		p.t.Fatalf("unknown event %s", name)
	}
}

func (p *player) stream(id uint32) *wire.Stream {
	p.t.Helper()
	s := p.streams[id]
	if s == nil {
		p.t.Fatalf("stream %d is not open", id)
	}
	return s
}

func (p *player) forget(id uint32) {
	delete(p.streams, id)
	delete(p.waiting, id)
}

func (p *player) open(e eventInput) {
	c := new(call)
	s, err := p.conn.Open(c)
	switch err {
	case nil:
		c.id, p.streams[s.ID] = s.ID, s
		p.send(s.ID, &wire.Out{Type: wire.TypeRequest, Flags: e.Flags, Head: e.Head, Body: make([]byte, e.BodyLen)})
	case wire.ErrStreamLimit:
		p.did.refused = "stream_limit"
	default:
		p.did.refused = "not_open"
	}
}

// cancels opens and cancels unary calls. A REQUEST and a RESET go out for each.
func (p *player) cancels(calls int) {
	p.t.Helper()
	for range calls {
		s, err := p.conn.Open(new(call))
		if err != nil {
			p.t.Fatal(err)
		}
		id := s.ID
		p.conn.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte{0}})
		p.conn.Reset(s, &wire.ResetHead{Status: wire.Status{Code: wire.Cancelled, Reason: wire.ReasonCancelled}})
		out := parseFrames(p.t, p.conn.Take(nil))
		if len(out) != 2 || out[0]["type"] != "REQUEST" || out[1]["type"] != "RESET" || out[0].stream() != int64(id) || out[1].stream() != int64(id) {
			p.t.Fatalf("a call that was cancelled has written %v", out)
		}
	}
}

func (p *player) send(id uint32, o *wire.Out) {
	p.t.Helper()
	final := o.Type == wire.TypeResponse && o.Flags&wire.FlagEnd != 0
	if !p.conn.Send(p.stream(id), o) {
		p.waiting[id] = o
		p.did.blocked = append(p.did.blocked, id)
		return
	}
	delete(p.waiting, id)
	if final {
		p.forget(id)
	}
}

func (p *player) ended(c any, st wire.Status) {
	id := c.(*call).id
	p.forget(id)
	p.did.ended = append(p.did.ended, observation{"stream": id, "code": st.Code, "reason": st.Reason, "disposition": st.Disposition})
}

func (p *player) receive(b []byte) {
	p.in = append(p.in, b...)
	for len(p.in) > 0 {
		n, err := p.conn.Feed(p.in, &p.ev)
		if err != nil {
			p.in = nil
			p.conn.Abort(p.ended)
			return
		}
		if n == 0 {
			return
		}
		p.in = p.in[n:]
		p.note(&p.ev)
	}
}

// note writes down what a frame meant and does what every owner does then.
func (p *player) note(ev *wire.Event) {
	o := observation{"kind": ev.Kind.String()}
	switch ev.Kind {
	case wire.EventNone:
		return
	case wire.EventHello:
		o["role"] = ev.Hello.Role
	case wire.EventWelcome:
		o["version"] = ev.Welcome.Version
	case wire.EventRequest, wire.EventResponse, wire.EventMessage:
		o["stream"], o["flags"], o["body_len"] = ev.Frame.Stream, ev.Frame.Flags, len(ev.Frame.Body)
	case wire.EventReset, wire.EventFailed:
		o["stream"], o["code"], o["reason"], o["disposition"] = ev.Frame.Stream, ev.Status.Code, ev.Status.Reason, ev.Status.Disposition
		o["http2_code"] = ev.HTTP2Code
	case wire.EventCredit:
		o["stream"] = ev.Frame.Stream
	case wire.EventPong:
		o["payload"] = fmt.Sprintf("%016x", ev.Pong)
	case wire.EventGoAway:
		o["code"], o["last"], o["final"] = ev.GoAway.Code, ev.GoAway.Last, ev.GoAway.Final
	}
	p.did.delivers = append(p.did.delivers, o)
	id := ev.Frame.Stream
	switch {
	case ev.Kind == wire.EventRequest:
		ev.Stream.Call = &call{id}
		p.streams[id] = ev.Stream
	case ev.Kind == wire.EventReset, ev.Kind == wire.EventFailed, ev.Kind == wire.EventResponse && ev.Frame.Has(wire.FlagEnd):
		p.forget(id)
	case ev.Kind == wire.EventCredit && p.waiting[id] != nil:
		p.send(id, p.waiting[id])
		p.did.blocked = nil
	case ev.Kind == wire.EventGoAway && (p.conn.Closed() || ev.GoAway.Final && p.conn.Opens()):
		p.conn.Abort(p.ended)
	}
}

// parseFrames reads written frames by protobuf's own library, not by the package under test.
func parseFrames(t *testing.T, b []byte) []observation {
	t.Helper()
	names := map[byte]string{
		1: "HELLO", 2: "WELCOME", 3: "PING", 4: "PONG", 5: "GOAWAY", 6: "DRAINED",
		16: "REQUEST", 17: "RESPONSE", 18: "MESSAGE", 19: "WINDOW", 20: "RESET",
	}
	var out []observation
	for len(b) > 0 {
		headEnd := 16 + int(binary.BigEndian.Uint16(b[6:]))
		end := headEnd + int(binary.BigEndian.Uint32(b[12:]))
		head, body := b[16:headEnd], b[headEnd:end]
		o := observation{
			"type": names[b[3]], "flags": b[4], "stream": binary.BigEndian.Uint32(b[8:]), "body_len": len(body),
		}
		if b[0] != 0x0c || b[1] != 0x70 || b[2] != 1 || b[5] != 0 {
			t.Fatalf("a header of %x", b[:16])
		}
		parseWritten(t, o, head, body)
		out = append(out, o)
		b = b[end:]
	}
	return out
}

func parseWritten(t *testing.T, o observation, head, body []byte) {
	t.Helper()
	unmarshal := func(m proto.Message) {
		if err := proto.Unmarshal(head, m); err != nil {
			t.Fatalf("%v: %v", o["type"], err)
		}
	}
	switch o["type"] {
	case "HELLO":
		var m wirev1.Hello
		unmarshal(&m)
		o["lowest_version"], o["highest_version"], o["role"] = m.LowestVersion, m.HighestVersion, int32(m.Role)
	case "WELCOME":
		var m wirev1.Welcome
		unmarshal(&m)
		o["version"] = m.Version
	case "GOAWAY":
		var m wirev1.GoAway
		unmarshal(&m)
		o["code"], o["last"], o["final"], o["offset"] = int32(m.Code), m.Last, m.Final, m.Offset
	case "RESET":
		var m wirev1.Reset
		unmarshal(&m)
		o["code"], o["reason"], o["disposition"] = m.Status.GetCode(), int32(m.Status.GetReason()), int32(m.Status.GetDisposition())
	case "PING", "PONG":
		o["payload"] = hex.EncodeToString(body)
	case "WINDOW":
		o["credit"] = binary.BigEndian.Uint32(body)
	default:
		var m wirev1.ResponseHead // total_length has one number in all three heads
		if o["type"] == "REQUEST" {
			var r wirev1.RequestHead
			unmarshal(&r)
			m.TotalLength = r.TotalLength
		} else {
			unmarshal(&m)
		}
		o["total_length"], o["head"], o["last_head"] = m.TotalLength, hex.EncodeToString(head), hex.EncodeToString(head)
	}
}
