package h2

import "golang.org/x/net/http2"

// beginData takes the header of a DATA frame: its bytes are told as they come, where they stand.
func (c *Conn) beginData(b []byte, size int, flags http2.Flags, id uint32, ev *Event) (int, error) {
	n, pad := headerSize, 0
	if flags&http2.FlagDataPadded != 0 {
		if size == 0 {
			return 0, c.fail(http2.ErrCodeFrameSize, "a padded DATA frame without the padding's length")
		}
		if len(b) < headerSize+1 {
			return 0, nil
		}
		pad = int(b[headerSize])
		if n++; pad >= size {
			return 0, c.fail(http2.ErrCodeProtocol, "padding that is longer than its frame")
		}
	}
	left := size - pad - (n - headerSize)
	if err := c.received(size); err != nil {
		return 0, err
	}
	d := &c.data
	*d = incoming{stream: c.Stream(id), id: id, left: left, pad: pad, flow: size - left, end: flags&http2.FlagDataEndStream != 0, on: true}
	switch s := d.stream; {
	case id == 0:
		return 0, c.fail(http2.ErrCodeProtocol, "DATA on stream 0")
	case s == nil && left > 0 && id <= c.highest && id&1 == 1 && c.mayBeLate(c.past.find(id), http2.FrameData):
		return n, nil // its bytes are dropped, and have cost their sender as much
	case s == nil:
		return n, c.absent(id, http2.FrameData)
	case s.recvEnd:
		return n, c.breakStream(id, streamFault{http2.ErrCodeStreamClosed, "DATA after the end"}, ev)
	case c.cfg.Side == Client && !s.gotHeaders:
		return n, c.breakStream(id, streamFault{http2.ErrCodeProtocol, "DATA before HEADERS"}, ev)
	case int64(size) > s.recvWindow:
		return n, c.breakStream(id, streamFault{http2.ErrCodeFlowControl, "more than the stream's window"}, ev)
	default:
		s.recvWindow -= int64(size)
		s.received += int64(left)
		if s.contentLength >= 0 && (s.received > s.contentLength || d.end && s.received != s.contentLength) {
			return n, c.breakStream(id, streamFault{http2.ErrCodeProtocol, "the bytes do not add up to content-length"}, ev)
		}
	}
	if left == 0 && !d.end {
		if err := c.isCheap(); err != nil {
			return 0, err
		}
	}
	if left == 0 || len(b) > n {
		n += c.feedData(b[n:], ev)
	}
	return n, nil
}

// dataEnd tells that the peer says nothing more on a stream, by a DATA frame.
func (c *Conn) dataEnd(s *Stream, ev *Event) {
	ev.End, s.recvEnd = true, true
	c.ended(s)
}

// received counts a frame against the connection's window and opens it again.
func (c *Conn) received(size int) error {
	if c.connPending += int64(size); c.connPending > connWindow {
		return c.fail(http2.ErrCodeFlowControl, "more than the connection's window")
	}
	if c.connPending >= connWindow/4 {
		c.appendWindow(0, uint32(c.connPending))
		c.connPending = 0
	}
	return nil
}

// feedData tells as much of a DATA frame as has come.
func (c *Conn) feedData(b []byte, ev *Event) (n int) {
	d := &c.data
	s := d.stream
	n = min(d.left, len(b))
	if s != nil && s.Want > 0 {
		n = min(n, s.Want)
	}
	d.left -= n
	if s != nil {
		ev.Kind, ev.Stream, ev.User, ev.Data, ev.Flow = EventData, s, s.User, b[:n:n], n+d.flow
		d.flow = 0
		if d.end && d.left == 0 {
			d.stream = nil
			if c.cfg.Side == Client && n > 0 {
				// An answer that ends without trailers: its last bytes count, whatever its end is taken for.
				c.ready = append(c.ready, ready{EventData, s.ID, s})
			} else {
				c.dataEnd(s, ev)
			}
		}
	}
	if d.left == 0 {
		skip := min(d.pad, len(b)-n)
		d.pad -= skip
		n += skip
		d.on = d.pad > 0
		if d.pad > 0 {
			d.stream = nil
		}
	}
	return n
}
