package octomesh

import "context"

// TraceContext is W3C Trace Context in its text forms. The SDK passes it on as it came; to begin traces
// and spans is an interceptor's work.
type TraceContext struct {
	// Traceparent is "00-<32 hex digits>-<16 hex digits>-<2 hex digits>".
	Traceparent string
	// Tracestate is the vendors' list, or "".
	Tracestate string
}

// Trace returns the trace context that ctx carries; ok is false if there is none.
func Trace(ctx context.Context) (t TraceContext, ok bool) {
	c := carriedBy(ctx)
	if c == nil || c.traceparent == "" {
		return TraceContext{}, false
	}
	return TraceContext{c.traceparent, c.tracestate}, true
}

// ContextWithTrace returns a context whose calls carry t. A traceparent that is not valid counts as none,
// and so does a tracestate without one.
func ContextWithTrace(ctx context.Context, t TraceContext) context.Context {
	next := copyCarried(ctx)
	next.traceparent, next.tracestate = "", ""
	if validTraceparent(t.Traceparent) {
		next.traceparent, next.tracestate = t.Traceparent, t.Tracestate
	}
	return context.WithValue(ctx, carriedKey{}, next)
}

// validTraceparent checks the form of Trace Context level 1: version, trace id, parent id, flags. Later
// versions may be longer.
func validTraceparent[T string | []byte](t T) bool {
	const size = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(t) < size || t[2] != '-' || t[35] != '-' || t[52] != '-' {
		return false
	}
	if string(t[:2]) == "ff" || string(t[:2]) == "00" && len(t) != size || len(t) > size && t[size] != '-' {
		return false
	}
	return isHex(t[:2]) && isHex(t[3:35]) && isHex(t[36:52]) && isHex(t[53:55]) &&
		!isZero(t[3:35]) && !isZero(t[36:52])
}

func isHex[T string | []byte](t T) bool {
	for i := range len(t) {
		if c := t[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isZero[T string | []byte](t T) bool {
	for i := range len(t) {
		if t[i] != '0' {
			return false
		}
	}
	return true
}
