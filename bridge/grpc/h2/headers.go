package h2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is the header block that is arriving, decoded as it comes.
type block struct {
	decoder *hpack.Decoder
	fields  []hpack.HeaderField
	on      bool // more frames of it follow
	id      uint32
	end     bool // END_STREAM
	loop    bool // the stream depends on itself
	size    int  // of the list, as HTTP/2 counts
	bytes   int  // of the block
	frames  int
}

// add takes a field. What goes beyond the list's limit is decoded, since later blocks rest on it, and dropped.
func (b *block) add(f hpack.HeaderField) {
	if b.size += int(f.Size()); b.size <= MaxHeaderList {
		b.fields = append(b.fields, f)
	}
}

func (c *Conn) headersFrame(f *http2.HeadersFrame, ev *Event) error {
	loop := f.HasPriority() && f.Priority.StreamDep == f.StreamID
	return c.headers(f.StreamID, f.Flags, f.HeaderBlockFragment(), loop, ev)
}

// headers begins a header block, which may be all of it.
func (c *Conn) headers(id uint32, flags http2.Flags, p []byte, loop bool, ev *Event) error {
	if id&1 == 0 {
		return c.fail(http2.ErrCodeProtocol, "HEADERS of a stream with an even id")
	}
	b := &c.block
	clear(b.fields)
	*b = block{decoder: b.decoder, fields: b.fields[:0], id: id, end: flags&http2.FlagHeadersEndStream != 0, loop: loop}
	return c.fragment(p, flags&http2.FlagHeadersEndHeaders != 0, ev)
}

func (c *Conn) continuation(f *http2.ContinuationFrame, ev *Event) error {
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded(), ev)
}

func (c *Conn) fragment(p []byte, last bool, ev *Event) error {
	b := &c.block
	b.on = !last
	b.bytes += len(p)
	if b.frames++; b.frames > maxContinuations || b.bytes > maxBlock {
		return c.fail(http2.ErrCodeEnhanceYourCalm, "a header block without an end")
	}
	if _, err := b.decoder.Write(p); err != nil {
		return c.fail(http2.ErrCodeCompression, err.Error())
	}
	if !last {
		return nil
	}
	if err := b.decoder.Close(); err != nil {
		return c.fail(http2.ErrCodeCompression, err.Error())
	}
	if c.cfg.Side == Server {
		return c.requestBlock(ev)
	}
	return c.responseBlock(ev)
}

// requestBlock handles a whole header block at a server: a new stream, or a stream's trailers.
func (c *Conn) requestBlock(ev *Event) error {
	b := &c.block
	if b.id <= c.highest {
		if s := c.Stream(b.id); s != nil {
			return c.trailerBlock(s, ev)
		}
		return c.absent(b.id, http2.FrameHeaders)
	}
	if c.final {
		return c.isCheap() // above the last that was announced: the client knows that nobody sees it
	}
	c.highest = b.id
	if c.held >= int(c.cfg.MaxStreams) {
		c.appendReset(b.id, http2.ErrCodeRefusedStream)
		c.past.add(b.id, closedByUs)
		return c.answered()
	}
	s := c.newStream(b.id)
	c.held++
	s.recvEnd = b.end
	why := checkRequest(b.fields)
	switch {
	case b.loop:
		why = "a stream that depends on itself"
	case b.size > MaxHeaderList:
		return c.oversize(s, ev)
	case why == "":
		why = s.lengthOf(b.fields)
	}
	if why != "" {
		return c.breakStream(s.ID, streamFault{http2.ErrCodeProtocol, why}, ev)
	}
	ev.Kind, ev.Stream, ev.Fields, ev.End = EventHeaders, s, b.fields, b.end
	return nil
}

// oversizeBlock answers a request whose header list is too long: ":status: 431".
var oversizeBlock = AppendField(nil, ":status", "431")

func (c *Conn) oversize(s *Stream, ev *Event) error {
	if c.cfg.Side == Client {
		return c.breakStream(s.ID, streamFault{http2.ErrCodeEnhanceYourCalm, "a header list of more than 60 KiB"}, ev)
	}
	c.Headers(s, oversizeBlock, true)
	return c.answered()
}

// responseBlock handles a whole header block at a client.
func (c *Conn) responseBlock(ev *Event) error {
	b := &c.block
	s := c.Stream(b.id)
	switch {
	case s == nil:
		return c.absent(b.id, http2.FrameHeaders)
	case b.size > MaxHeaderList:
		return c.oversize(s, ev)
	case s.gotHeaders:
		return c.trailerBlock(s, ev)
	}
	status, why := checkResponse(b.fields)
	if why == "" && status < 200 {
		if b.end || status == 101 {
			why = "an interim answer that ends the stream, or changes the protocol"
		} else {
			return c.isCheap() // an interim answer says nothing here
		}
	}
	if why == "" {
		why = s.lengthOf(b.fields)
	}
	if why != "" {
		return c.breakStream(s.ID, streamFault{http2.ErrCodeProtocol, why}, ev)
	}
	s.gotHeaders = true
	c.headersEvent(s, ev, false)
	return nil
}

