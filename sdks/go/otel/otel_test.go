package octootel_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/wrapperspb"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	octootel "github.com/octomesh/octomesh/sdks/go/otel"
)

type msg = wrapperspb.StringValue

var (
	say   = &octomesh.Method{Service: "test.v1.Echo", Name: "Say", Kind: octomesh.Unary}
	watch = &octomesh.Method{Service: "test.v1.Echo", Name: "Watch", Kind: octomesh.ServerStreaming}
)

// recorder keeps spans. A simple processor hands them over when they end.
func recorder(opts ...sdktrace.TracerProviderOption) (*tracetest.InMemoryExporter, *sdktrace.TracerProvider) {
	e := tracetest.NewInMemoryExporter()
	return e, sdktrace.NewTracerProvider(append(opts, sdktrace.WithSyncer(e))...)
}

// serve starts a server in the process and returns a channel to it.
func serve(t *testing.T, server trace.TracerProvider, client octomesh.DialOption, handle func(context.Context, *msg) (*msg, error)) *octomesh.Channel {
	t.Helper()
	s := octomesh.NewServer("echo", octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		octomesh.WithInterceptors(octootel.Interceptor(octootel.WithTracerProvider(server))))
	s.RegisterService(octomesh.ServiceDesc{Name: "test.v1.Echo", Methods: []octomesh.MethodDesc{
		{Method: *say, Handler: octomesh.UnaryHandler(handle)},
		{Method: *watch, Handler: octomesh.ServerStreamHandler(func(ctx context.Context, m *msg, out *octomesh.ServerSender[msg]) error {
			res, err := handle(ctx, m)
			if err != nil {
				return err
			}
			return out.Send(res)
		})},
	}})
	ch, err := octomesh.NewInProcess(s, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ch.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return ch
}

func call(ctx context.Context, ch *octomesh.Channel) error {
	_, err := octomesh.CallUnary[msg, msg](ctx, ch, say, wrapperspb.String("x"), nil)
	return err
}

// traced makes a channel's calls spans of the provider.
func traced(p trace.TracerProvider) octomesh.DialOption {
	return octomesh.WithInterceptors(octootel.Interceptor(octootel.WithTracerProvider(p)))
}

var untraced = octomesh.WithInterceptors()

// one returns the only span.
func one(t *testing.T, e *tracetest.InMemoryExporter) tracetest.SpanStub {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(e.GetSpans()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // a server's span ends behind the answer
	}
	if n := len(e.GetSpans()); n != 1 {
		t.Fatalf("%d spans, want 1", n)
	}
	return e.GetSpans()[0]
}

func attr(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.AsString()
		}
	}
	return ""
}

func TestSpansOfCallerClientAndServerAreOneTrace(t *testing.T) {
	atServer, server := recorder()
	atClient, client := recorder()
	var inHandler trace.SpanContext
	var carried octomesh.TraceContext
	ch := serve(t, server, traced(client), func(ctx context.Context, m *msg) (*msg, error) {
		inHandler = trace.SpanContextFromContext(ctx)
		carried, _ = octomesh.Trace(ctx)
		return m, nil
	})
	_, application := recorder()
	ctx, parent := application.Tracer("application").Start(t.Context(), "order")
	if err := call(ctx, ch); err != nil {
		t.Fatal(err)
	}
	c, s := one(t, atClient), one(t, atServer)
	if c.Parent.SpanID() != parent.SpanContext().SpanID() || s.Parent.SpanID() != c.SpanContext.SpanID() || inHandler.SpanID() != s.SpanContext.SpanID() ||
		s.SpanContext.TraceID() != parent.SpanContext().TraceID() || !s.Parent.IsRemote() {
		t.Errorf("order %v, client's parent %v, server's parent %v", parent.SpanContext(), c.Parent, s.Parent)
	}
	if want := "00-" + inHandler.TraceID().String() + "-" + inHandler.SpanID().String() + "-01"; carried.Traceparent != want {
		t.Errorf("the handler's calls carry %s, want %s", carried.Traceparent, want)
	}
	if c.SpanKind != trace.SpanKindClient || s.SpanKind != trace.SpanKindServer || c.Name != "test.v1.Echo/Say" || s.Name != c.Name ||
		attr(c, "rpc.method") != c.Name || attr(c, "octo.target") != "echo" || attr(s, "octo.caller") == "" || attr(s, "rpc.response.status_code") != "OK" {
		t.Errorf("client %+v\nserver %+v", c, s)
	}
}

