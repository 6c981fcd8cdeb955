package session

// outlast waits for the calls that go on though the connection has ended: one-way calls of foreign clients, see Plain. The socket is closed
// already; to everybody else, such as the sweep and a drain, the session is one with open calls. Kill ends them.
func (s *Session) outlast() {
	if s.plain == nil {
		return
	}
	over := make(chan struct{})
	s.tc.Lock()
	s.over = over
	s.tellOver()
	s.tc.Unlock()
	<-over
	if s.Streams() > 0 {
		_ = s.lose(nil) // it is known why
	}
}

// tellOver ends outlast if it has nothing to wait for any more. The session is locked.
func (s *Session) tellOver() {
	if s.over != nil && (s.killed || s.wc.OpenStreams() == 0) {
		close(s.over)
		s.over = nil
	}
}