// trailerBlock handles the header block that ends a stream's side.
func (c *Conn) trailerBlock(s *Stream, ev *Event) error {
	b := &c.block
	why := checkTrailers(b.fields)
	switch {
	case s.recvEnd:
		return c.breakStream(s.ID, streamFault{http2.ErrCodeStreamClosed, "HEADERS after the end"}, ev)
	case b.size > MaxHeaderList:
		return c.breakStream(s.ID, streamFault{http2.ErrCodeEnhanceYourCalm, "a header list of more than 60 KiB"}, ev)
	case b.loop:
		why = "a stream that depends on itself"
	case !b.end:
		why = "trailers that do not end the stream"
	case s.contentLength >= 0 && s.received != s.contentLength:
		why = "the bytes do not add up to content-length"
	}
	if why != "" {
		return c.breakStream(s.ID, streamFault{http2.ErrCodeProtocol, why}, ev)
	}
	c.headersEvent(s, ev, true)
	return nil
}

func (c *Conn) headersEvent(s *Stream, ev *Event, trailers bool) {
	b := &c.block
	ev.Kind, ev.Stream, ev.User, ev.Fields, ev.End, ev.Trailers = EventHeaders, s, s.User, b.fields, b.end, trailers
	if b.end {
		s.recvEnd = true
		c.ended(s)
	}
}

// lengthOf notes the announced content-length, or says what is wrong with it.
func (s *Stream) lengthOf(fields []hpack.HeaderField) string {
	for i := range fields {
		if fields[i].Name != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(fields[i].Value, 10, 62)
		if err != nil || s.contentLength >= 0 && s.contentLength != int64(n) {
			return "a content-length that is no number, or two of them"
		}
		s.contentLength = int64(n)
	}
	if s.contentLength > 0 && s.recvEnd {
		return "the bytes do not add up to content-length"
	}
	return ""
}

// checkRequest says what is wrong with a request's header list (RFC 9113, 8.2 and 8.3).
func checkRequest(fields []hpack.HeaderField) string {
	var method, scheme, path, authority bool
	var connect bool
	regular := false
	for i := range fields {
		f := &fields[i]
		if !strings.HasPrefix(f.Name, ":") {
			regular = true
			if why := checkRegular(f); why != "" {
				return why
			}
			continue
		}
		if regular {
			return "a pseudo-header behind the others"
		}
		var seen *bool
		switch f.Name {
		case ":method":
			seen, connect = &method, f.Value == "CONNECT"
		case ":scheme":
			seen = &scheme
		case ":path":
			seen = &path
			if f.Value == "" {
				return "an empty :path"
			}
		case ":authority":
			seen = &authority
		default:
			return "a pseudo-header that requests do not have"
		}
		if *seen {
			return "a pseudo-header that comes twice"
		}
		*seen = true
		if !validValue(f.Value) {
			return "a value with characters that none may have"
		}
	}
	if !method || connect && (scheme || path || !authority) || !connect && !(scheme && path) {
		return "pseudo-headers are missing"
	}
	return ""
}

// checkResponse returns the status of an answer, or says what is wrong with its header list.
func checkResponse(fields []hpack.HeaderField) (status int, why string) {
	regular := false
	for i := range fields {
		f := &fields[i]
		switch {
		case !strings.HasPrefix(f.Name, ":"):
			regular = true
			if why := checkRegular(f); why != "" {
				return 0, why
			}
		case regular || f.Name != ":status" || status != 0:
			return 0, "a pseudo-header that is out of place"
		default:
			n, err := strconv.ParseUint(f.Value, 10, 16)
			if err != nil || n < 100 || n > 999 {
				return 0, "a :status that is none"
			}
			status = int(n)
		}
	}
	if status == 0 {
		return 0, "no :status"
	}
	return status, ""
}

func checkTrailers(fields []hpack.HeaderField) string {
	for i := range fields {
		if strings.HasPrefix(fields[i].Name, ":") {
			return "a pseudo-header among the trailers"
		}
		if why := checkRegular(&fields[i]); why != "" {
			return why
		}
	}
	return ""
}

// checkRegular says what is wrong with a field that is no pseudo-header.
func checkRegular(f *hpack.HeaderField) string {
	if !validName(f.Name) {
		return "a name with characters that none may have"
	}
	if !validValue(f.Value) {
		return "a value with characters that none may have"
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "a header of HTTP/1's connections"
	case "te":
		if f.Value != "trailers" {
			return "a te header of HTTP/1"
		}
	}
	return ""
}

// validName tells whether a field's name has lower-case token characters alone.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

// nameBytes are the characters of names.
var nameBytes = func() (may [256]bool) {
	for c := byte('!'); c <= '~'; c++ {
		may[c] = (c < 'A' || c > 'Z') && strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) < 0
	}
	return may
}()

// validValue tells whether a field's value holds nothing that could end it elsewhere (RFC 9113, 8.2.1).
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return true
}
