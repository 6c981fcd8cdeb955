// Package octootel makes OpenTelemetry spans of a service's calls: give [Interceptor] to channels and servers.
//
//	ch, err := octomesh.Dial("inventory", octomesh.WithInterceptors(octootel.Interceptor()))
//	srv := octomesh.NewServer("cart", octomesh.WithInterceptors(octootel.Interceptor()))
//
// A client's span is a child of the span in the call's context, and a server's of the caller's, or of the
// last proxy's that made one. Trace context travels as W3C Trace Context, whatever propagator the process
// has set.
package octootel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// Name is that of the instrumentation, and System the value of rpc.system.name.
const (
	Name   = "github.com/octomesh/octomesh/sdks/go/otel"
	System = "octo"
)

// Option changes what an interceptor does.
type Option func(*interceptor)

// WithTracerProvider sets where spans go. Default: the global provider, as it is when a call begins.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(i *interceptor) { i.provider = p }
}

type interceptor struct{ provider trace.TracerProvider }

// Interceptor returns an interceptor that makes a span of each call, at the client or at the server. Put it
// first, so that its span holds what other interceptors do.
func Interceptor(opts ...Option) octomesh.Interceptor {
	i := &interceptor{}
	for _, o := range opts {
		o(i)
	}
	return i.intercept
}

func (i *interceptor) tracer() trace.Tracer {
	p := i.provider
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return p.Tracer(Name, trace.WithInstrumentationVersion(octomesh.Version), trace.WithSchemaURL(semconv.SchemaURL))
}

func (i *interceptor) intercept(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
	kind := trace.SpanKindClient
	attrs := []attribute.KeyValue{semconv.RPCSystemNameKey.String(System), semconv.RPCMethod(call.Method.FullName())}
	if call.Server {
		kind = trace.SpanKindServer
		if p, ok := octomesh.PeerInfo(ctx); ok && p.Application != "" {
			attrs = append(attrs, attribute.String("octo.caller", p.Application))
		}
	} else {
		attrs = append(attrs, attribute.String("octo.target", call.Target))
	}
	if call.Server || !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = withCaller(ctx)
	}
	ctx, span := i.tracer().Start(ctx, call.Method.FullName(), trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	call.OnEnd(func(err error) { end(span, err, call.Server) })
	return next(withTrace(ctx), call)
}

var w3c propagation.TraceContext

// withCaller takes the caller's span from what the SDK carries.
func withCaller(ctx context.Context) context.Context {
	t, ok := octomesh.Trace(ctx)
	if !ok {
		return ctx
	}
	return w3c.Extract(ctx, propagation.MapCarrier{"traceparent": t.Traceparent, "tracestate": t.Tracestate})
}

// withTrace makes the SDK carry the span in ctx: to the server, and from a handler into its calls.
func withTrace(ctx context.Context) context.Context {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	if carrier["traceparent"] == "" {
		return ctx
	}
	return octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: carrier["traceparent"], Tracestate: carrier["tracestate"]})
}

// end says in the span how the call ended.
func end(span trace.Span, err error, server bool) {
	code := octomesh.CodeOf(err)
	span.SetAttributes(semconv.RPCResponseStatusCode(code.String()))
	var e *octomesh.Error
	if errors.As(err, &e) {
		span.SetAttributes(attribute.String("octo.status.origin", e.Origin.String()), attribute.String("octo.status.disposition", e.Disposition.String()))
		if e.Reason != 0 {
			span.SetAttributes(attribute.String("octo.status.reason", e.Reason.String()))
		}
	}
	if code != octomesh.OK && (!server || serverFault(code)) {
		span.SetAttributes(semconv.ErrorTypeKey.String(code.String()))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// serverFault tells whether a code is the server's fault rather than its caller's, as OpenTelemetry has it
// for gRPC.
func serverFault(code octomesh.Code) bool {
	switch code {
	case octomesh.Unknown, octomesh.DeadlineExceeded, octomesh.Unimplemented, octomesh.Internal, octomesh.Unavailable, octomesh.DataLoss:
		return true
	}
	return code > octomesh.Unauthenticated
}
