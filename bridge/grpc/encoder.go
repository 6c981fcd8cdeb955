package grpc

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
	"github.com/octomesh/octomesh/core/wire"
)

// encoder builds header blocks, one at a time.
type encoder struct {
	block   []byte
	scratch []byte
	head    []byte // of a request, from its parts
	size    int    // as a header list
}

func (e *encoder) begin() { e.block, e.size = e.block[:0], 0 }

func (e *encoder) add(name, value string) {
	e.size += h2.FieldSize(name, value)
	e.block = h2.AppendField(e.block, name, value)
}

func (e *encoder) addBytes(name string, value []byte) {
	e.size += h2.FieldSize(name, value)
	e.block = h2.AppendField(e.block, name, value)
}

// addIf adds a field unless it is empty, or cannot stand in a header list.
func (e *encoder) addIf(name string, value []byte) {
	if len(value) > 0 && printable(value) {
		e.addBytes(name, value)
	}
}

// entries adds metadata. What gRPC could not carry, or would take for its own, is left out.
func (e *encoder) entries(all []wire.Entry) {
	for i := range all {
		k, v := all[i].Key, all[i].Value
		if !isKey(k) || !isMetadata(string(k)) || isHTTP1(string(k)) {
			continue
		}
		if strings.HasSuffix(string(k), "-bin") {
			v = base64.RawStdEncoding.AppendEncode(e.scratch[:0], v)
			e.scratch = v
		} else if !printable(v) {
			continue
		}
		e.size += h2.FieldSize(k, v)
		e.block = h2.AppendField(e.block, k, v)
	}
}

// isHTTP1 tells whether HTTP/2 forbids a name.
func isHTTP1(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// printable tells whether a value may stand in a header list as gRPC has it.
func printable[T ~string | ~[]byte](v T) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// status adds the fields by which gRPC ends a call, and who concluded it where that was the mesh.
func (e *encoder) status(st *wire.Status) {
	e.scratch = strconv.AppendInt(e.scratch[:0], int64(st.Code), 10)
	e.addBytes("grpc-status", e.scratch)
	if len(st.Message) > 0 {
		e.scratch = percentEncode(e.scratch[:0], st.Message)
		e.addBytes("grpc-message", e.scratch)
	}
	if len(st.Details) > 0 {
		e.scratch = base64.RawStdEncoding.AppendEncode(e.scratch[:0], st.Details)
		e.addBytes("grpc-status-details-bin", e.scratch)
	}
	if st.Origin > wire.OriginApplication {
		e.add("octo-origin", spoken(st.Origin))
		if st.Reason != 0 {
			e.add("octo-reason", st.Reason.String())
		}
	}
	if st.RetryAfterMS > 0 {
		e.scratch = strconv.AppendUint(e.scratch[:0], uint64(st.RetryAfterMS), 10)
		e.addBytes("grpc-retry-pushback-ms", e.scratch)
	}
}

// spoken is an origin's name in trailers.
func spoken(o wire.Origin) string {
	switch o {
	case wire.OriginServerSDK:
		return "server-sdk"
	case wire.OriginServerProxy:
		return "server-proxy"
	case wire.OriginClientProxy:
		return "client-proxy"
	case wire.OriginClientSDK:
		return "client-sdk"
	case wire.OriginBridge:
		return "bridge"
	}
	return "unknown"
}

const hexDigits = "0123456789ABCDEF"

// percentEncode writes a status message as gRPC has it: what is not printable ASCII, and '%', as %XX.
func percentEncode(dst, s []byte) []byte {
	for _, c := range s {
		if c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// percentDecode reads it. What is no %XX stands for itself, as gRPC wants it.
func percentDecode(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(n))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

func appendNumber(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }
