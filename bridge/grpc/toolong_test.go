package grpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// takes has the peer say how long a header list it takes.
func (e *end) takes(n uint32) {
	_ = e.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: n})
	e.feed()
	_ = e.read()
}

// late returns what the machine has to tell of a call, once.
func (e *end) late() *wire.Event {
	e.t.Helper()
	ev := e.c.Late()
	if ev == nil || ev.Kind != wire.EventFailed || ev.Call != any(e) || ev.Status.Reason != wire.ReasonHeadTooLarge || ev.Status.Origin != wire.OriginBridge {
		e.t.Fatalf("told %+v", ev)
	}
	if again := e.c.Late(); again != nil {
		e.t.Errorf("and then %+v", again)
	}
	return ev
}

var long = []wire.Entry{{Key: []byte("k"), Value: []byte(strings.Repeat("v", 500))}}

func TestARequestThatItsServerTakesNoHeadersOfIsNotSent(t *testing.T) {
	e := newEnd(t, wire.Dialer)
	e.takes(500)
	h := wire.RequestHead{Target: []byte("thing"), Service: []byte("S"), Method: []byte("M"), Metadata: long}
	s := e.call(h, wire.FlagMessage|wire.FlagMore, "begins")
	if !e.c.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("ends")}) {
		t.Error("the rest waits for credit")
	}
	other := e.call(h, 0, "")
	e.c.Reset(other, &wire.ResetHead{Status: wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, "")}) // before anybody was told
	ev := e.late()
	same(t, "status", ev.Status.Disposition.String()+": "+string(ev.Status.Message), "NOT_PROCESSED: bridge: the request's headers are 809 bytes as HTTP/2 counts header lists, "+
		"and the server takes 500: send less metadata, or raise the limit there")
	same(t, "what was sent", e.read(), "")
	h.Metadata = nil
	s = e.call(h, wire.FlagMessage|wire.FlagEnd, "x")
	same(t, "the next call", e.read(), "HEADERS :method=POST :scheme=http :path=/S/M :authority=thing content-type=application/grpc te=trailers\nDATA 000000000178 END")
	if s.ID != 5 || e.c.OpenStreams() != 1 {
		t.Errorf("it is stream %d of %d", s.ID, e.c.OpenStreams())
	}
}

func TestAnAnswerThatItsClientTakesNoHeadersOf(t *testing.T) {
	const refused = "HEADERS :status=200 content-type=application/grpc+proto grpc-status=8 " +
		"grpc-message=bridge: the answer's headers are 641 bytes as HTTP/2 counts header lists, and the client takes 500: send less metadata, or raise the limit there " +
		"octo-origin=bridge octo-reason=HEAD_TOO_LARGE END"
	ok := wire.ResponseHead{Metadata: long, HeadersPresent: true}
	for name, c := range map[string]struct {
		takes uint32
		send  []wire.Out
		want  string
		late  bool
	}{
		"in one frame": {500, []wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Head: ok.Append(nil), Body: []byte("x")}}, refused, false},
		"of a stream": {500, []wire.Out{
			{Type: wire.TypeResponse, Head: ok.Append(nil)},
			{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: []byte("x")},
			{Type: wire.TypeResponse, Flags: wire.FlagEnd},
		}, refused, true},
		"in trailers": {500, []wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Head: (&wire.ResponseHead{Trailers: long}).Append(nil), Body: []byte("x")}},
			"HEADERS :status=200 content-type=application/grpc+proto\nDATA 000000000178\nHEADERS grpc-status=8 " +
				"grpc-message=bridge: the answer's trailers are 577 bytes as HTTP/2 counts header lists, and the client takes 500: send less metadata, or raise the limit there " +
				"octo-origin=bridge octo-reason=HEAD_TOO_LARGE END", false},
		"of an error": {500, []wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: (&wire.ResponseHead{
			Status: wire.Status{Code: wire.NotFound, Message: []byte("no such thing"), Details: make([]byte, 300)}, Trailers: long,
		}).Append(nil)}}, "HEADERS :status=200 content-type=application/grpc+proto grpc-status=5 grpc-message=no such thing END", false},
		"of an error in many words": {200, []wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: (&wire.ResponseHead{
			Status: wire.Status{Code: wire.NotFound, Message: make([]byte, 300)},
		}).Append(nil)}}, "HEADERS :status=200 content-type=application/grpc+proto grpc-status=5 END", false},
		"by who takes none": {10, []wire.Out{{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: ok.Append(nil)}}, "RST ENHANCE_YOUR_CALM", false},
		"of a stream by who takes none": {10, []wire.Out{
			{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: []byte("x")},
		}, "RST ENHANCE_YOUR_CALM", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnd(t, wire.Acceptor)
			e.takes(c.takes)
			e.request(true)
			_ = e.head()
			s := e.calls[1]
			for _, o := range c.send {
				if !e.c.Send(s, &o) {
					t.Fatal("it waits for credit")
				}
			}
			same(t, "answer", e.read(), c.want)
			if c.late {
				if ev := e.late(); ev.Status.Disposition != wire.DispositionProcessed {
					t.Errorf("told %+v", ev.Status)
				}
				e.c.Release()
			} else if ev := e.c.Late(); ev != nil {
				t.Errorf("told %+v", ev)
			}
			if e.c.OpenStreams() != 0 {
				t.Error("the stream is open still")
			}
		})
	}
}