func TestHandlersCallsCarryTheTraceWithoutAnInterceptor(t *testing.T) {
	atServer, server := recorder()
	ch := serve(t, server, untraced, func(_ context.Context, m *msg) (*msg, error) { return m, nil })
	ctx := octomesh.ContextWithTrace(t.Context(), octomesh.TraceContext{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Tracestate: "vendor=1"})
	if err := call(ctx, ch); err != nil {
		t.Fatal(err)
	}
	if s := one(t, atServer); s.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.Parent.SpanID().String() != "b7ad6b7169203331" ||
		s.SpanContext.TraceState().String() != "vendor=1" {
		t.Errorf("%+v", s)
	}
}

func TestSamplingIsTheCallers(t *testing.T) {
	atServer, server := recorder(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	_, client := recorder(sdktrace.WithSampler(sdktrace.NeverSample()))
	var carried octomesh.TraceContext
	ch := serve(t, server, traced(client), func(ctx context.Context, m *msg) (*msg, error) {
		carried, _ = octomesh.Trace(ctx)
		return m, nil
	})
	if err := call(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	if n := len(atServer.GetSpans()); n != 0 || len(carried.Traceparent) != 55 || carried.Traceparent[53:] != "00" {
		t.Errorf("%d spans, the handler's calls carry %q", n, carried.Traceparent)
	}
}

func TestErrorsStandInTheSpans(t *testing.T) {
	atServer, server := recorder()
	atClient, client := recorder()
	ch := serve(t, server, traced(client), func(context.Context, *msg) (*msg, error) {
		return nil, octomesh.Errorf(octomesh.NotFound, "no such thing")
	})
	if err := call(t.Context(), ch); octomesh.CodeOf(err) != octomesh.NotFound {
		t.Fatal(err)
	}
	c, s := one(t, atClient), one(t, atServer)
	if c.Status.Code != codes.Error || attr(c, "error.type") != "NOT_FOUND" || attr(c, "octo.status.origin") != "APPLICATION" ||
		attr(c, "octo.status.disposition") != "PROCESSED" {
		t.Errorf("client %+v", c)
	}
	if s.Status.Code != codes.Unset || attr(s, "rpc.response.status_code") != "NOT_FOUND" {
		t.Errorf("server %+v: the fault is the caller's", s)
	}
}

func TestStreamsSpanEndsWithTheStream(t *testing.T) {
	atServer, server := recorder()
	atClient, client := recorder()
	ch := serve(t, server, traced(client), func(_ context.Context, m *msg) (*msg, error) { return m, nil })
	in, err := octomesh.CallServerStream[msg, msg](t.Context(), ch, watch, wrapperspb.String("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Receive(); err != nil {
		t.Fatal(err)
	}
	if n := len(atClient.GetSpans()); n != 0 {
		t.Errorf("the client's span ended before the stream")
	}
	if _, err := in.Receive(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if c, s := one(t, atClient), one(t, atServer); s.Parent.SpanID() != c.SpanContext.SpanID() || c.Status.Code != codes.Unset {
		t.Errorf("client %+v, server %+v", c, s)
	}
}

func TestGlobalProviderIsTheDefault(t *testing.T) {
	at, provider := recorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	_, server := recorder()
	ch := serve(t, server, octomesh.WithInterceptors(octootel.Interceptor()), func(_ context.Context, m *msg) (*msg, error) { return m, nil })
	if err := call(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	if s := one(t, at); s.SpanKind != trace.SpanKindClient {
		t.Errorf("%+v", s)
	}
}
