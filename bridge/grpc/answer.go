package grpc

import (
	"math"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/octomesh/octomesh/core/wire"
)

// said is what an answer's header list says apart from metadata.
type said struct {
	http, contentType, encoding, accepted string
	status                                wire.Status
	hasStatus                             bool
}

func (a *said) note(f *hpack.HeaderField) {
	switch f.Name {
	case ":status":
		a.http = f.Value
	case "content-type":
		a.contentType = f.Value
	case "grpc-encoding":
		a.encoding = f.Value
	case "grpc-accept-encoding":
		a.accepted = f.Value
	case "grpc-status":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || n < math.MinInt32 || n > math.MaxUint32 { // grpc-go writes negative ones as if they had no sign
			n = int64(wire.Unknown)
			a.status.Message = []byte("bridge: a grpc-status that is no number: " + f.Value)
		}
		a.status.Code, a.hasStatus = wire.Code(int32(n)), true
	case "grpc-message":
		a.status.Message = percentDecode(f.Value)
	case "grpc-status-details-bin":
		a.status.Details, _ = decodeBin(f.Value)
	}
}

// answerHeaders tells of a server's header list: the first, the last, or one that is both.
func (c *Conn) answerHeaders(s *stream, ev *wire.Event) {
	var a said
	fields, trailers, end := c.hev.Fields, c.hev.Trailers, c.hev.End
	for i := range fields {
		a.note(&fields[i])
	}
	switch {
	case trailers && (s.body || s.prefixN > 0) && a.hasStatus && a.status.Code == wire.OK:
		c.breakStream(s, ev, "the stream ends within a message")
		return
	case !trailers && !a.hasStatus && (a.http != "200" || !isGRPC(a.contentType)):
		c.noGRPC(s, ev, &a)
		return
	}
	at := len(c.lent)
	h := c.lent
	if end {
		if !a.hasStatus {
			a.status = wire.Status{Code: wire.Unknown, Origin: wire.OriginBridge, Message: []byte("bridge: the server ends the call without a grpc-status")}
		} else if a.status.Code != wire.OK && a.status.Origin == 0 {
			a.status.Origin, a.status.Disposition = wire.OriginApplication, wire.DispositionProcessed
		}
		h = wire.AppendStatus(h, &a.status)
	}
	if !trailers {
		var list [8]string
		h = wire.AppendAnswer(h, a.encoding, splitList(list[:0], a.accepted), a.contentType)
	}
	if s.headers || !end {
		h = wire.AppendHeadersPresent(h)
	}
	s.headers = true
	h = appendAnswerEntries(h, fields, end)
	c.lent = h
	ev.Kind = wire.EventResponse
	ev.Frame = wire.Frame{Header: wire.Header{Type: wire.TypeResponse, Stream: s.ID, HeadLen: uint16(min(len(h)-at, wire.MaxHead))}, Head: h[at:len(h):len(h)]}
	if end {
		ev.Frame.Flags = wire.FlagEnd
		c.forget(s, 0) // the server's word ends both directions
	}
}

// appendAnswerEntries appends metadata, or trailers. A broken -bin value is left out: the call has an outcome already.
func appendAnswerEntries(h []byte, fields []hpack.HeaderField, end bool) []byte {
	put := wire.AppendHeader[string, []byte]
	if end {
		put = wire.AppendTrailer[string, []byte]
	}
	for i := range fields {
		f := &fields[i]
		switch {
		case !isMetadata(f.Name) || !isKey(f.Name):
		case len(f.Name) > 4 && f.Name[len(f.Name)-4:] == "-bin":
			for one := range strings.SplitSeq(f.Value, ",") { // an empty one is one
				if raw, ok := decodeBin(one); ok {
					h = put(h, f.Name, raw)
				}
			}
		case !printable(f.Value):
		case end:
			h = wire.AppendTrailer(h, f.Name, f.Value)
		default:
			h = wire.AppendHeader(h, f.Name, f.Value)
		}
	}
	return h
}

// noGRPC ends a call that something else than a gRPC server answers, such as a proxy's page of error 502, by the status that
// gRPC's clients take it for.
func (c *Conn) noGRPC(s *stream, ev *wire.Event, a *said) {
	ev.Kind = wire.EventFailed
	ev.Status = wire.Status{
		Code: codeOfHTTP(a.http), Origin: wire.OriginBridge,
		Message: []byte("bridge: the server answers HTTP status " + a.http + " with content-type " + strconv.Quote(a.contentType)),
	}
	c.Reset(&s.Stream, &wire.ResetHead{Status: ev.Status})
}

// codeOfHTTP is what gRPC takes an HTTP status for.
func codeOfHTTP(status string) wire.Code {
	switch status {
	case "400":
		return wire.Internal
	case "401":
		return wire.Unauthenticated
	case "403":
		return wire.PermissionDenied
	case "404":
		return wire.Unimplemented
	case "429", "502", "503", "504":
		return wire.Unavailable
	}
	return wire.Unknown
}
