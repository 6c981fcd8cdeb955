// Package trace makes a span of each call that a service of the shop serves, and writes it to the log. The
// SDK carries the trace context from a handler into its outgoing calls; to begin spans is left to an
// interceptor such as this one.
package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// Message is the log message under which spans are written, each in the attribute of this name too.
const Message = "call"

// Span is one call as the instance saw that served it.
type Span struct {
	Trace    string    `json:"trace"`
	Span     string    `json:"span"`
	Parent   string    `json:"parent"`
	Target   string    `json:"target"`
	Instance string    `json:"instance"`
	Method   string    `json:"method"`
	Caller   string    `json:"caller"`  // the calling application
	Proxied  bool      `json:"proxied"` // it came by the instance's proxy
	Begin    time.Time `json:"begin"`
	TookUS   int64     `json:"took_us"`
	// BudgetUS is what was left until the caller's deadline when the call came; 0: it had none.
	BudgetUS int64             `json:"budget_us,omitempty"`
	Code     string            `json:"code"`
	Baggage  map[string]string `json:"baggage,omitempty"`
}

// ServedBy is the response's metadata key that names the instance, for people who want to know.
const ServedBy = "served-by"

// Interceptor logs each call that a server of the target takes.
func Interceptor(target, instance string, log *slog.Logger) octomesh.Interceptor {
	return func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
		s := begin(ctx)
		s.Target, s.Instance = target, instance
		s.Method = call.Method.Service + "/" + call.Method.Name
		_ = octomesh.SetHeader(ctx, ServedBy, instance) // fails only where the header has gone already
		err := next(octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: s.traceparent()}), call)
		s.TookUS = time.Since(s.Begin).Microseconds()
		s.Code = octomesh.CodeOf(err).String()
		log.LogAttrs(ctx, slog.LevelInfo, Message, slog.Any(Message, s))
		return err
	}
}

// begin makes a span of what came with the call.
func begin(ctx context.Context) *Span {
	s := &Span{Begin: time.Now(), Span: id(8)}
	if t, ok := octomesh.Trace(ctx); ok {
		s.Trace, s.Parent = split(t.Traceparent)
	} else {
		s.Trace = id(16)
	}
	if p, ok := octomesh.PeerInfo(ctx); ok {
		s.Caller, s.Proxied = p.Application, p.Proxied
	}
	if d, ok := ctx.Deadline(); ok {
		s.BudgetUS = d.Sub(s.Begin).Microseconds()
	}
	for k, v := range octomesh.Baggage(ctx).All() {
		if s.Baggage == nil {
			s.Baggage = make(map[string]string)
		}
		s.Baggage[k] = v
	}
	return s
}

func (s *Span) traceparent() string { return "00-" + s.Trace + "-" + s.Span + "-01" }

// split takes trace and parent from a traceparent, which the SDK has checked.
func split(traceparent string) (trace, parent string) {
	parts := strings.Split(traceparent, "-")
	return parts[1], parts[2]
}

// Root returns a context whose calls begin a new trace, and the trace's id.
func Root(ctx context.Context) (context.Context, string) {
	s := &Span{Trace: id(16), Span: id(8)}
	return octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: s.traceparent()}), s.Trace
}

func id(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
