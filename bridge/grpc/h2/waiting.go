package h2

// queue is the streams that could send but for the connection: those that have waited longest are first. A stream that gets its turn and
// has more to send than there is room goes to the end, so that what there is to share out is not always the same one's.
type queue struct {
	first, last *Stream
}

func (q *queue) push(s *Stream) {
	if s.queued {
		return
	}
	s.queued, s.before, s.after = true, q.last, nil
	if q.last != nil {
		q.last.after = s
	} else {
		q.first = s
	}
	q.last = s
}

func (q *queue) remove(s *Stream) {
	if !s.queued {
		return
	}
	if s.before != nil {
		s.before.after = s.after
	} else {
		q.first = s.after
	}
	if s.after != nil {
		s.after.before = s.before
	} else {
		q.last = s.before
	}
	s.queued, s.before, s.after = false, nil, nil
}

// room is how many bytes of streams the connection takes now.
func (c *Conn) room() int64 {
	room := c.sendWindow
	if c.cfg.Side == Server {
		room = min(room, int64(maxOut-len(c.out)))
	}
	return max(0, room)
}

// blocks notes that a stream has more to send than there is room.
func (c *Conn) blocks(s *Stream) {
	s.blocked = true
	if s.sendWindow > 0 {
		c.waiting.push(s)
	}
}

func (c *Conn) unblock(s *Stream) {
	s.blocked = false
	c.waiting.remove(s)
}

// widened notes that a stream's own window has opened.
func (c *Conn) widened(s *Stream) {
	if s.blocked && s.sendWindow > 0 {
		c.waiting.push(s)
	}
}

// turn tells whether a stream that waits has its turn now. If none has because a client does not read, the client is asked to say when it has.
func (c *Conn) turn() bool {
	if c.waiting.first == nil || c.phase == phaseClosed {
		return false
	}
	if c.room() > 0 {
		return true
	}
	c.flush()
	return false
}

// nextTurn tells the stream that has waited longest that it may go on.
func (c *Conn) nextTurn(ev *Event) bool {
	for c.turn() {
		s := c.waiting.first
		if s.sendWindow <= 0 { // SETTINGS have taken back what it had
			c.waiting.remove(s)
			continue
		}
		c.unblock(s)
		ev.Kind, ev.Stream, ev.User = EventCredit, s, s.User
		return true
	}
	return false
}

// flush asks a client that reads slower than it grants to say when it has read what is queued. Its answer wakes who waits for that.
func (c *Conn) flush() {
	if c.cfg.Side == Server && len(c.out) >= maxOut && !c.flushing {
		c.flushing = true
		c.appendPing(flushPayload, false)
	}
}
