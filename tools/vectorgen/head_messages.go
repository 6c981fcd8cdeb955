package main

import (
	"bytes"
	"math"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func entries(kv ...string) []*wirev1.Entry {
	var out []*wirev1.Entry
	for i := 0; i < len(kv); i += 2 {
		e := &wirev1.Entry{Key: []byte(kv[i])}
		if kv[i+1] != "" {
			e.Value = []byte(kv[i+1])
		}
		out = append(out, e)
	}
	return out
}

func requestHeads() []vector.Vector {
	return []vector.Vector{
		canonicalHead("request/empty", "an empty head is the message without fields", &wirev1.RequestHead{}),
		canonicalHead("request/unary", "what an SDK sends for a plain call", &wirev1.RequestHead{
			TimeoutUs: 1_000_000, Target: []byte("shop.cart"), Service: []byte("shop.v1.Cart"), Method: []byte("Add"), CallKind: 1,
		}, "W-HEAD-3"),
		canonicalHead("request/timeout-1", "the smallest timeout", &wirev1.RequestHead{TimeoutUs: 1}, "W-TIME-1"),
		canonicalHead("request/timeout-max", "all bits of the timeout", &wirev1.RequestHead{TimeoutUs: math.MaxUint64}),
		canonicalHead("request/total-length", "a first fragment", &wirev1.RequestHead{TotalLength: 1 << 40, Target: []byte("t")}, "W-MSG-4"),
		canonicalHead("request/kinds", "a bidi stream", &wirev1.RequestHead{CallKind: 4}, "W-STREAM-7"),
		canonicalHead("request/unknown-kind", "an unknown call kind is kept", &wirev1.RequestHead{CallKind: 99}, "W-STREAM-7"),
		canonicalHead("request/want-timings", "the caller wants to know where the time went", &wirev1.RequestHead{Target: []byte("t"), WantTimings: true}, "W-TIMINGS-1"),
		canonicalHead("request/metadata", "order and duplicates are kept; empty values too", &wirev1.RequestHead{
			Metadata: entries("b", "2", "a", "1", "b", "3", "a", "1", "empty", ""),
		}, "W-HEAD-8"),
		canonicalHead("request/metadata-bin", "a binary value with every byte", &wirev1.RequestHead{
			Metadata: []*wirev1.Entry{{Key: []byte("raw-bin"), Value: allBytes()}, {Key: []byte("comma-bin"), Value: []byte("a,b")}, {Key: []byte("empty-bin")}},
		}, "W-HEAD-8"),
		canonicalHead("request/metadata-long", "lengths of two and three bytes", &wirev1.RequestHead{
			Metadata: []*wirev1.Entry{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 130)}, {Key: []byte("l"), Value: bytes.Repeat([]byte("w"), 300)}},
		}),
		canonicalHead("request/trace", "trace context and baggage", &wirev1.RequestHead{
			Traceparent: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), Tracestate: []byte("a=1,b=2"),
			Baggage: entries("lane", "canary", "set", "s1", "user.id", "42"),
		}, "W-HEAD-11"),
		canonicalHead("request/everything", "every field, hop fields included", &wirev1.RequestHead{
			TimeoutUs: 250_000, TotalLength: 70_000, Target: []byte("t"), Service: []byte("s"), Method: []byte("m"), CallKind: 2,
			Metadata: entries("k", "v"), Traceparent: []byte("tp"), Tracestate: []byte("ts"), Baggage: entries("lane", "l"),
			HashKey: []byte("h"), Attempt: 2, CallId: []byte{1, 2, 3}, Idempotent: true, MessageEncoding: []byte("gzip"),
			AcceptedEncodings: [][]byte{[]byte("gzip"), []byte("br")}, ContentType: []byte("application/grpc"), Authority: []byte("a:1"), Path: []byte("/p"),
			HopCaller: []byte("c"), HopVerifiedCaller: []byte("vc"), HopLane: []byte("lane"),
		}, "W-HOP-1"),
		canonicalHead("request/attempt-max", "a varint of five bytes", &wirev1.RequestHead{Attempt: math.MaxUint32}),
		canonicalHead("request/accepted-empty", "an empty name in a repeated field is kept", &wirev1.RequestHead{AcceptedEncodings: [][]byte{{}, []byte("gzip")}}),
		notUTF8("request/not-utf8", "text of a peer may be any bytes", &wirev1.RequestHead{Target: []byte{0xff, 0xfe}, Method: []byte{0xc3}, Metadata: []*wirev1.Entry{{Key: []byte("k"), Value: []byte{0x80}}}}),
		canonicalHead("message/empty", "mostly a MESSAGE has no head", &wirev1.MessageHead{}),
		canonicalHead("message/total-length", "the first fragment of a message", &wirev1.MessageHead{TotalLength: 65_537}, "W-MSG-4"),
		canonicalHead("message/total-length-max", "ten bytes of varint", &wirev1.MessageHead{TotalLength: math.MaxUint64}),
	}
}

func notUTF8(id, comment string, m *wirev1.RequestHead) vector.Vector {
	v := canonicalHead(id, comment, m, "W-HEAD-7")
	v.Flags = []string{"NotUTF8"}
	return v
}

