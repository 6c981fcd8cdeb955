package octomesh_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

func failing(err error) echo {
	return echo{say: func(context.Context, *message) (*message, error) { return nil, err }}
}

func TestEveryCodeReachesTheClient(t *testing.T) {
	var code octomesh.Code
	c := client(t, echo{say: func(context.Context, *message) (*message, error) {
		return &message{}, octomesh.Errorf(code, "code %d", code)
	}})
	for _, code = range []octomesh.Code{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 999, -1} {
		_, err := c.Say(within(t, 5*time.Second), &message{})
		check(t, err, octomesh.Error{Code: code, Origin: octomesh.OriginApplication, Disposition: octomesh.DispositionProcessed})
		if octomesh.CodeOf(err) != code {
			t.Fatalf("CodeOf is %v", octomesh.CodeOf(err))
		}
	}
	code = octomesh.OK
	if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
		t.Fatal(err)
	}
}

func TestStatusMessageArrivesByteForByte(t *testing.T) {
	for _, text := range []string{"100%", "a\r\nb", "ключ 🗝 \x00 end", strings.Repeat("x", 8<<10), "\xff\xfe"} {
		c := client(t, failing(octomesh.Errorf(octomesh.Aborted, "%s", text)))
		_, err := c.Say(within(t, 5*time.Second), &message{})
		var e *octomesh.Error
		if !errors.As(err, &e) || e.Message != text {
			t.Fatalf("got %q, want %q", err, text)
		}
	}
}

func TestDetailsArriveInOrderAlsoUnknownOnes(t *testing.T) {
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/no.such.Type", Value: []byte{1, 2, 3}}
	handlers := octomesh.WithDetails(octomesh.Errorf(octomesh.NotFound, "no"), durationpb.New(time.Second), wrapperspb.String("s"))
	handlers = octomesh.WithDetails(handlers, unknown)
	c := client(t, failing(handlers))
	_, err := c.Say(within(t, 5*time.Second), &message{})
	var e *octomesh.Error
	if !errors.As(err, &e) || len(e.Details()) != 3 {
		t.Fatalf("got %v", err)
	}
	var d durationpb.Duration
	if err := e.Details()[0].UnmarshalTo(&d); err != nil || d.AsDuration() != time.Second {
		t.Fatal(&d, err)
	}
	if got := e.Details()[2]; !proto.Equal(got, unknown) {
		t.Fatal(got)
	}
}

func TestPlainErrorsAreUnknownAndTheContextsKeepTheirCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		code octomesh.Code
	}{
		{errors.New("plain"), octomesh.Unknown},
		{context.Canceled, octomesh.Cancelled},
		{context.DeadlineExceeded, octomesh.DeadlineExceeded},
	} {
		c := client(t, failing(test.err))
		_, err := c.Say(within(t, 5*time.Second), &message{})
		check(t, err, octomesh.Error{Code: test.code, Origin: octomesh.OriginApplication, Disposition: octomesh.DispositionProcessed})
	}
}

func TestDownstreamsWordIsNeverPassedOnAsTheHandlersOwn(t *testing.T) {
	c := client(t, failing(&octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyDraining,
		Origin: octomesh.OriginClientProxy, Disposition: octomesh.DispositionNotProcessed, Message: "m", RetryAfter: time.Second}))
	_, err := c.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Origin: octomesh.OriginApplication, Disposition: octomesh.DispositionProcessed})
}

func TestCrashOfAHandlerStaysItsOwn(t *testing.T) {
	var log bytes.Buffer
	for name, crash := range map[string]func(){
		"panic":  func() { panic("secret") },
		"goexit": runtime.Goexit,
		"nil":    func() { var m *message; m.Number++ },
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, echo{say: func(_ context.Context, m *message) (*message, error) {
				if m.Text == "crash" {
					crash()
				}
				return m, nil
			}}, octomesh.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			_, err := c.Say(within(t, 5*time.Second), &message{Text: "crash"})
			check(t, err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonHandlerCrashed,
				Origin: octomesh.OriginServerSDK, Disposition: octomesh.DispositionProcessed})
			if strings.Contains(err.Error(), "secret") {
				t.Fatal("the panic's text left the server")
			}
			if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
				t.Fatal("the server did not go on:", err)
			}
		})
	}
	if !strings.Contains(log.String(), "secret") {
		t.Fatal("the panic's text is not in the log")
	}
}

