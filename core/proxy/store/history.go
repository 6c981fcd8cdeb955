package store

import "time"

// Attempt is a snapshot that came, whether it became a generation or not.
type Attempt struct {
	At       time.Time `json:"at"`
	Source   string    `json:"source"`
	Hash     string    `json:"hash"`
	Number   uint64    `json:"generation,omitempty"` // 0: refused
	Warnings int       `json:"warnings,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// kept is how many attempts History returns.
const kept = 32

func (s *Store) note(a Attempt) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if a.Number > 0 {
		s.total.applied++
	} else {
		s.total.refused++
	}
	if len(s.log) == kept {
		copy(s.log, s.log[1:])
		s.log = s.log[:kept-1]
	}
	s.log = append(s.log, a)
}

// Refused notes a snapshot that its source could not read, so that it stands in the history.
func (s *Store) Refused(source string, err error) {
	s.note(Attempt{At: time.Now(), Source: source, Error: err.Error()})
}

// History returns the last attempts, the newest first.
func (s *Store) History() []Attempt {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	out := make([]Attempt, 0, len(s.log))
	for i := len(s.log) - 1; i >= 0; i-- {
		out = append(out, s.log[i])
	}
	return out
}

// Totals returns how many snapshots became generations and how many were refused.
func (s *Store) Totals() (applied, refused uint64) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.total.applied, s.total.refused
}
