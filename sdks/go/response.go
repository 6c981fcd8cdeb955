package octomesh

import "github.com/octomesh/octomesh/core/wire"

// takeHead books the head of a RESPONSE: an error where the call ended with one, a reason where the head
// itself is bad.
func (c *clientCall) takeHead(h *wire.ResponseHead, head []byte, end bool) (*Error, wire.Reason) {
	if isPlainHead(head) {
		c.setHeaderDone()
		return nil, 0
	}
	if h.Parse(head) != nil {
		return nil, wire.ReasonBadHead
	}
	if !knownContentType(h.ContentType) {
		return nil, wire.ReasonUnknownContentType
	}
	if h.HeadersPresent && !c.headerDone && c.in.len() == 0 {
		c.header = fromEntries(h.Metadata, false)
	}
	c.setHeaderDone()
	if len(h.MessageEncoding) > 0 {
		c.encoding = encodingName(h.MessageEncoding)
	}
	if !end {
		return nil, 0
	}
	c.markAnswered(h.Timings)
	c.trailer = fromEntries(h.Trailers, false)
	if h.Status.Code == wire.OK {
		return nil, 0
	}
	err := fromWire(&h.Status)
	err.Trailer = c.trailer
	for _, e := range h.AcceptedEncodings {
		err.AcceptedEncodings = append(err.AcceptedEncodings, string(e))
	}
	return err, 0
}

// setHeaderDone lets those go on that wait for the initial metadata.
func (c *clientCall) setHeaderDone() {
	if !c.headerDone && c.headerCame != nil {
		close(c.headerCame)
	}
	c.headerDone = true
}

// plainHead is the head of most answers: success, with initial metadata that has no entry.
const plainHead = "\x30\x01"

func isPlainHead(head []byte) bool { return string(head) == plainHead }

func encodingName(b []byte) string {
	if string(b) == encodingGzip {
		return encodingGzip
	}
	return string(b)
}

// knownContentType tells whether a bridge's content type is protobuf's.
func knownContentType(t []byte) bool {
	return len(t) == 0 || string(t) == "application/grpc" || string(t) == "application/grpc+proto"
}
