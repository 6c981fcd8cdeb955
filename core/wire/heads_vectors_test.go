package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
)

// fields is a head as head.json renders it: proto names, defaults left out.
type fields map[string]any

func (f fields) text(name string, b []byte) {
	if len(b) > 0 {
		f[name] = hex.EncodeToString(b)
	}
}

func (f fields) texts(name string, list [][]byte) {
	var out []any
	for _, b := range list {
		out = append(out, hex.EncodeToString(b))
	}
	if out != nil {
		f[name] = out
	}
}

func (f fields) strings(name string, list []string) {
	var out [][]byte
	for _, s := range list {
		out = append(out, []byte(s))
	}
	f.texts(name, out)
}

func (f fields) number(name string, n int64) {
	if n != 0 {
		f[name] = float64(n)
	}
}

func (f fields) big(name string, n uint64) {
	if n != 0 {
		f[name] = fmt.Sprint(n)
	}
}

func (f fields) bool(name string, b bool) {
	if b {
		f[name] = true
	}
}

func (f fields) entries(name string, list []wire.Entry) {
	var out []any
	for _, e := range list {
		entry := fields{}
		entry.text("key", e.Key)
		entry.text("value", e.Value)
		out = append(out, map[string]any(entry))
	}
	if out != nil {
		f[name] = out
	}
}

func (f fields) message(name string, m fields) {
	if len(m) > 0 {
		f[name] = map[string]any(m)
	}
}

func requestFields(h *wire.RequestHead) fields {
	f := fields{}
	f.big("timeout_us", h.TimeoutUS)
	f.big("total_length", h.TotalLength)
	f.text("target", h.Target)
	f.text("service", h.Service)
	f.text("method", h.Method)
	f.number("call_kind", int64(h.Kind))
	f.entries("metadata", h.Metadata)
	f.text("traceparent", h.Traceparent)
	f.text("tracestate", h.Tracestate)
	f.entries("baggage", h.Baggage)
	f.text("hash_key", h.HashKey)
	f.number("attempt", int64(h.Attempt))
	f.text("call_id", h.CallID)
	f.bool("idempotent", h.Idempotent)
	f.text("message_encoding", h.MessageEncoding)
	f.texts("accepted_encodings", h.AcceptedEncodings)
	f.text("content_type", h.ContentType)
	f.text("authority", h.Authority)
	f.text("path", h.Path)
	f.bool("want_timings", h.WantTimings)
	f.text("hop_caller", h.Caller)
	f.text("hop_verified_caller", h.VerifiedCaller)
	f.text("hop_lane", h.Lane)
	return f
}

func responseFields(h *wire.ResponseHead) fields {
	f := fields{}
	f.message("status", statusFields(&h.Status))
	f.big("total_length", h.TotalLength)
	f.text("message_encoding", h.MessageEncoding)
	f.texts("accepted_encodings", h.AcceptedEncodings)
	f.text("content_type", h.ContentType)
	f.bool("headers_present", h.HeadersPresent)
	f.entries("metadata", h.Metadata)
	f.entries("trailers", h.Trailers)
	f.text("hop_timings", h.Timings)
	return f
}

func statusFields(s *wire.Status) fields {
	f := fields{}
	f.number("code", int64(s.Code))
	f.number("reason", int64(s.Reason))
	f.text("message", s.Message)
	f.text("details_bin", s.Details)
	f.number("origin", int64(s.Origin))
	f.number("disposition", int64(s.Disposition))
	f.number("retry_after_ms", int64(s.RetryAfterMS))
	return f
}

func limitFields(l wire.Limits) fields {
	f := fields{}
	f.number("max_streams", int64(l.MaxStreams))
	f.number("stream_window", int64(l.StreamWindow))
	f.number("max_frame_body", int64(l.MaxFrameBody))
	return f
}

func helloFields(h *wire.Hello) fields {
	f := fields{}
	f.number("lowest_version", int64(h.LowestVersion))
	f.number("highest_version", int64(h.HighestVersion))
	f.number("role", int64(h.Role))
	f.number("kind", int64(h.Kind))
	f.text("sdk", []byte(h.SDK))
	f.text("sdk_version", []byte(h.SDKVersion))
	f.text("environment", []byte(h.Environment))
	f.text("application", []byte(h.Application))
	f.text("instance", []byte(h.Instance))
	f.big("incarnation", h.Incarnation)
	f.strings("targets", h.Targets)
	f.message("limits", limitFields(h.Limits))
	f.strings("features", h.Features)
	f.text("credentials", []byte(h.Credentials))
	return f
}

