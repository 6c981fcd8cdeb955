package grpc_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
)

// kept are the names that are no metadata: the mesh's own, gRPC's and HTTP's, each with a value that it could have. None may pass
// from one side to the other as if somebody had said it who has not.
var kept = []struct{ name, value string }{
	{"octo-origin", "server-proxy"}, {"octo-reason", "AUTH_DENIED"}, {"octo-", "x"}, {"octo-caller", "root"}, {"octo-lane-bin", "AA"}, {"octo-anything", "x"},
	{"te", "trailers"}, {"host", "elsewhere"}, {"content-length", "0"}, {"content-type", "application/grpc"},
	{"grpc-timeout", "1H"}, {"grpc-encoding", "identity"}, {"grpc-accept-encoding", "identity"}, {"grpc-status", "0"}, {"grpc-message", "m"}, {"grpc-status-details-bin", "CAA"},
	{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"tracestate", "a=b"}, {"baggage", "octo-lane=blue"},
}

// not are names and values that metadata cannot have (W-HEAD-8).
var not = []struct{ name, value string }{
	{"a!b", "x"}, {"a'b", "x"}, {"a|b", "x"}, {"latin", "\xe4"}, {"utf", "ü"}, {"tab", "a\tb"}, {"control", "a\x01"},
}

func foreignFields() (all []string) {
	for _, f := range append(kept[:len(kept):len(kept)], not...) {
		all = append(all, f.name, f.value)
	}
	return append(all, "own", "word")
}

func meshEntries() (all []wire.Entry) {
	for _, f := range append(kept[:len(kept):len(kept)], not...) {
		all = append(all, wire.Entry{Key: []byte(f.name), Value: []byte(f.value)})
	}
	for _, name := range []string{":path", ":authority", ":method", ":scheme", ":status", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "Upper", ""} {
		all = append(all, wire.Entry{Key: []byte(name), Value: []byte("x")})
	}
	return append(all, wire.Entry{Key: []byte("own"), Value: []byte("word")})
}

// TestClientsCannotSpeakInTheMeshsName: what a gRPC client sends under a kept name is no metadata of the call, and nothing that it
// sends is a hop's word.
func TestClientsCannotSpeakInTheMeshsName(t *testing.T) {
	e := newEnd(t, wire.Acceptor)
	e.headers(1, true, append([]string{":method", "POST", ":scheme", "http", ":path", "/octo.test.v1.Thing/Do", ":authority", "thing", "content-type", "application/grpc"}, foreignFields()...)...)
	e.feed()
	if len(e.events) != 1 || e.events[0].Kind != wire.EventRequest {
		t.Fatalf("%v, answered %q", e.events, e.read())
	}
	var h wire.RequestHead
	if err := h.Parse(e.events[0].Frame.Head); err != nil {
		t.Fatal(err)
	}
	same(t, "metadata", entries(h.Metadata), []string{"own=word", "via=2 octo"})
	if len(h.Baggage) > 0 {
		t.Errorf("baggage %v", entries(h.Baggage))
	}
	if !h.FromSDK || h.HasVerifiedCaller || h.Shadow || len(h.Caller)+len(h.VerifiedCaller)+len(h.Lane)+len(h.CallID)+len(h.HashKey) > 0 || h.Attempt > 0 || h.Idempotent {
		t.Errorf("a hop's word, or the SDK's, in %+v", h)
	}
}

