package wire

// ResponseHead answers a call. Parsed, its slices borrow the head's buffer.
type ResponseHead struct {
	Status            Status // with END: how the call ended
	TotalLength       uint64
	MessageEncoding   []byte
	AcceptedEncodings [][]byte
	ContentType       []byte
	HeadersPresent    bool // initial metadata is in this head or an earlier one
	Metadata          []Entry
	Trailers          []Entry
	Timings           []byte // hop field: a serialized Timings
}

// What an answer begins with: message_encoding, accepted_encodings, content_type, headers_present and metadata.
const firstOfBeginning, lastOfBeginning = 3, 7

// Reset empties the head and keeps its slices for the next Parse.
func (h *ResponseHead) Reset() {
	*h = ResponseHead{
		Metadata: h.Metadata[:0], Trailers: h.Trailers[:0], AcceptedEncodings: h.AcceptedEncodings[:0],
	}
}

// Parse reads a serialized octo.wire.v1.ResponseHead.
func (h *ResponseHead) Parse(b []byte) error {
	h.Reset()
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) || !h.set(&f) {
			return errHead
		}
	}
	return nil
}

func (h *ResponseHead) set(f *field) bool {
	switch f.num {
	case 2, 6:
		if f.num == 2 {
			h.TotalLength = f.val
		} else {
			h.HeadersPresent = f.val != 0
		}
		return f.kind == wireVarint
	case 1, 3, 4, 5, 7, 8, HopTimings:
		if f.kind != wireBytes {
			return false
		}
	}
	switch f.num {
	case 1:
		return h.Status.Parse(f.raw) == nil
	case 3:
		h.MessageEncoding = f.raw
	case 4:
		h.AcceptedEncodings = append(h.AcceptedEncodings, f.raw)
	case 5:
		h.ContentType = f.raw
	case 7, 8:
		e, ok := parseEntry(f.raw)
		if f.num == 7 {
			h.Metadata = append(h.Metadata, e)
		} else {
			h.Trailers = append(h.Trailers, e)
		}
		return ok
	case HopTimings:
		h.Timings = f.raw
	}
	return true
}

// Append appends the serialized head.
func (h *ResponseHead) Append(dst []byte) []byte {
	dst = AppendStatus(dst, &h.Status)
	dst = appendUint(dst, 2, h.TotalLength)
	dst = appendText(dst, 3, h.MessageEncoding)
	for _, a := range h.AcceptedEncodings {
		dst = appendTextAlways(dst, 4, a)
	}
	dst = appendText(dst, 5, h.ContentType)
	dst = appendBool(dst, 6, h.HeadersPresent)
	for _, e := range h.Metadata {
		dst = appendEntry(dst, 7, e.Key, e.Value)
	}
	for _, e := range h.Trailers {
		dst = appendEntry(dst, 8, e.Key, e.Value)
	}
	return appendText(dst, HopTimings, h.Timings)
}

// AppendStatus appends a response's status field, unless it says nothing but success.
func AppendStatus(dst []byte, s *Status) []byte {
	if s.Code == OK && s.Reason == 0 && s.Origin == 0 && s.Disposition == 0 && s.RetryAfterMS == 0 &&
		len(s.Message) == 0 && len(s.Details) == 0 {
		return dst
	}
	at := len(dst) + 1
	return closeMessage(s.Append(append(dst, 1<<3|wireBytes, 0)), at)
}

// AppendAnswer appends what a response says of its messages.
func AppendAnswer[T ~string | ~[]byte](dst []byte, encoding T, accepted []T, contentType T) []byte {
	dst = appendText(dst, 3, encoding)
	for _, a := range accepted {
		dst = appendTextAlways(dst, 4, a)
	}
	return appendText(dst, 5, contentType)
}

// AppendHeadersPresent says that a response's initial metadata, which may be empty, is here or came before.
func AppendHeadersPresent(dst []byte) []byte { return appendBool(dst, 6, true) }

// AppendHeader appends an entry of a response's initial metadata, AppendTrailer one of those at its end.
func AppendHeader[K, V ~string | ~[]byte](dst []byte, key K, value V) []byte {
	return appendEntry(dst, 7, key, value)
}

// AppendTrailer is AppendHeader for the end.
func AppendTrailer[K, V ~string | ~[]byte](dst []byte, key K, value V) []byte {
	return appendEntry(dst, 8, key, value)
}

// ScanStatus finds the code, origin and disposition of a response head without reading the rest; a head that does not
// parse counts as INTERNAL.
func ScanStatus(head []byte) Status {
	var f field
	var s Status
	for at := 0; at < len(head); at = f.end {
		if !next(head, at, &f) {
			return Status{Code: Internal, Reason: ReasonBadHead}
		}
		if f.num == 1 && f.kind == wireBytes && s.Parse(f.raw) != nil {
			return Status{Code: Internal, Reason: ReasonBadHead}
		}
	}
	return s
}

// scanTotal finds total_length, which has the same number in every head; ok is false if the head does
// not parse.
func scanTotal(head []byte) (total uint64, ok bool) {
	var f field
	for at := 0; at < len(head); at = f.end {
		if !next(head, at, &f) {
			return 0, false
		}
		if f.num == 2 {
			if f.kind != wireVarint {
				return 0, false
			}
			total = f.val
		}
	}
	return total, true
}