// TestPeersThatTakeShortHeaderLists: a stock client and a stock server with limits. grpc-go's server ends the connection, with all its calls, for a list
// over its limit.
func TestPeersThatTakeShortHeaderLists(t *testing.T) {
	s := startStockAt(t, "127.0.0.1:0", func(ctx context.Context, in *msg) (*msg, error) {
		if string(in.Value) == "headers" {
			_ = grpc.SetHeader(ctx, metadata.Pairs("big", strings.Repeat("x", 3000)))
		}
		if string(in.Value) == "trailers" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("big", strings.Repeat("x", 3000)))
		}
		return in, nil
	}, grpc.MaxHeaderListSize(2000))
	p := startOut(t, s.address)
	cc, err := grpc.NewClient("unix:"+p.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(1000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	ctx := within(t)
	chat := stream(t, ctx, cc, "Chat") // goes on all the time, over the same connections
	goesOn := func() {
		t.Helper()
		in := &msg{}
		if err := errors.Join(chat.SendMsg(text("on")), chat.RecvMsg(in)); err != nil || string(in.Value) != "on" {
			t.Fatalf("another call: %q, %v", in.Value, err)
		}
	}
	goesOn()
	for _, c := range []struct {
		name, body, says string
		ctx              context.Context
	}{
		{"request", "x", "the request's headers are", metadata.AppendToOutgoingContext(ctx, "big", strings.Repeat("x", 3000))},
		{"headers", "headers", "the answer's headers are", ctx},
		{"trailers", "trailers", "the answer's trailers are", ctx},
	} {
		for range 3 {
			before := s.calls.Load()
			_, err := do(c.ctx, cc, []byte(c.body))
			if st := status.Convert(err); st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), c.says) {
				t.Errorf("%s: %v", c.name, err)
			}
			if c.name == "request" && s.calls.Load() != before {
				t.Error("the server has seen the call")
			}
			goesOn()
		}
	}
	_, err = octomesh.CallUnary[msg, msg](ctx, sdk(t, p), unary, text("x"), []octomesh.CallOption{octomesh.Header("big", strings.Repeat("x", 3000))})
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.ResourceExhausted || e.Reason.String() != "HEAD_TOO_LARGE" || e.Origin != octomesh.OriginBridge || e.Disposition != octomesh.DispositionNotProcessed {
		t.Errorf("an SDK's call: %+v", err)
	}
	goesOn()
}

// TestStreamsWhoseAnswersBeginTooLong end whole: the handler learns of it, and the client's next calls have room.
func TestStreamsWhoseAnswersBeginTooLong(t *testing.T) {
	m := startMesh(t, nil)
	over := make(chan struct{}, 100)
	m.serve(t, thing{chat: func(ctx context.Context, s *octomesh.ServerStream[msg, msg]) error {
		if err := octomesh.SetHeader(ctx, "big", strings.Repeat("x", 3000)); err != nil {
			return err
		}
		_ = s.Send(text("beginning"))
		_ = s.Send(text("more"))
		<-ctx.Done()
		over <- struct{}{}
		return ctx.Err()
	}})
	cc, err := grpc.NewClient(m.tcp, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(1000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	for range 50 {
		chat := stream(t, within(t), cc, "Chat")
		err := chat.RecvMsg(&msg{})
		want(t, err, codes.ResourceExhausted)
		select {
		case <-over:
		case <-within(t).Done():
			t.Fatal("the handler was not told")
		}
	}
	if got, err := do(within(t), cc, []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}