func welcomeFields(w *wire.Welcome) fields {
	f := fields{}
	f.number("version", int64(w.Version))
	f.number("kind", int64(w.Kind))
	f.text("instance", []byte(w.Instance))
	f.big("incarnation", w.Incarnation)
	f.message("limits", limitFields(w.Limits))
	f.strings("features", w.Features)
	f.text("software_version", []byte(w.SoftwareVersion))
	return f
}

func goAwayFields(g *wire.GoAway) fields {
	f := fields{}
	f.number("code", int64(g.Code))
	f.number("last", int64(g.Last))
	f.bool("final", g.Final)
	f.text("message", []byte(g.Message))
	f.big("offset", g.Offset)
	f.number("retry_after_ms", int64(g.RetryAfterMS))
	return f
}

// readHead parses a head and writes it again.
func readHead(kind string, b []byte) (got fields, again []byte, err error) {
	switch kind {
	case "RequestHead":
		var h wire.RequestHead
		err = h.Parse(b)
		return requestFields(&h), h.Append(nil), err
	case "ResponseHead":
		var h wire.ResponseHead
		err = h.Parse(b)
		return responseFields(&h), h.Append(nil), err
	case "Reset":
		var h wire.ResetHead
		err = h.Parse(b)
		got = fields{}
		got.message("status", statusFields(&h.Status))
		got.number("http2_code", int64(h.HTTP2Code))
		return got, h.Append(nil), err
	case "Hello":
		var h wire.Hello
		err = h.Parse(b)
		return helloFields(&h), h.Append(nil), err
	case "Welcome":
		var h wire.Welcome
		err = h.Parse(b)
		return welcomeFields(&h), h.Append(nil), err
	case "GoAway":
		var h wire.GoAway
		err = h.Parse(b)
		return goAwayFields(&h), h.Append(nil), err
	}
	var h wire.Status
	err = h.Parse(b)
	return statusFields(&h), h.Append(nil), err
}

type headResult struct {
	Valid, Canonical bool
	Fields           map[string]any
}

