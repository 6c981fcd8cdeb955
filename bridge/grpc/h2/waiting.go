package h2

// queue is the streams that could send but for the connection: those that have waited longest are first.
type queue struct {
	first, last *Stream
}

func (q *queue) pushBack(s *Stream) { q.insert(s, q.last, nil) }

func (q *queue) pushFront(s *Stream) { q.insert(s, nil, q.first) }

// insert puts a stream between two neighbours, unless it is in the queue.
func (q *queue) insert(s, before, after *Stream) {
	if s.queued {
		return
	}
	s.queued, s.before, s.after = true, before, after
	q.join(before, s)
	q.join(s, after)
}

func (q *queue) remove(s *Stream) {
	if !s.queued {
		return
	}
	q.join(s.before, s.after)
	s.queued, s.before, s.after = false, nil, nil
}

// join makes two streams neighbours; nil: beyond the queue's end.
func (q *queue) join(before, after *Stream) {
	if before != nil {
		before.after = after
	} else {
		q.first = after
	}
	if after != nil {
		after.before = before
	} else {
		q.last = before
	}
}

// room is how many bytes of streams the connection takes now.
func (c *Conn) room() int64 {
	room := c.sendWindow
	if c.cfg.Side == Server {
		room = min(room, int64(maxOut-len(c.out)))
	}
	return max(0, room)
}

// blocks notes that a stream has more to send than there was room, of which it has used n bytes. One that had its turn and found that others
// had been there meanwhile is still the next.
func (c *Conn) blocks(s *Stream, n int) {
	s.blocked = true
	switch {
	case s.sendWindow <= 0: // its own window has to open first
	case s.turn && n == 0:
		c.waiting.pushFront(s)
	default:
		c.waiting.pushBack(s)
	}
}

func (c *Conn) unblock(s *Stream) {
	s.blocked = false
	c.waiting.remove(s)
}

// widened notes that a stream's own window has opened.
func (c *Conn) widened(s *Stream) {
	if s.blocked && s.sendWindow > 0 {
		c.waiting.pushBack(s)
	}
}

// Turn returns the stream that has waited longest of those whose [Conn.Data] found no room, if there is room now; nil: there is none, or nobody
// waits. Its owner calls Data with what is left, then Turn again, until it returns nil. That is to be done whenever Feed has told all.
func (c *Conn) Turn() *Stream {
	for c.waiting.first != nil && c.phase != phaseClosed {
		if c.room() == 0 {
			c.flush()
			return nil
		}
		s := c.waiting.first
		c.waiting.remove(s)
		if s.sendWindow > 0 { // else SETTINGS have taken back what it had
			s.blocked, s.turn = false, true
			return s
		}
	}
	return nil
}

// flush asks a client that reads slower than it grants to say when it has read what is queued: then there is room.
func (c *Conn) flush() {
	if c.cfg.Side == Server && len(c.out) >= maxOut && !c.flushing {
		c.flushing = true
		c.appendPing(flushPayload, false)
	}
}
