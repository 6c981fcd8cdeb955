package otlp

import (
	"context"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/octomesh/octomesh/core/telemetry/record"
	tracecontext "github.com/octomesh/octomesh/core/telemetry/trace"
)

// System is rpc.system.name of calls by this protocol.
const System = "octo"

// Attributes that are the mesh's own. docs/guides/telemetry.md says what they mean.
const (
	AttrTarget      = "octo.target"
	AttrRoute       = "octo.route"
	AttrGeneration  = "octo.generation"
	AttrCaller      = "octo.caller"
	AttrEndpoint    = "octo.endpoint"
	AttrAttempts    = "octo.attempts"
	AttrLane        = "octo.lane"
	AttrOrigin      = "octo.status.origin"
	AttrReason      = "octo.status.reason"
	AttrDisposition = "octo.status.disposition"
	AttrWaited      = "octo.waited_us"
	AttrShadow      = "octo.shadow"
)

// builder makes spans by the OpenTelemetry SDK, with ids that were chosen when the call began. One goroutine
// uses it.
type builder struct {
	tracer trace.Tracer
	next   tracecontext.Context // of the span that is being made
	ended  []sdktrace.ReadOnlySpan
	attrs  []attribute.KeyValue // scratch
}

func newBuilder(cfg *Config) *builder {
	b := &builder{}
	var attrs []attribute.KeyValue
	for k, v := range cfg.Resource {
		attrs = append(attrs, attribute.String(k, v))
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL, attrs...)), sdktrace.WithIDGenerator(b),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // it was decided when the call began
		sdktrace.WithSpanProcessor(b),
	)
	b.tracer = provider.Tracer("github.com/octomesh/octomesh/core/proxy",
		trace.WithInstrumentationVersion(cfg.Version), trace.WithSchemaURL(semconv.SchemaURL))
	return b
}

// take returns the spans that were added since it was last called.
func (b *builder) take() []sdktrace.ReadOnlySpan {
	out := b.ended
	b.ended = nil
	return out
}

// add makes the span of a call that arrived at the given time.
func (b *builder) add(r *record.Record, arrived time.Time) {
	ctx := context.Background()
	if r.Parent != (tracecontext.SpanID{}) {
		state, _ := trace.ParseTraceState(string(r.Text(record.Tracestate))) // a bad one counts as none
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID(r.Context.Trace), SpanID: trace.SpanID(r.Parent),
			TraceFlags: trace.TraceFlags(r.Context.Flags), TraceState: state, Remote: true,
		}))
	}
	kind := trace.SpanKindClient
	if r.Inbound {
		kind = trace.SpanKindServer
	}
	b.next = r.Context
	method := string(r.Text(record.Method))
	_, span := b.tracer.Start(ctx, method, trace.WithTimestamp(arrived), trace.WithSpanKind(kind), trace.WithAttributes(b.attributes(r, method)...))
	if r.Code != 0 && (!r.Inbound || serverFault(r.Code)) {
		span.SetStatus(codes.Error, r.Reason)
		span.SetAttributes(semconv.ErrorTypeKey.String(r.CodeName))
	}
	span.End(trace.WithTimestamp(arrived.Add(time.Duration(r.Took))))
}

func (b *builder) attributes(r *record.Record, method string) []attribute.KeyValue {
	b.attrs = append(b.attrs[:0],
		semconv.RPCSystemNameKey.String(System), semconv.RPCMethod(method), semconv.RPCResponseStatusCode(r.CodeName),
		attribute.Int64(AttrGeneration, int64(r.Generation)), attribute.Int(AttrAttempts, r.Attempts))
	for _, a := range [...]struct{ key, text string }{
		{AttrTarget, string(r.Text(record.Target))}, {AttrCaller, string(r.Text(record.Caller))}, {AttrLane, string(r.Text(record.Lane))},
		{AttrRoute, r.Route}, {AttrEndpoint, r.Endpoint}, {AttrOrigin, r.Origin}, {AttrReason, r.Reason},
	} {
		if a.text != "" {
			b.attrs = append(b.attrs, attribute.String(a.key, a.text))
		}
	}
	if r.Code != 0 {
		b.attrs = append(b.attrs, attribute.String(AttrDisposition, r.Disposition))
	}
	if r.Shadow {
		b.attrs = append(b.attrs, attribute.Bool(AttrShadow, true))
	}
	if r.Sent != 0 {
		b.attrs = append(b.attrs, attribute.Int64(AttrWaited, (r.Sent-r.Arrived)/int64(time.Microsecond)))
	}
	if host, port, err := net.SplitHostPort(r.Address); err == nil {
		b.attrs = append(b.attrs, semconv.ServerAddress(host))
		if n, err := strconv.Atoi(port); err == nil {
			b.attrs = append(b.attrs, semconv.ServerPort(n))
		}
	}
	return b.attrs
}

// serverFault tells whether a code is the server's fault rather than its caller's, as OpenTelemetry has it
// for gRPC: only then a server's span is an error.
func serverFault(code int32) bool {
	switch code {
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return code > 16
}

// NewIDs implements sdktrace.IDGenerator, for the first span of a trace.
func (b *builder) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	return trace.TraceID(b.next.Trace), trace.SpanID(b.next.Span)
}

// NewSpanID implements sdktrace.IDGenerator.
func (b *builder) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	return trace.SpanID(b.next.Span)
}

// OnStart implements sdktrace.SpanProcessor.
func (b *builder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor: it keeps the span for the export.
func (b *builder) OnEnd(s sdktrace.ReadOnlySpan) { b.ended = append(b.ended, s) }

// Shutdown implements sdktrace.SpanProcessor.
func (b *builder) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (b *builder) ForceFlush(context.Context) error { return nil }