// TestServersCannotSpeakInTheMeshsName is the same of answers: initial metadata, trailers, and both at once.
func TestServersCannotSpeakInTheMeshsName(t *testing.T) {
	for _, code := range []string{"0", "7"} {
		for name, say := range map[string]func(*end){
			"headers and trailers": func(e *end) {
				e.headers(1, false, append([]string{":status", "200"}, foreignFields()...)...)
				e.headers(1, true, append(foreignFields(), "grpc-status", code)...)
			},
			"trailers only": func(e *end) {
				e.headers(1, true, append(append([]string{":status", "200"}, foreignFields()...), "grpc-status", code)...)
			},
		} {
			e := newEnd(t, wire.Dialer)
			e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m")}, wire.FlagMessage|wire.FlagEnd, "x")
			say(e)
			e.feed()
			if len(e.events) == 0 {
				t.Fatalf("%s: nothing was told", name)
			}
			for i, ev := range e.events {
				var h wire.ResponseHead
				if ev.Kind != wire.EventResponse || h.Parse(ev.Frame.Head) != nil {
					t.Fatalf("%s: %v", name, ev)
				}
				if i == 0 && name != "trailers only" {
					same(t, name, entries(h.Metadata), []string{"own=word"})
					continue
				}
				same(t, name, entries(h.Trailers), []string{"own=word"})
				if st := h.Status; st.Origin > wire.OriginApplication || st.Reason != 0 || len(h.Timings) > 0 {
					t.Errorf("%s: it ends with %v", name, st)
				}
			}
		}
	}
}

// TestTheMeshsUsersCannotSpeakInGRPCsName: what SDKs send as metadata is neither a pseudo-header, nor a header of gRPC's or of HTTP's
// connections, nor the bridge's word.
func TestTheMeshsUsersCannotSpeakInGRPCsName(t *testing.T) {
	e := newEnd(t, wire.Dialer)
	e.call(wire.RequestHead{Target: []byte("thing"), Service: []byte("s"), Method: []byte("m"), Metadata: meshEntries(), Caller: []byte("web"), Lane: []byte("blue")}, wire.FlagEnd, "")
	same(t, "request", e.read(), "HEADERS :method=POST :scheme=http :path=/s/m :authority=thing content-type=application/grpc te=trailers own=word END")

	e = newEnd(t, wire.Acceptor)
	e.request(true)
	e.feed()
	out := wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("hi"), Head: (&wire.ResponseHead{
		HeadersPresent: true, Metadata: meshEntries(), Trailers: meshEntries(), Timings: []byte{1},
	}).Append(nil)}
	if !e.c.Send(e.calls[1], &out) {
		t.Fatal("there was no room")
	}
	same(t, "answer", e.read(), "HEADERS :status=200 content-type=application/grpc+proto own=word\nDATA 00000000026869\nHEADERS grpc-status=0 own=word END")
}

// TestPseudoHeadersOutOfPlaceEndTheStream: at either side, one that is not known, comes twice, or stands behind other fields.
func TestPseudoHeadersOutOfPlaceEndTheStream(t *testing.T) {
	request := []string{":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "a", "content-type", "application/grpc"}
	for _, name := range []string{":method", ":scheme", ":path", ":authority", ":status", ":protocol", ":octo", ":"} {
		for where, fields := range map[string][]string{
			"before": append([]string{name, "x"}, request...), "behind": append(request[:len(request):len(request)], name, "x"),
		} {
			e := newEnd(t, wire.Acceptor)
			e.headers(1, true, fields...)
			e.feed()
			if got := e.read(); got != "RST PROTOCOL_ERROR" || len(e.events) > 0 {
				t.Errorf("a request with %s %s: %q, events %v", name, where, got, e.events)
			}
		}
		e := newEnd(t, wire.Dialer)
		e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m")}, wire.FlagEnd, "")
		e.read()
		e.headers(1, false, ":status", "200", "content-type", "application/grpc", name, "x")
		e.feed()
		if got := e.read(); got != "RST PROTOCOL_ERROR" || len(e.events) != 1 || e.events[0].Status.Reason != wire.ReasonStreamProtocol || e.events[0].Status.Origin != wire.OriginBridge {
			t.Errorf("an answer with %s: %q, events %v", name, got, e.events)
		}
	}
	e := newEnd(t, wire.Acceptor)
	e.headers(1, true, append(request, "bad\r\nname", "x")...)
	e.feed()
	if got := e.read(); !strings.HasPrefix(got, "RST") || len(e.events) > 0 || bytes.Contains([]byte(got), []byte("HEADERS")) {
		t.Errorf("%q", got)
	}
}
