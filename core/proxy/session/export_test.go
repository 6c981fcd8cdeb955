package session

// Refs is how many references to the call there are: none once it has ended, unless its memory serves
// another call.
func Refs(c *Call) int32 { return c.refs.Load() }

// Fill uses all of the memory up.
func Fill(m *Memory) { m.used.Store(m.max) }

// Wake does what a call with a deadline does.
func Wake(c *Clock) { c.wakeSweep() }

// Queued is how many bytes the session holds that nobody writes yet.
func Queued(s *Session) int {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.wc.Queued()
}
