package session

import (
	"runtime"

	"github.com/octomesh/octomesh/core/wire"
)

// Batch is what somebody who handles events has still to do once no call is locked: resume calls that
// waited for a stream, and flush, once each, the sessions that were appended to.
type Batch struct {
	// Now is the time of the batch, on the proxy's clock: one look at it serves all calls of a batch.
	Now      int64
	sessions []*Session
	freed    []*Session // a stream of theirs has ended while calls wait for one
	shared   bool       // others write to one of the sessions too
}

// next takes the call that has waited longest for a stream, if one is free. The session is not locked.
func (s *Session) next() *Call {
	s.tc.Lock()
	defer s.tc.Unlock()
	if err := s.wc.CanOpen(); err == wire.ErrStreamLimit || err != nil && s.line.Free != nil { // in a shared line they wait for others
		return nil
	}
	return s.line.first()
}

// sharedFor is for how many batches a session counts as shared after two have written to it in turn.
const sharedFor = 64

// touch notes that the owner of b flushes s. s is locked. Whoever finds the note leaves it to the other,
// who clears it before it takes the output.
func (s *Session) touch(b *Batch) {
	if s.writer != b {
		if s.writer != nil {
			s.shared = sharedFor
		}
		s.writer = b
	}
	if !s.touched {
		s.touched = true
		b.sessions = append(b.sessions, s)
		if s.shared > 0 {
			s.shared--
			b.shared = true
		}
	}
}

// Flush resumes the batch's calls and writes the output of its sessions. No lock may be held.
func (b *Batch) Flush() {
	for len(b.freed) > 0 {
		s := b.freed[0]
		b.freed = b.freed[1:]
		for c := s.next(); c != nil; c = s.next() { // one that has ended meanwhile takes no stream
			c.resume(b)
		}
	}
	if b.shared {
		// Other readers that have bytes append theirs first, and one write serves all.
		b.shared = false
		runtime.Gosched()
	}
	for i := 0; i < len(b.sessions); i++ { // it may grow meanwhile
		b.sessions[i].flush(b)
	}
	b.sessions = b.sessions[:0]
	if len(b.freed) > 0 {
		b.Flush()
	}
}

func (s *Session) flush(b *Batch) {
	s.tc.Lock()
	s.touched = false
	var late *wire.Event
	if s.foreign != nil {
		if s.plain != nil {
			s.tellOver()
		}
		late = s.foreign.Late()
	}
	s.tc.FlushUnlock()
	if late != nil {
		s.tellLate(late, b)
	}
}
