package wire

import "encoding/binary"

// CallKind is what the caller knows of the shape of a call.
type CallKind uint8

// The call kinds. The numbers are the wire's.
const (
	KindUnspecified CallKind = iota
	KindUnary
	KindClientStream
	KindServerStream
	KindBidiStream
)

// Hop fields: what a hop appends to a head. The last one wins.
const (
	HopCaller         = 100
	HopVerifiedCaller = 101
	HopAttempt        = 102
	HopTraceparent    = 103
	HopLane           = 104
	HopTimings        = 105
	HopTarget         = 106
	HopShadow         = 107

	firstHop, lastHop = 100, 127
)

// RequestHead opens a call. Parsed, its slices borrow the head's buffer, and hop fields have been
// applied: Traceparent, for one, is the last hop's word.
type RequestHead struct {
	TimeoutUS         uint64 // what is left of the caller's time; 0: no deadline
	TotalLength       uint64
	Target            []byte
	Service           []byte
	Method            []byte
	Kind              CallKind
	Metadata          []Entry
	Traceparent       []byte
	Tracestate        []byte
	Baggage           []Entry
	HashKey           []byte
	Attempt           uint32
	CallID            []byte
	Idempotent        bool
	MessageEncoding   []byte
	AcceptedEncodings [][]byte
	ContentType       []byte
	Authority         []byte
	Path              []byte
	WantTimings       bool // the caller wants to know where the time went

	Caller         []byte // hop field
	VerifiedCaller []byte // hop field
	Lane           []byte // hop field
	Shadow         bool   // hop field: a copy whose answer nobody gets
	// HasVerifiedCaller: the server's proxy has spoken of the caller, if only to say "not verified".
	HasVerifiedCaller bool

	// FromSDK tells whether the head holds no hop field and no singular field twice, as a head that
	// comes from an SDK or from a bridge's foreign side must.
	FromSDK bool
	// timeoutFirst: the head begins with timeout_us, so that it can be patched in place.
	timeoutFirst bool
	// timeoutLater: a timeout_us stands elsewhere, or has a longer tag, and would win over one that is put in front.
	timeoutLater bool
	// hopAttempt and so on: a hop has spoken, and the head's own field does not count any more.
	hopAttempt, hopTraceparent, hopTarget bool
}

// Reset empties the head and keeps its slices for the next Parse.
func (h *RequestHead) Reset() {
	*h = RequestHead{
		Metadata: h.Metadata[:0], Baggage: h.Baggage[:0], AcceptedEncodings: h.AcceptedEncodings[:0],
	}
}

// Parse reads a serialized octo.wire.v1.RequestHead.
func (h *RequestHead) Parse(b []byte) error {
	h.Reset()
	h.FromSDK = true
	var f field
	var seen uint32
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return errHead
		}
		if f.num >= firstHop {
			if f.num <= lastHop {
				h.FromSDK = false
				if !h.hop(&f) {
					return errHead
				}
			}
			continue
		}
		if f.num > 20 {
			continue
		}
		if bit := uint32(1) << f.num; bit&repeatedRequestFields == 0 {
			if seen&bit != 0 {
				h.FromSDK = false
			}
			seen |= bit
		}
		if !h.set(&f) {
			return errHead
		}
		if f.num == 1 {
			first := at == 0 && b[0] == timeoutTag
			h.timeoutFirst = h.timeoutFirst || first
			h.timeoutLater = h.timeoutLater || !first
		}
	}
	return nil
}

const repeatedRequestFields = 1<<7 | 1<<10 | 1<<16

// set stores one of the head's own fields.
func (h *RequestHead) set(f *field) bool {
	switch f.num {
	case 1:
		h.TimeoutUS = f.val
		return f.kind == wireFixed8
	case 2, 6, 12, 14, 20:
		h.setNumber(f)
		return f.kind == wireVarint
	}
	if f.kind != wireBytes {
		return false
	}
	switch f.num {
	case 3:
		if !h.hopTarget {
			h.Target = f.raw
		}
	case 4:
		h.Service = f.raw
	case 5:
		h.Method = f.raw
	case 7, 10:
		return h.addEntry(f)
	case 8:
		if !h.hopTraceparent {
			h.Traceparent = f.raw
		}
	case 9:
		h.Tracestate = f.raw
	case 11:
		h.HashKey = f.raw
	case 13:
		h.CallID = f.raw
	case 15:
		h.MessageEncoding = f.raw
	case 16:
		h.AcceptedEncodings = append(h.AcceptedEncodings, f.raw)
	case 17:
		h.ContentType = f.raw
	case 18:
		h.Authority = f.raw
	case 19:
		h.Path = f.raw
	}
	return true
}

func (h *RequestHead) setNumber(f *field) {
	switch f.num {
	case 2:
		h.TotalLength = f.val
	case 6:
		h.Kind = CallKind(min(f.val, 255))
	case 12:
		if !h.hopAttempt {
			h.Attempt = uint32(f.val)
		}
	case 14:
		h.Idempotent = f.val != 0
	case 20:
		h.WantTimings = f.val != 0
	}
}