func checkHead(t *testing.T, v vector, kind string) {
	t.Helper()
	input := in[struct{ Bytes hexBytes }](t, v.Input)
	want := in[headResult](t, v.Result)
	got, again, err := readHead(kind, input.Bytes)
	if !want.Valid {
		if err == nil {
			t.Errorf("parsed as %v", got)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(map[string]any(got), want.Fields) {
		t.Errorf("got  %v\nwant %v", got, want.Fields)
	}
	if want.Canonical && !bytes.Equal(again, input.Bytes) {
		t.Errorf("writes %x\nwant   %x", again, []byte(input.Bytes))
	}
}

func TestHeadVectors(t *testing.T) {
	eachVector(t, "head.json", func(t *testing.T, v vector) {
		if v.Kind == "MessageHead" {
			checkMessageHead(t, v)
			return
		}
		checkHead(t, v, v.Kind)
	})
}

// checkMessageHead reads total_length where a connection does: on a first fragment.
func checkMessageHead(t *testing.T, v vector) {
	t.Helper()
	input := in[struct{ Bytes hexBytes }](t, v.Input)
	want := in[headResult](t, v.Result)
	c := accepting(wire.Limits{})
	var ev wire.Event
	feed(t, c, &ev, wire.Header{Type: wire.TypeRequest, Stream: 1}.Append(nil))
	f := wire.Header{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagMore, Stream: 1, HeadLen: uint16(len(input.Bytes))}
	feed(t, c, &ev, append(f.Append(nil), input.Bytes...))
	total, has := want.Fields["total_length"]
	switch {
	case !want.Valid:
		if ev.Kind != wire.EventFailed || ev.Status.Reason != wire.ReasonBadHead {
			t.Errorf("event %v, %v", ev.Kind, ev.Status.Reason)
		}
	case !has:
		if ev.Kind != wire.EventFailed || ev.Status.Reason != wire.ReasonStreamProtocol {
			t.Errorf("event %v, %v", ev.Kind, ev.Status.Reason)
		}
	case ev.Kind != wire.EventMessage || fmt.Sprint(ev.Stream.MessageTotal()) != total:
		t.Errorf("event %v, total %d, want %v", ev.Kind, ev.Stream.MessageTotal(), total)
	}
}

func feed(t *testing.T, c *wire.Conn, ev *wire.Event, b []byte) {
	t.Helper()
	if n, err := c.Feed(b, ev); err != nil || n != len(b) {
		t.Fatalf("Feed took %d of %d bytes: %v", n, len(b), err)
	}
}

func TestStatusVectors(t *testing.T) {
	eachVector(t, "status.json", func(t *testing.T, v vector) {
		input := in[struct {
			Number       int64
			Dispositions []wire.Disposition
			Reason       uint32
			Disposition  wire.Disposition
		}](t, v.Input)
		want := in[struct {
			Name        string
			Code        wire.Code
			Disposition wire.Disposition
			Path        bool
			OtherPath   bool `json:"other_path"`
		}](t, v.Result)
		switch v.Kind {
		case "code":
			same(t, wire.Code(input.Number).String(), want.Name)
		case "origin":
			same(t, wire.Origin(input.Number).String(), want.Name)
		case "disposition":
			same(t, wire.Disposition(input.Number).String(), want.Name)
		case "reason":
			same(t, wire.Reason(input.Number).String(), want.Name)
			got := wire.Reason(input.Number).Rule()
			if got.Code != want.Code || got.Disposition != want.Disposition || got.Path != want.Path {
				t.Errorf("got %+v, want %+v", got, want)
			}
		case "status":
			checkHead(t, v, "Status")
		case "worst":
			d := input.Dispositions[0]
			for _, o := range input.Dispositions[1:] {
				d = d.Worse(o)
			}
			same(t, d, want.Disposition)
		case "again":
			same(t, wire.Reason(input.Reason).Rule().Path && input.Disposition == wire.DispositionNotProcessed, want.OtherPath)
		}
	})
}

func same[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPatchVectors(t *testing.T) {
	eachVector(t, "patch.json", func(t *testing.T, v vector) {
		switch v.Kind {
		case "patch":
			checkPatch(t, v)
		case "effective":
			checkEffective(t, v)
		case "admit":
			checkAdmission(t, v)
		case "overflow":
			t.Skip("a hop's rule")
		}
	})
}

func checkPatch(t *testing.T, v vector) {
	t.Helper()
	input := in[struct {
		Head        hexBytes
		TimeoutUS   decimal `json:"timeout_us"`
		TotalLength decimal `json:"total_length"`
		Append      []struct {
			Number uint32
			Bytes  hexBytes
			Varint *decimal
		}
	}](t, v.Input)
	want := in[struct{ Head hexBytes }](t, v.Result)
	var h wire.RequestHead
	if err := h.Parse(input.Head); err != nil {
		t.Fatal(err)
	}
	var pre, post []byte
	if input.TimeoutUS != 0 {
		pre, post = h.PatchTimeout(input.Head, uint64(input.TimeoutUS), nil, nil)
	}
	for _, f := range input.Append {
		if f.Varint != nil {
			post = wire.AppendHopNumber(post, f.Number, uint64(*f.Varint))
		} else {
			post = wire.AppendHop(post, f.Number, []byte(f.Bytes))
		}
	}
	if input.TotalLength != 0 {
		post = wire.AppendTotalLength(post, uint64(input.TotalLength))
	}
	if got := bytes.Join([][]byte{pre, input.Head, post}, nil); !bytes.Equal(got, want.Head) {
		t.Errorf("got  %x\nwant %x", got, []byte(want.Head))
	}
}

func checkEffective(t *testing.T, v vector) {
	t.Helper()
	input := in[struct{ Head hexBytes }](t, v.Input)
	want := in[struct {
		TimeoutUS      decimal `json:"timeout_us"`
		TotalLength    decimal `json:"total_length"`
		Attempt        uint32
		Traceparent    hexBytes
		Caller, Lane   hexBytes
		VerifiedCaller *hexBytes `json:"verified_caller"`
		Target         *hexBytes
		Shadow         bool
	}](t, v.Result)
	var h wire.RequestHead
	if err := h.Parse(input.Head); err != nil {
		t.Fatal(err)
	}
	same(t, decimal(h.TimeoutUS), want.TimeoutUS)
	same(t, decimal(h.TotalLength), want.TotalLength)
	same(t, h.Attempt, want.Attempt)
	same(t, string(h.Traceparent), string(want.Traceparent))
	same(t, string(h.Caller), string(want.Caller))
	same(t, string(h.Lane), string(want.Lane))
	same(t, h.Shadow, want.Shadow)
	if want.Target != nil {
		same(t, string(h.Target), string(*want.Target))
	}
	same(t, h.HasVerifiedCaller, want.VerifiedCaller != nil)
	if want.VerifiedCaller != nil {
		same(t, string(h.VerifiedCaller), string(*want.VerifiedCaller))
	}
}

func checkAdmission(t *testing.T, v vector) {
	t.Helper()
	input := in[struct {
		Head    chunks
		From    string
		Message string
	}](t, v.Input)
	want := in[struct {
		OK     bool
		Reason wire.Reason
	}](t, v.Result)
	head := input.Head.bytes()
	var h wire.RequestHead
	err := h.Parse(head)
	got := wire.ReasonUnspecified
	switch {
	case input.From == "sdk" && len(head) > wire.MaxSDKHead:
		got = wire.ReasonHeadTooLarge
	case err != nil || input.From == "sdk" && !h.FromSDK:
		got = wire.ReasonBadHead
	}
	same(t, got, want.Reason)
}

func TestWindowVectors(t *testing.T) {
	eachVector(t, "window.json", func(t *testing.T, v vector) {
		switch v.Kind {
		case "limits":
			type declared struct {
				MaxStreams   uint32 `json:"max_streams"`
				StreamWindow uint32 `json:"stream_window"`
				MaxFrameBody uint32 `json:"max_frame_body"`
			}
			same(t, declared(wire.Limits(in[declared](t, v.Input)).Normalize()), in[declared](t, v.Result))
		case "sender":
			t.Skip("starts with less credit than a stream has: machine/credit.json has a connection's side")
		case "assembler":
			t.Skip("an end's rule")
		case "receiver":
			checkReceiver(t, v.Input, v.Result)
		}
	})
}

func checkReceiver(t *testing.T, input, result json.RawMessage) {
	t.Helper()
	script := in[struct {
		StreamWindow uint32 `json:"stream_window"`
		Steps        []struct {
			Receive, Consume *int
			End              bool
		}
	}](t, input)
	want := in[struct {
		Steps []struct {
			Grant int
			Error string
		}
	}](t, result)
	c := accepting(wire.Limits{StreamWindow: script.StreamWindow})
	var ev wire.Event
	feed(t, c, &ev, wire.Header{Type: wire.TypeRequest, Stream: 1}.Append(nil))
	s := ev.Stream
	for i, step := range script.Steps {
		h := wire.Header{Type: wire.TypeMessage, Stream: 1}
		switch {
		case step.Consume != nil:
			c.Consume(s, int64(*step.Consume))
		case step.End:
			h.Flags = wire.FlagEnd
			feed(t, c, &ev, h.Append(nil))
		default:
			h.Flags, h.BodyLen = wire.FlagMessage, uint32(*step.Receive)
			feed(t, c, &ev, append(h.Append(nil), make([]byte, *step.Receive)...))
			if (ev.Kind == wire.EventFailed) != (want.Steps[i].Error != "") {
				t.Fatalf("step %d: %v", i, ev.Kind)
			}
			if ev.Kind == wire.EventFailed {
				return
			}
		}
		granted := 0
		if out := c.Take(nil); len(out) > 0 {
			granted = int(out[16])<<24 | int(out[17])<<16 | int(out[18])<<8 | int(out[19])
		}
		if granted != want.Steps[i].Grant {
			t.Fatalf("step %d: granted %d, want %d", i, granted, want.Steps[i].Grant)
		}
	}
}