func TestUnknownServiceMethodAndKind(t *testing.T) {
	_, at := serve(t, echo{}, "127.0.0.1:0")
	ch := dial(t, octomesh.WithDirect(at))
	for _, test := range []struct {
		m      octomesh.Method
		reason octomesh.Reason
	}{
		{octomesh.Method{Service: "no.Such", Name: "Say", Kind: octomesh.Unary}, octomesh.ReasonUnknownService},
		{octomesh.Method{Service: testproto.EchoServiceName, Name: "No", Kind: octomesh.Unary}, octomesh.ReasonUnknownMethod},
		{octomesh.Method{Service: testproto.EchoServiceName, Name: "Chat", Kind: octomesh.Unary}, octomesh.ReasonUnknownMethod},
	} {
		_, err := octomesh.CallUnary[message, message](within(t, 5*time.Second), ch, &test.m, &message{}, nil)
		check(t, err, octomesh.Error{Code: octomesh.Unimplemented, Reason: test.reason,
			Origin: octomesh.OriginServerSDK, Disposition: octomesh.DispositionNotProcessed})
	}
}

func TestMessagesThatDoNotDecode(t *testing.T) {
	_, at := serve(t, echo{say: func(_ context.Context, m *message) (*message, error) { return nil, nil }}, "127.0.0.1:0")
	ch := dial(t, octomesh.WithDirect(at))
	say := octomesh.Method{Service: testproto.EchoServiceName, Name: "Say", Kind: octomesh.Unary}
	chat := octomesh.Method{Service: testproto.EchoServiceName, Name: "Chat", Kind: octomesh.BidiStreaming}
	// A string field with bytes that are no UTF-8 does not decode: field 2 of Message.
	broken := &testproto.Other{}
	broken.ProtoReflect().SetUnknown([]byte{0x12, 1, 0xff})
	_, err := octomesh.CallUnary[testproto.Other, message](within(t, 5*time.Second), ch, &say, broken, nil)
	check(t, err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonBadMessage, Origin: octomesh.OriginServerSDK})
	s, err := octomesh.CallBidiStream[testproto.Other, message](within(t, 5*time.Second), ch, &chat, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Send(broken)
	_, err = s.Receive()
	check(t, err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonBadMessage, Origin: octomesh.OriginServerSDK})
	// Neither a response nor an error is a fault of the handler.
	_, err = octomesh.CallUnary[message, message](within(t, 5*time.Second), ch, &say, &message{}, nil)
	check(t, err, octomesh.Error{Code: octomesh.Internal, Reason: octomesh.ReasonBadMessage, Origin: octomesh.OriginServerSDK,
		Disposition: octomesh.DispositionProcessed})
}

func TestErrorComparesAndReads(t *testing.T) {
	err := error(&octomesh.Error{Code: octomesh.Cancelled, Origin: octomesh.OriginClientSDK, Reason: octomesh.ReasonCancelled, Message: "x"})
	if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("CANCELLED is not context.Canceled")
	}
	if !errors.Is(err, &octomesh.Error{Code: octomesh.Cancelled}) || errors.Is(err, &octomesh.Error{Code: octomesh.NotFound}) {
		t.Fatal("codes do not compare")
	}
	if got, want := err.Error(), "CANCELLED: x (CLIENT_SDK, CANCELLED, UNKNOWN)"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if octomesh.CodeOf(nil) != octomesh.OK || octomesh.CodeOf(errors.New("x")) != octomesh.Unknown ||
		octomesh.CodeOf(context.DeadlineExceeded) != octomesh.DeadlineExceeded {
		t.Fatal("CodeOf")
	}
}
