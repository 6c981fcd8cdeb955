package octomesh_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

var all256 = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

// entries are metadata that must arrive as they are.
var entries = octomesh.Metadata{
	{Key: "x-user", Value: "7"}, {Key: "x-many", Value: "b"}, {Key: "x-many", Value: "a"}, {Key: "x-many", Value: "b"},
	{Key: "x-empty", Value: ""}, {Key: "x-bin", Value: all256}, {Key: "x-bin", Value: ""}, {Key: "x-bin", Value: "a,b"},
}

func TestMetadataGoesBothWays(t *testing.T) {
	everywhere(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		for k, v := range octomesh.IncomingMetadata(ctx).All() {
			if err := octomesh.SetHeader(ctx, k, v); err != nil {
				return nil, err
			}
			if err := octomesh.SetTrailer(ctx, k, v); err != nil {
				return nil, err
			}
		}
		if m.Text == "fail" {
			return nil, octomesh.Errorf(octomesh.NotFound, "no")
		}
		return m, nil
	}}, func(t *testing.T, c testproto.EchoClient) {
		for _, text := range []string{"", "fail"} {
			var header, trailer octomesh.Metadata
			_, err := c.Say(within(t, 5*time.Second), &message{Text: text}, octomesh.Headers(entries),
				octomesh.CaptureHeader(&header), octomesh.CaptureTrailer(&trailer))
			if (err != nil) != (text == "fail") {
				t.Fatal(err)
			}
			if !slices.Equal(header, entries) || !slices.Equal(trailer, entries) {
				t.Fatalf("header %q, trailer %q", header, trailer)
			}
			if err != nil && !slices.Equal(err.(*octomesh.Error).Trailer, entries) {
				t.Fatalf("the error's trailer is %q", err.(*octomesh.Error).Trailer)
			}
		}
	})
}

func TestStreamsHeaderAndTrailer(t *testing.T) {
	everywhere(t, echo{chat: func(ctx context.Context, s *octomesh.ServerStream[message, message]) error {
		_ = octomesh.SetHeader(ctx, "x-h", "1")
		if err := octomesh.SendHeader(ctx); err != nil {
			return err
		}
		if octomesh.SetHeader(ctx, "x-h", "2") == nil {
			t.Error("SetHeader after SendHeader")
		}
		if _, err := s.Receive(); err != nil {
			return err
		}
		_ = octomesh.SetTrailer(ctx, "x-t", "3")
		return s.Send(&message{})
	}}, func(t *testing.T, c testproto.EchoClient) {
		s, err := c.Chat(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Header(); got.Get("x-h") != "1" { // before any message
			t.Fatalf("header is %q", got)
		}
		if err := s.Send(&message{}); err != nil {
			t.Fatal(err)
		}
		for _, err := range s.All() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Trailer(); got.Get("x-t") != "3" {
			t.Fatalf("trailer is %q", got)
		}
	})
}

func TestBadMetadataIsRefusedBeforeSending(t *testing.T) {
	called := false
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) { called = true; return m, nil }})
	for _, option := range []octomesh.CallOption{
		octomesh.Header("X-Upper", "v"), octomesh.Header("", "v"), octomesh.Header("a b", "v"), octomesh.Header("ключ", "v"),
		octomesh.Header("octo-x", "v"), octomesh.Header("x", "ü"), octomesh.Header("x", "a\nb"), octomesh.Header("x", "\x7f"),
		octomesh.WithBaggage("octo-lane", "v"), octomesh.WithBaggage("X", "v"), octomesh.Compress("br"),
	} {
		_, err := c.Say(within(t, 5*time.Second), &message{}, option)
		check(t, err, octomesh.Error{Code: octomesh.InvalidArgument, Origin: octomesh.OriginClientSDK,
			Disposition: octomesh.DispositionNotProcessed})
	}
	long := strings.Repeat("x", 16<<10)
	for _, option := range []octomesh.CallOption{
		octomesh.Header("x", long), octomesh.WithBaggage("x", long[:600]), octomesh.HashKey(strings.Repeat("x", 61<<10)),
	} {
		_, err := c.Say(within(t, 5*time.Second), &message{}, option)
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonHeadTooLarge,
			Origin: octomesh.OriginClientSDK, Disposition: octomesh.DispositionNotProcessed})
	}
	if called {
		t.Fatal("a bad call reached the handler")
	}
	if _, err := c.Say(within(t, 5*time.Second), &message{}, octomesh.Header("x", long[:16<<10-33])); err != nil {
		t.Fatal(err)
	}
}

func TestHandlersMetadataIsChecked(t *testing.T) {
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		for _, e := range []octomesh.Entry{{Key: "X", Value: ""}, {Key: "octo-x", Value: ""}, {Key: "x", Value: "\n"},
			{Key: "x", Value: strings.Repeat("x", 16<<10)}} {
			if octomesh.SetHeader(ctx, e.Key, e.Value) == nil || octomesh.SetTrailer(ctx, e.Key, e.Value) == nil {
				t.Errorf("%q was taken", e.Key)
			}
		}
		return m, nil
	}})
	if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
		t.Fatal(err)
	}
	if octomesh.SetHeader(context.Background(), "x", "y") == nil {
		t.Fatal("SetHeader outside of a handler")
	}
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestBaggageAndTraceGoDownTheChain(t *testing.T) {
	last := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		trace, _ := octomesh.Trace(ctx)
		return &message{Text: octomesh.Baggage(ctx).Get("tenant") + "|" + octomesh.Baggage(ctx).Get("hop") + "|" +
			octomesh.IncomingMetadata(ctx).Get("x-user") + "|" + trace.Traceparent + "|" + trace.Tracestate}, nil
	}})
	first := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		return last.Say(ctx, m, octomesh.WithBaggage("hop", "2"))
	}})
	ctx := octomesh.ContextWithBaggage(within(t, 5*time.Second), "tenant", "t1")
	ctx = octomesh.ContextWithBaggage(ctx, "hop", "1")
	ctx = octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: traceparent, Tracestate: "v=1"})
	got, err := first.Say(ctx, &message{}, octomesh.Header("x-user", "7"))
	if err != nil || got.Text != "t1|2||"+traceparent+"|v=1" {
		t.Fatalf("got %v, %v", got, err)
	}
	ctx = octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: "rubbish", Tracestate: "v=1"})
	if _, ok := octomesh.Trace(ctx); ok {
		t.Fatal("an invalid traceparent was taken")
	}
}

func TestPeerInfo(t *testing.T) {
	var peer octomesh.Peer
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		peer, _ = octomesh.PeerInfo(ctx)
		return m, nil
	}}, octomesh.WithApplication("shop"), octomesh.WithInstance("shop-1"))
	if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
		t.Fatal(err)
	}
	if peer.Application != "shop" || peer.Instance != "shop-1" || peer.SDK != "go" || peer.SDKVersion != octomesh.Version || peer.Verified != "" || peer.Proxied {
		t.Fatalf("peer is %+v", peer)
	}
	if _, ok := octomesh.PeerInfo(context.Background()); ok {
		t.Fatal("a peer outside of a handler")
	}
}
