package wire

// Leave asks the peer to move. Open calls and those that still arrive are served; nothing is permitted
// to be sent again.
func (c *Conn) Leave(code GoAwayCode, message string) {
	if c.sentGoAway || c.phase != phaseOpen {
		return
	}
	c.appendGoAway(GoAway{Code: code, Last: LastGraceful, Message: message})
}

// Drained says that this side, which opens the calls, opens none any more on this connection.
func (c *Conn) Drained() {
	if c.sentDrained || c.phase != phaseOpen || !c.opens {
		return
	}
	c.sentDrained = true
	c.appendFrame(0, TypeDrained, 0, nil)
}

// PeerLeaves tells whether the peer has sent GOAWAY.
func (c *Conn) PeerLeaves() bool { return c.gotGoAway }

// Leaves tells whether this side has sent GOAWAY.
func (c *Conn) Leaves() bool { return c.sentGoAway }

// PeerDrained tells whether the peer opens no more calls.
func (c *Conn) PeerDrained() bool { return c.gotDrained }

// HasDrained tells whether this side has said that it opens no more calls.
func (c *Conn) HasDrained() bool { return c.sentDrained }

// Done tells whether nothing can happen on the connection any more that matters: the opener has drained
// and no call is open. The dialer then closes; the acceptor waits for it to.
func (c *Conn) Done() bool {
	return c.phase == phaseClosed || (c.sentDrained || c.gotDrained) && c.streams.n == 0
}

// Finish is the drain deadline. At the side that serves, streams that were not started are refused, so
// that they may go again, and a final GOAWAY tells that of the others the end is not known. The side that
// opens resets its streams and says DRAINED: a final GOAWAY speaks only of its receiver's streams. The
// connection carries nothing any more. ended is called with the Call of every stream that was open and
// its status.
func (c *Conn) Finish(code GoAwayCode, message string, ended func(call any, st Status)) {
	if c.phase != phaseOpen || c.sentFinal {
		return
	}
	refused := Refuse(ReasonProxyDraining, c.origin, message)
	lost := Refuse(ReasonDrainDeadline, c.origin, message)
	for _, s := range c.allStreams() {
		call, st := s.Call, lost
		if !s.started && !c.opens {
			st = refused
		}
		if c.opens || !s.started {
			c.Reset(s, &ResetHead{Status: st})
		} else {
			c.removeStream(s)
		}
		if ended != nil {
			ended(call, st)
		}
	}
	for len(c.delayed.heads) > 0 { // no call is left that it could harm
		c.resets = 0
		c.sendDelayed()
	}
	for _, r := range c.refusals { // nothing may follow the last word
		c.appendRefusal(r)
	}
	c.refusals = c.refusals[:0]
	c.sentFinal = true
	if c.opens {
		c.Drained()
	} else {
		c.appendGoAway(GoAway{Code: code, Last: c.startedN, Final: true, Message: message})
	}
	c.phase = phaseClosed
}

// Abort closes every open stream because the connection ends here, and tells for each what is known: a
// stream above the last of a final GOAWAY was surely not processed, of the others nobody can say. What is
// queued may still be written.
func (c *Conn) Abort(ended func(call any, st Status)) {
	c.phase = phaseClosed
	c.delayed = delayed{}
	for _, s := range c.allStreams() {
		call, st := s.Call, c.verdict(s)
		c.removeStream(s)
		if ended != nil {
			ended(call, st)
		}
	}
}

// Lost is Abort for a connection that has ended, to which nothing more is written: streams of which nothing
// was, surely were not processed. unwritten: the socket took nothing of what Take returned last.
func (c *Conn) Lost(unwritten bool, ended func(call any, st Status)) {
	c.unwritten = c.taken // ids are opened, and written, in their order
	if unwritten {
		c.unwritten = c.before
	}
	c.Abort(ended)
}

func (c *Conn) verdict(s *Stream) Status {
	switch {
	case c.gotFinal && s.ID > c.finalLast:
		return Refuse(ReasonProxyDraining, c.origin, "the peer left before it took the call")
	case c.gotFinal:
		return Refuse(ReasonDrainDeadline, c.origin, "the peer left, its drain deadline had passed")
	}
	if c.opens && s.ID > c.unwritten {
		return Refuse(ReasonProxyUnready, c.origin, "the connection was lost before it took the call")
	}
	return Refuse(ReasonConnectionLost, c.origin, "the connection was lost")
}

// Each calls f with the Call of every open stream, in no order. f must not use the Conn.
func (c *Conn) Each(f func(call any)) {
	c.streams.each(func(s *Stream) { f(s.Call) })
}

// allStreams lists the open streams, since closing them changes the table.
func (c *Conn) allStreams() []*Stream {
	all := make([]*Stream, 0, c.streams.n)
	c.streams.each(func(s *Stream) { all = append(all, s) })
	return all
}
