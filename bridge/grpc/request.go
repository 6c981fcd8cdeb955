package grpc

import (
	"encoding/base64"
	"math"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
	"github.com/octomesh/octomesh/core/wire"
)

// refusal is the answer to a request that is no gRPC call, or none that can be passed on.
type refusal struct {
	http string // the HTTP status of an answer that no gRPC client reads; empty: it has a gRPC status
	wire.Status
}

func badRequest(why string) *refusal {
	st := wire.Refuse(wire.ReasonBadHead, wire.OriginBridge, "bridge: "+why)
	st.Code = wire.Internal // what gRPC's own servers answer
	return &refusal{Status: st}
}

// asked is what a request's header list says apart from metadata.
type asked struct {
	method, path, authority, contentType string
	timeout, encoding, accepted          string
	traceparent, tracestate              string
}

// requestHead appends the head of a call to what is lent, or says why it is none.
func (c *Conn) requestHead(s *stream, fields []hpack.HeaderField) *refusal {
	var a asked
	for i := range fields {
		a.note(&fields[i])
	}
	service, method, ok := a.call()
	switch {
	case a.method != "POST":
		return &refusal{http: "405"}
	case !isGRPC(a.contentType):
		return &refusal{http: "415"}
	case !ok:
		return &refusal{Status: wire.Refuse(wire.ReasonUnknownMethod, wire.OriginBridge, "bridge: a path that is not /service/method")}
	}
	us, ok := parseTimeout(a.timeout)
	switch {
	case !ok:
		return badRequest("a grpc-timeout that is none")
	case a.timeout != "" && us == 0:
		st := wire.Refuse(wire.ReasonDeadline, wire.OriginBridge, "bridge: no time was left")
		st.Disposition = wire.DispositionNotProcessed
		return &refusal{Status: st}
	}
	s.contentType = a.contentType
	h := wire.AppendTimeout(c.lent, us)
	h = wire.AppendMethod(h, c.cfg.target(a.authority, service), service, method, wire.KindUnspecified)
	for i := range fields {
		if h, ok = appendMetadata(h, &fields[i]); !ok {
			c.lent = h
			return badRequest("a value of " + fields[i].Name + " that is not base64")
		}
	}
	h = wire.AppendMetadata(h, "via", via)
	h = wire.AppendTrace(h, a.traceparent, a.tracestate)
	var list [8]string
	accepted := splitList(list[:0], a.accepted)
	s.encoding = likely(accepted)
	h = wire.AppendEncodings(h, a.encoding, accepted)
	h = wire.AppendForeign(h, a.contentType, a.authority, a.path)
	c.lent = h
	return nil
}

// via names the bridge to whoever gets the call, as HTTP's proxies do.
const via = "2 octo"

// note takes a field that is no metadata.
func (a *asked) note(f *hpack.HeaderField) {
	switch f.Name {
	case ":method":
		a.method = f.Value
	case ":path":
		a.path = f.Value
	case ":authority":
		a.authority = f.Value
	case "host":
		if a.authority == "" {
			a.authority = f.Value
		}
	case "content-type":
		a.contentType = f.Value
	case "grpc-timeout":
		a.timeout = f.Value
	case "grpc-encoding":
		a.encoding = f.Value
	case "grpc-accept-encoding":
		a.accepted = f.Value
	case "traceparent":
		a.traceparent = f.Value
	case "tracestate":
		a.tracestate = f.Value
	}
}

