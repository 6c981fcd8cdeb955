package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestEveryCodeArrivesWithMessageDetailsAndTrailers(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const message = "100 % \r\n 𐐷 \x00 "
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			if err := octomesh.SetTrailer(ctx, "why", "because"); err != nil {
				return nil, err
			}
			unknown := &anypb.Any{TypeUrl: "type.example.com/nobody.Knows", Value: []byte{1, 2, 3}}
			return nil, octomesh.WithDetails(octomesh.Errorf(octomesh.Code(m.Value[0]), "%s", message+strings.Repeat("x", 8<<10)),
				wrapperspb.String("first"), unknown)
		}})
		for code := octomesh.Code(1); code <= 17; code++ { // 17 has no name
			var trailer octomesh.Metadata
			_, err := unary(within(t, long), ch, do, text(string([]byte{byte(code)})), octomesh.CaptureTrailer(&trailer))
			check(t, err, octomesh.Error{Code: code, Origin: octomesh.OriginApplication, Disposition: octomesh.DispositionProcessed})
			var e *octomesh.Error
			errors.As(err, &e)
			details := e.Details()
			if !strings.HasPrefix(e.Message, message) || len(e.Message) != len(message)+8<<10 || len(details) != 2 ||
				trailer.Get("why") != "because" {
				t.Fatalf("%v: %d bytes of message, details %v, trailers %v", code, len(e.Message), details, trailer)
			}
			var first wrapperspb.StringValue
			if details[0].UnmarshalTo(&first) != nil || first.Value != "first" {
				t.Fatalf("%v: the first detail is %v", code, details[0])
			}
		}
	})
}

func TestOKComesWithTrailersAndHeader(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			return m, errors.Join(octomesh.SetHeader(ctx, "h", "1"), octomesh.SetTrailer(ctx, "t", "2"), octomesh.SetTrailer(ctx, "t", "3"))
		}})
		var header, trailer octomesh.Metadata
		if _, err := unary(within(t, long), ch, do, text("x"), octomesh.CaptureHeader(&header), octomesh.CaptureTrailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		if header.Get("h") != "1" || !slices.Equal(trailer.Values("t"), []string{"2", "3"}) {
			t.Fatalf("header %v, trailers %v", header, trailer)
		}
	})
}

func TestErrorInMidStream(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{watch: func(ctx context.Context, _ *msg, out *octomesh.ServerSender[msg]) error {
			if err := out.Send(text("one")); err != nil {
				return err
			}
			_ = octomesh.SetTrailer(ctx, "t", "end")
			return octomesh.Errorf(octomesh.DataLoss, "half")
		}})
		s, err := octomesh.CallServerStream[msg, msg](within(t, long), ch, watch, text("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.Receive(); err != nil || string(m.Value) != "one" {
			t.Fatalf("%v, %v", m, err)
		}
		_, err = s.Receive()
		check(t, err, octomesh.Error{Code: octomesh.DataLoss, Origin: octomesh.OriginApplication, Disposition: octomesh.DispositionProcessed})
		if s.Trailer().Get("t") != "end" {
			t.Fatalf("trailers %v", s.Trailer())
		}
	})
}

func TestCrashedHandlerEndsItsCallOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{do: func(_ context.Context, m *msg) (*msg, error) {
			if string(m.Value) == "boom" {
				panic("a secret of the server's")
			}
			return m, nil
		}})
		ctx := within(t, long)
		_, err := unary(ctx, ch, do, text("boom"))
		check(t, err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonHandlerCrashed,
			Origin: octomesh.OriginServerSDK, Disposition: octomesh.DispositionProcessed})
		if strings.Contains(err.Error(), "secret") {
			t.Fatalf("the caller learned %v", err)
		}
		if _, err := unary(ctx, ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMetadataArrivesAsItWasSent(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		sent := octomesh.Metadata{
			{Key: "plain", Value: "a, b ~"}, {Key: "multi", Value: "1"}, {Key: "multi", Value: "2"}, {Key: "multi", Value: "1"},
			{Key: "raw-bin", Value: string(all)}, {Key: "raw-bin", Value: ""}, {Key: "empty", Value: ""},
		}
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			for k, v := range octomesh.IncomingMetadata(ctx).All() {
				if err := errors.Join(octomesh.SetHeader(ctx, k, v), octomesh.SetTrailer(ctx, k, v)); err != nil {
					return nil, err
				}
			}
			return m, nil
		}})
		var header, trailer octomesh.Metadata
		_, err := unary(within(t, long), ch, do, text("x"), octomesh.Headers(sent), octomesh.CaptureHeader(&header), octomesh.CaptureTrailer(&trailer))
		if err != nil || !slices.Equal(header, sent) || !slices.Equal(trailer, sent) {
			t.Fatalf("%v\nheader  %v\ntrailer %v", err, header, trailer)
		}
	})
}

func TestMetadataThatIsRefusedBeforeSending(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		ctx := within(t, long)
		for name, o := range map[string]octomesh.CallOption{
			"reserved": octomesh.Header("octo-secret", "x"), "upper case": octomesh.Header("Key", "x"), "not ASCII": octomesh.Header("key", "ü"),
		} {
			_, err := unary(ctx, ch, do, text("x"), o)
			var e *octomesh.Error
			if !errors.As(err, &e) || e.Code != octomesh.InvalidArgument || e.Disposition != octomesh.DispositionNotProcessed {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := unary(ctx, ch, do, text("x"), octomesh.Header("key", strings.Repeat("v", 16<<10)))
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonHeadTooLarge,
			Disposition: octomesh.DispositionNotProcessed})
		if _, err := unary(ctx, ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
	})
}

// A head that an SDK may send must pass both proxies, which add to it.
func TestLargestHeadPassesEveryHop(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			return text(fmt.Sprint(len(octomesh.IncomingMetadata(ctx).Get("key")))), nil
		}}, octomesh.WithLimits(octomesh.Limits{MaxMetadata: 1 << 20}))
		const size = 59 << 10
		got, err := unary(within(t, long), ch, do, text("x"), octomesh.Header("key", strings.Repeat("v", size)))
		if err != nil || string(got.Value) != fmt.Sprint(size) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func TestCallThatWaitsForReadyMeetsALateServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	late := w.proxy("thing")
	w.add("thing", late.Address)
	ch := w.dial("caller", "thing")
	ctx := within(t, long)
	_, err := unary(ctx, ch, do, text("early"))
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnready, Disposition: octomesh.DispositionNotProcessed})
	w.serve("thing", thing{})
	if _, err := unary(ctx, ch, do, text("late"), octomesh.WaitForReady()); err != nil {
		t.Fatal(err)
	}
}