func allBytes() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func responseHeads() []vector.Vector {
	timings := mustMarshal(&wirev1.Timings{Stages: []*wirev1.Timings_Stage{
		{Kind: 4, DurationUs: 12, Instance: []byte("cart-1")}, {Kind: 5, DurationUs: 950, Instance: []byte("cart-1")},
	}})
	return []vector.Vector{
		canonicalHead("response/empty", "success without anything to say", &wirev1.ResponseHead{}, "W-STREAM-8"),
		canonicalHead("response/headers-present-empty", "initial metadata without an entry", &wirev1.ResponseHead{HeadersPresent: true}, "W-STREAM-3"),
		canonicalHead("response/initial", "initial metadata", &wirev1.ResponseHead{
			MessageEncoding: []byte("gzip"), AcceptedEncodings: [][]byte{[]byte("gzip")}, HeadersPresent: true, Metadata: entries("a", "1", "a", "2"),
		}, "W-STREAM-3"),
		canonicalHead("response/trailers-only", "an error and trailers, no initial metadata", &wirev1.ResponseHead{
			Status: &wirev1.Status{Code: 5, Message: []byte("no such cart"), Origin: 1, Disposition: 2}, Trailers: entries("t", "1"),
		}, "W-STREAM-3", "E-ORIGIN-2"),
		canonicalHead("response/everything", "every field", &wirev1.ResponseHead{
			Status:      &wirev1.Status{Code: 8, Reason: 11, Message: []byte("slow down"), DetailsBin: []byte{8, 8}, Origin: 3, Disposition: 1, RetryAfterMs: 1500},
			TotalLength: 9, MessageEncoding: []byte("br"), AcceptedEncodings: [][]byte{[]byte("br"), []byte("gzip")}, ContentType: []byte("application/grpc+proto"),
			HeadersPresent: true, Metadata: entries("m", "1"), Trailers: entries("t", "1", "t", "2"), HopTimings: timings,
		}, "W-HOP-5"),
		canonicalHead("response/code-negative", "a negative code takes ten bytes", &wirev1.ResponseHead{Status: &wirev1.Status{Code: -1}}, "E-CODE-1"),
		canonicalHead("response/long-status", "a status of more than 127 bytes", &wirev1.ResponseHead{
			Status: &wirev1.Status{Code: 2, Message: bytes.Repeat([]byte("x"), 200)}, HeadersPresent: true,
		}, "E-TEXT-1"),
	}
}

func otherHeads() []vector.Vector {
	return []vector.Vector{
		canonicalHead("reset/empty", "a reset that says nothing", &wirev1.Reset{}),
		canonicalHead("reset/cancelled", "cancellation", &wirev1.Reset{Status: &wirev1.Status{Code: 1, Reason: 43, Origin: 5}, Http2Code: 8}, "W-END-4"),
		canonicalHead("reset/refused", "a refusal", &wirev1.Reset{Status: &wirev1.Status{Code: 8, Reason: 14, Origin: 3, Disposition: 1}}, "W-FLOW-9"),
		canonicalHead("hello/call", "an SDK that calls", &wirev1.Hello{
			LowestVersion: 1, HighestVersion: 1, Role: 1, Kind: 1, Sdk: []byte("go"), SdkVersion: []byte("0.1.0"), Environment: []byte("test"),
			Application: []byte("shop.web"), Instance: []byte("web-1"), Incarnation: 1_700_000_000_000_000_000,
			Limits: &wirev1.Limits{MaxStreams: 100, StreamWindow: 262_144, MaxFrameBody: 65_536},
		}, "W-HAND-7"),
		canonicalHead("hello/serve", "an SDK that serves two targets", &wirev1.Hello{
			LowestVersion: 1, HighestVersion: 3, Role: 2, Kind: 1, Targets: [][]byte{[]byte("a"), []byte("b")}, Limits: &wirev1.Limits{MaxStreams: 1},
			Features: [][]byte{[]byte("x"), []byte("y")}, Credentials: []byte("token"),
		}),
		canonicalHead("welcome/plain", "the answer", &wirev1.Welcome{
			Version: 1, Kind: 2, Instance: []byte("proxy-1"), Incarnation: 7, Limits: &wirev1.Limits{MaxStreams: 1024}, Features: [][]byte{[]byte("x")}, SoftwareVersion: []byte("0.1.0"),
		}, "W-HAND-4"),
		canonicalHead("goaway/graceful", "leaving", &wirev1.GoAway{Code: 1, Last: math.MaxUint32}, "W-GOAWAY-1"),
		canonicalHead("goaway/final", "the drain deadline", &wirev1.GoAway{Code: 1, Last: 41, Final: true, Message: []byte("restart")}, "L-FINAL-1"),
		canonicalHead("goaway/final-none-started", "last 0: nothing was started", &wirev1.GoAway{Code: 1, Final: true}, "L-FINAL-2"),
		canonicalHead("goaway/protocol-error", "what, and at which byte", &wirev1.GoAway{Code: 3, Message: []byte("magic"), Offset: 1 << 33}, "W-CONN-1"),
		canonicalHead("goaway/refused", "redial later", &wirev1.GoAway{Code: 5, RetryAfterMs: 30_000}, "W-HAND-5"),
	}
}