// call splits the path.
func (a *asked) call() (service, method string, ok bool) {
	rest, ok := strings.CutPrefix(a.path, "/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i <= 0 || i == len(rest)-1 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// appendMetadata appends a field that is metadata; false: it is broken. Names that the mesh keeps for itself are left out, so
// that nobody outside can speak in its name, and so is what metadata cannot be (W-HEAD-8).
func appendMetadata(h []byte, f *hpack.HeaderField) ([]byte, bool) {
	switch {
	case f.Name == "baggage":
		return appendBaggage(h, f.Value), true
	case !isMetadata(f.Name) || !isKey(f.Name):
		return h, true
	case !strings.HasSuffix(f.Name, "-bin"):
		if !printable(f.Value) {
			return h, true
		}
		return wire.AppendMetadata(h, f.Name, f.Value), true
	}
	for one := range strings.SplitSeq(f.Value, ",") {
		raw, ok := decodeBin(one)
		if !ok {
			return h, false
		}
		h = wire.AppendMetadata(h, f.Name, raw)
	}
	return h, true
}

// isMetadata tells whether a field is the users' own.
func isMetadata(name string) bool {
	switch name {
	case "content-type", "te", "host", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message",
		"grpc-status-details-bin", "traceparent", "tracestate", "baggage":
		return false
	}
	return !strings.HasPrefix(name, ":") && !strings.HasPrefix(name, reserved)
}

// reserved is how the names begin that the mesh keeps for itself.
const reserved = "octo-"

// decodeBin reads the value of a -bin field, with padding or without.
func decodeBin(s string) ([]byte, bool) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	raw, err := base64.RawStdEncoding.DecodeString(s)
	return raw, err == nil
}

// splitList splits a list at its commas.
func splitList(out []string, s string) []string {
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, ",")
		if one = strings.TrimSpace(one); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// likely is the encoding of a compressed answer whose beginning does not name it, as hops of before W-MSG-13 leave it: there the
// server took one of the client's.
func likely(accepted []string) string {
	for _, a := range accepted {
		if a != "identity" {
			return a
		}
	}
	return ""
}

// Units of grpc-timeout in nanoseconds.
func unitOf(c byte) uint64 {
	switch c {
	case 'H':
		return 3600e9
	case 'M':
		return 60e9
	case 'S':
		return 1e9
	case 'm':
		return 1e6
	case 'u':
		return 1e3
	case 'n':
		return 1
	}
	return 0
}

// maxTimeout is the longest timeout of the wire, in microseconds (W-TIME-2).
const maxTimeout = 100 * 365 * 24 * 3600 * 1_000_000

// parseTimeout reads a grpc-timeout as microseconds, rounded up; 0 for none.
func parseTimeout(s string) (us uint64, ok bool) {
	if s == "" {
		return 0, true
	}
	unit := unitOf(s[len(s)-1])
	digits := s[:len(s)-1]
	if unit == 0 || len(digits) == 0 || len(digits) > 8 {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
		us = us*10 + uint64(digits[i]-'0')
	}
	if unit < 1000 {
		return (us*unit + 999) / 1000, true
	}
	return min(us*(unit/1000), maxTimeout), true
}

// appendTimeout appends a grpc-timeout of at most eight digits, rounded up.
func appendTimeout(dst []byte, us uint64) []byte {
	units := [...]struct {
		name byte
		us   uint64
	}{{'u', 1}, {'m', 1e3}, {'S', 1e6}, {'M', 60e6}, {'H', 3600e6}}
	for _, u := range units {
		if n := us/u.us + min(us%u.us, 1); n < 1e8 {
			return append(appendNumber(dst, n), u.name)
		}
	}
	return append(dst, "99999999H"...)
}

// refuse answers a request that becomes no call.
func (c *Conn) refuse(s *stream, h *h2.Stream, r *refusal) {
	h.User = s
	if r.http != "" {
		c.enc.begin()
		c.enc.add(":status", r.http)
		c.h.Headers(h, c.enc.block, true)
		s.Call = nil
		c.closed(s)
		return
	}
	c.Reset(&s.Stream, &wire.ResetHead{Status: r.Status})
	c.h.Release()
}

// appendBaggage appends the entries of a W3C baggage header; what does not parse is left out.
func appendBaggage(h []byte, value string) []byte {
	for one := range strings.SplitSeq(value, ",") {
		one, _, _ = strings.Cut(one, ";") // properties are nobody's here
		k, v, ok := strings.Cut(one, "=")
		k = strings.TrimSpace(k)
		if !ok || !isKey(k) || strings.HasPrefix(k, reserved) {
			continue
		}
		h = wire.AppendBaggage(h, k, percentDecode(strings.TrimSpace(v)))
	}
	return h
}

// isKey tells whether a name may be one of metadata or baggage (W-HEAD-8).
func isKey[T ~string | ~[]byte](k T) bool {
	for i := range len(k) {
		if c := k[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(k) > 0 && len(k) <= math.MaxUint16
}
