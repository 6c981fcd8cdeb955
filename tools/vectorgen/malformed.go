package main

import (
	"slices"

	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// malformedFile holds byte streams as a callee of CALL reads them, handshake done, default limits.
func malformedFile() *vector.File {
	f := &vector.File{
		Title: "Byte streams, good and bad",
		Notes: []string{
			"The side is an acceptor of a CALL connection after its handshake, with default limits. bytes come in chunks: hex, or so many zero bytes.",
			"result.delivered are the frames that reach the owner, by type and stream (an unknown type or a frame of a closed stream does not). " +
				"result.reset are the streams that this side resets, by reason. result.left is how many bytes at the end wait for more.",
			"With result.end the connection ends: GOAWAY with this code and, for PROTOCOL_ERROR (3), this offset; what follows is discarded.",
			"The result is the same however the bytes are cut: all at once, byte by byte, and, up to 4096 bytes, cut in two at every offset. " +
				"An end of file where left is not 0 loses the connection (W-FRAME-9).",
		},
		Flags: map[string]string{
			"Foreign":    "the first bytes of another protocol",
			"Truncated":  "ends inside a frame",
			"HeaderOnly": "the error shows in the header; the rest of the frame never comes",
		},
	}
	f.Vectors = slices.Concat(goodStreams(), truncated(), foreign(), brokenStreams(), poisoned())
	return f
}

type delivery struct {
	Type   uint8  `json:"type"`
	Stream uint32 `json:"stream"`
}

type resetOf struct {
	Stream uint32 `json:"stream"`
	Code   int    `json:"code"`
	Reason int    `json:"reason"`
}

type ending struct {
	Code   int  `json:"code"`
	Offset *int `json:"offset,omitempty"`
}

type outcome struct {
	Delivered []delivery `json:"delivered"`
	Reset     []resetOf  `json:"reset"`
	Left      int        `json:"left"`
	End       *ending    `json:"end"`
}

func stream(id, comment string, bytes []raw.Chunk, want outcome, flags []string, rules ...string) vector.Vector {
	if want.Delivered == nil {
		want.Delivered = []delivery{}
	}
	if want.Reset == nil {
		want.Reset = []resetOf{}
	}
	return vector.Vector{ID: "malformed/" + id, Comment: comment, Rules: rules, Flags: flags, Input: vector.Map{"bytes": bytes}, Result: want}
}

func brokenAt(offset int) *ending { return &ending{Code: 3, Offset: &offset} }

var (
	rawHead = slices.Concat(raw.Text(3, "t"), raw.Text(4, "s"), raw.Text(5, "m"))
	req1    = raw.Frame{Type: raw.Request, Flags: raw.Msg, Stream: 1, Head: rawHead, Body: []byte("hello")}
	req3    = raw.Frame{Type: raw.Request, Flags: raw.Msg | raw.End, Stream: 3, Head: rawHead, Body: []byte("world")}
	msg1    = raw.Frame{Type: raw.Message, Flags: raw.Msg | raw.End, Stream: 1, Body: []byte("again")}
	got1    = delivery{raw.Request, 1}
	got3    = delivery{raw.Request, 3}
)

func goodStreams() []vector.Vector {
	unknown := raw.Frame{Type: 77, Flags: 0xff, Stream: 1, Head: []byte{0xff}, Body: []byte("skip me")}
	return []vector.Vector{
		stream("good/empty", "no byte at all", []raw.Chunk{}, outcome{}, nil, "W-FRAME-9"),
		stream("good/two-calls", "frames back to back", raw.Chunks(req1, req3, msg1), outcome{Delivered: []delivery{got1, got3, {raw.Message, 1}}}, nil, "W-FRAME-9"),
		stream("good/unknown-type", "an unknown type between frames", raw.Chunks(req1, unknown, msg1), outcome{Delivered: []delivery{got1, {raw.Message, 1}}}, nil, "W-TYPE-2"),
		stream("good/largest", "the largest frame: a head of 65535 and a body of 65536 bytes", raw.Chunks(
			raw.Frame{Type: 77, HeadZero: 65535, BodyZero: 65536}, req1), outcome{Delivered: []delivery{got1}}, nil, "W-FRAME-4", "W-FRAME-5"),
	}
}

func truncated() []vector.Vector {
	var out []vector.Vector
	whole := slices.Concat(req1.Header(), req1.Head, req1.Body)
	for _, c := range []struct {
		id, comment string
		n           int
	}{{"one-byte", "one byte", 1}, {"magic", "the magic alone", 2}, {"header-short", "a header but its last byte", 15}, {"header", "a whole header", 16},
		{"in-head", "cut in the head", 20}, {"before-body", "all but the body", 16 + len(rawHead)}, {"one-short", "all but one byte", len(whole) - 1}} {
		out = append(out, stream("truncated/"+c.id, c.comment, raw.Bytes(whole[:c.n]), outcome{Left: c.n}, []string{"Truncated"}, "W-FRAME-9"))
	}
	both := append(slices.Clone(whole), req3.Header()[:7]...)
	return append(out, stream("truncated/second", "a whole frame and a part of one", raw.Bytes(both), outcome{Delivered: []delivery{got1}, Left: 7}, []string{"Truncated"}, "W-FRAME-9"))
}

func foreign() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct{ id, comment, bytes string }{
		{"http2", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, {"http1", "a request of HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"tls", "a client hello of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00"}, {"thrift", "a framed Thrift call", "\x00\x00\x00\x1c\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00"},
		{"octo", "OCTO's own header", "\xab\xba\x01\x01\x00\x00\x00\x20\x00\x10\x00\x00\x00\x00\x00\x00\x00"}, {"zeros", "zeros", string(make([]byte, 32))},
	} {
		out = append(out, stream("foreign/"+c.id, c.comment, raw.Bytes([]byte(c.bytes)), outcome{End: brokenAt(0)}, []string{"Foreign"}, "W-FRAME-1", "W-CONN-1"))
	}
	return out
}

func brokenStreams() []vector.Vector {
	n := req1.Len()
	after := func(id, comment string, bad raw.Frame, rules ...string) vector.Vector {
		return stream("broken/"+id, comment, raw.Chunks(req1, bad, req3), outcome{Delivered: []delivery{got1}, End: brokenAt(n)}, nil, append(rules, "W-CONN-1")...)
	}
	headerOnly := func(id, comment string, bad raw.Frame, rules ...string) vector.Vector {
		bytes := append(slices.Concat(req1.Header(), req1.Head, req1.Body), bad.Header()...)
		return stream("broken/"+id, comment, raw.Bytes(bytes), outcome{Delivered: []delivery{got1}, End: brokenAt(n)}, []string{"HeaderOnly"}, append(rules, "W-CONN-1", "W-FRAME-8")...)
	}
	huge, over, seven, three, less := uint32(0xFFFFFFFF), uint32(65537), uint32(7), uint32(3), uint32(1)
	slipped := raw.Frame{Type: 99, Body: []byte("xy"), BodyLen: &less}
	return []vector.Vector{
		after("magic", "the second frame has another magic", raw.Frame{Magic: 0x0C71, Type: raw.Message, Stream: 1}, "W-FRAME-1"),
		after("version", "the second frame has another version", raw.Frame{Version: 2, Type: raw.Message, Stream: 1}, "W-FRAME-2"),
		headerOnly("body-over", "a body over the limit is refused by its header", raw.Frame{Type: raw.Message, Flags: raw.Msg, Stream: 1, BodyLen: &over}, "W-FRAME-5"),
		headerOnly("body-huge", "4 GiB announced", raw.Frame{Type: raw.Message, Flags: raw.Msg, Stream: 1, BodyLen: &huge}, "W-FRAME-5"),
		headerOnly("unknown-body-huge", "by an unknown type", raw.Frame{Type: 99, BodyLen: &huge}, "W-FRAME-5", "W-TYPE-2"),
		headerOnly("ping-7", "a PING of seven bytes", raw.Frame{Type: raw.Ping, BodyLen: &seven}, "W-FRAME-6"),
		headerOnly("window-3", "a WINDOW of three bytes", raw.Frame{Type: raw.Window, Stream: 1, BodyLen: &three}, "W-FRAME-6"),
		headerOnly("reset-body", "a RESET with a body", raw.Frame{Type: raw.Reset, Stream: 1, BodyLen: &three}, "W-FRAME-6"),
		after("ping-on-stream", "PING on a call's stream", raw.Frame{Type: raw.Ping, Stream: 1, BodyZero: 8}, "W-FRAME-7"),
		after("message-on-connection", "MESSAGE on stream 0", raw.Frame{Type: raw.Message, Flags: raw.Msg}, "W-FRAME-7"),
		after("request-on-connection", "REQUEST on stream 0", raw.Frame{Type: raw.Request, Flags: raw.Msg}, "W-FRAME-7"),
		after("even-id", "an id that nobody may open here", raw.Frame{Type: raw.Request, Flags: raw.End, Stream: 2}, "W-ID-3"),
		after("id-again", "the same id again", req1, "W-ID-4"),
		after("unopened", "a MESSAGE of a stream that is not open yet", raw.Frame{Type: raw.Message, Flags: raw.Msg, Stream: 3}, "W-ID-5"),
		after("hello", "a HELLO after the handshake", raw.Frame{Type: raw.Hello}, "W-HAND-1"),
		after("welcome", "a WELCOME from the dialer", raw.Frame{Type: raw.Welcome}, "W-HAND-3"),
		after("goaway-head", "a GOAWAY that does not parse", raw.Frame{Type: raw.GoAway, Head: []byte{0x10}}, "W-CONN-6"),
		after("critical-ping", "a critical flag on stream 0", raw.Frame{Type: raw.Ping, Flags: raw.Critical, BodyZero: 8}, "W-FLAG-3"),
		stream("broken/slipped", "a length that is one too small shifts all that follows", raw.Chunks(req1, slipped, req3),
			outcome{Delivered: []delivery{got1}, End: brokenAt(n + slipped.Len() - 1)}, nil, "W-FRAME-1", "W-CONN-1"),
	}
}

// poisoned are streams that break a rule of their own: the connection lives.
func poisoned() []vector.Vector {
	one := func(id, comment string, bad raw.Frame, code, reason int, rules ...string) vector.Vector {
		return stream("poison/"+id, comment, raw.Chunks(req1, bad, req3), outcome{Delivered: []delivery{got1, got3}, Reset: []resetOf{{1, code, reason}}}, nil, append(rules, "W-CONN-2")...)
	}
	return []vector.Vector{
		one("body-without-msg", "a body without MSG", raw.Frame{Type: raw.Message, Stream: 1, Body: []byte("x")}, 13, 29, "W-MSG-1"),
		one("more-and-end", "MORE with END", raw.Frame{Type: raw.Message, Flags: raw.Msg | raw.More | raw.End, Stream: 1, Head: raw.Num(2, 9)}, 13, 29, "W-MSG-2"),
		one("no-total", "a first fragment without total_length", raw.Frame{Type: raw.Message, Flags: raw.Msg | raw.More, Stream: 1, Body: []byte("x")}, 13, 29, "W-MSG-4"),
		one("head", "a head that does not parse", raw.Frame{Type: raw.Message, Flags: raw.Msg | raw.More, Stream: 1, Head: []byte{0x1f}, Body: []byte("x")}, 3, 22, "W-END-7"),
		one("critical", "a critical flag", raw.Frame{Type: raw.Message, Flags: raw.Msg | raw.Critical, Stream: 1}, 12, 28, "W-FLAG-3"),
		one("window-0", "a WINDOW of 0", raw.Frame{Type: raw.Window, Stream: 1, BodyZero: 4}, 13, 29, "W-FLOW-4"),
		one("response", "a RESPONSE from the opener", raw.Frame{Type: raw.Response, Flags: raw.End, Stream: 1}, 13, 29, "W-STREAM-6"),
	}
}