func (h *RequestHead) addEntry(f *field) bool {
	e, ok := parseEntry(f.raw)
	if f.num == 7 {
		h.Metadata = append(h.Metadata, e)
	} else {
		h.Baggage = append(h.Baggage, e)
	}
	return ok
}

// hop applies a hop field; unknown ones are kept by whoever forwards the head.
func (h *RequestHead) hop(f *field) bool {
	switch f.num {
	case HopAttempt:
		h.Attempt, h.hopAttempt = uint32(f.val), true
		return f.kind == wireVarint
	case HopCaller:
		h.Caller = f.raw
	case HopVerifiedCaller:
		h.VerifiedCaller, h.HasVerifiedCaller = f.raw, true
	case HopTraceparent:
		h.Traceparent, h.hopTraceparent = f.raw, true
	case HopLane:
		h.Lane = f.raw
	case HopTarget:
		h.Target, h.hopTarget = f.raw, true
	case HopShadow:
		h.Shadow = f.val != 0
		return f.kind == wireVarint
	case HopTimings:
	default:
		return true
	}
	return f.kind == wireBytes
}

// Append appends the serialized head: its own fields in the order of their numbers, then hop fields.
func (h *RequestHead) Append(dst []byte) []byte {
	dst = AppendTimeout(dst, h.TimeoutUS)
	dst = appendUint(dst, 2, h.TotalLength)
	dst = AppendMethod(dst, h.Target, h.Service, h.Method, h.Kind)
	for _, e := range h.Metadata {
		dst = AppendMetadata(dst, e.Key, e.Value)
	}
	dst = appendText(dst, 8, h.Traceparent)
	dst = appendText(dst, 9, h.Tracestate)
	for _, e := range h.Baggage {
		dst = AppendBaggage(dst, e.Key, e.Value)
	}
	dst = appendText(dst, 11, h.HashKey)
	dst = appendUint(dst, 12, uint64(h.Attempt))
	dst = appendText(dst, 13, h.CallID)
	dst = appendBool(dst, 14, h.Idempotent)
	dst = AppendEncodings(dst, h.MessageEncoding, h.AcceptedEncodings)
	dst = appendText(dst, 17, h.ContentType)
	dst = appendText(dst, 18, h.Authority)
	dst = appendText(dst, 19, h.Path)
	dst = appendBool(dst, 20, h.WantTimings)
	dst = appendText(dst, HopCaller, h.Caller)
	if h.HasVerifiedCaller {
		dst = appendTextAlways(dst, HopVerifiedCaller, h.VerifiedCaller)
	}
	dst = appendText(dst, HopLane, h.Lane)
	return appendBool(dst, HopShadow, h.Shadow)
}

// The pieces of a request head, for senders that keep what does not change from call to call. Pieces
// may follow each other in any order but for the timeout, which comes first.

// AppendTimeout appends timeout_us, unless it is 0.
func AppendTimeout(dst []byte, us uint64) []byte {
	if us == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(append(dst, timeoutTag), us)
}

const (
	timeoutTag  = 1<<3 | wireFixed8
	timeoutSize = 1 + 8
)

// AppendTotalLength appends total_length, which has the same number in every head.
func AppendTotalLength(dst []byte, n uint64) []byte { return appendUint(dst, 2, n) }

// AppendMethod appends whom and what a call wants.
func AppendMethod[T ~string | ~[]byte](dst []byte, target, service, method T, kind CallKind) []byte {
	dst = appendText(dst, 3, target)
	dst = appendText(dst, 4, service)
	dst = appendText(dst, 5, method)
	return appendUint(dst, 6, uint64(kind))
}

// AppendMetadata appends one metadata entry of a request.
func AppendMetadata[K, V ~string | ~[]byte](dst []byte, key K, value V) []byte {
	return appendEntry(dst, 7, key, value)
}

// AppendBaggage appends one baggage entry of a request.
func AppendBaggage[K, V ~string | ~[]byte](dst []byte, key K, value V) []byte {
	return appendEntry(dst, 10, key, value)
}

// AppendTrace appends the W3C trace context of a request.
func AppendTrace[T ~string | ~[]byte](dst []byte, traceparent, tracestate T) []byte {
	return appendText(appendText(dst, 8, traceparent), 9, tracestate)
}

// AppendEncodings appends a request's message_encoding and accepted_encodings.
func AppendEncodings[T ~string | ~[]byte](dst []byte, encoding T, accepted []T) []byte {
	dst = appendText(dst, 15, encoding)
	for _, a := range accepted {
		dst = appendTextAlways(dst, 16, a)
	}
	return dst
}

// AppendCall appends what a caller says of one call: hash key, attempt, call id, whether it may run twice.
func AppendCall[T ~string | ~[]byte](dst []byte, hashKey T, attempt uint32, callID T, idempotent bool) []byte {
	dst = appendText(dst, 11, hashKey)
	dst = appendUint(dst, 12, uint64(attempt))
	dst = appendText(dst, 13, callID)
	return appendBool(dst, 14, idempotent)
}

// AppendForeign appends what a request of a foreign protocol says beyond its service and method.
func AppendForeign[T ~string | ~[]byte](dst []byte, contentType, authority, path T) []byte {
	dst = appendText(dst, 17, contentType)
	dst = appendText(dst, 18, authority)
	return appendText(dst, 19, path)
}
