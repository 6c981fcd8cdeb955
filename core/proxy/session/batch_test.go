package session

import "testing"

// A session that several write to in turn lets the others join before it is flushed; one with a single
// writer does not wait for anybody, and neither does one that has become so.
func TestSessionsAreSharedWhileSeveralWriteToThem(t *testing.T) {
	s := &Session{}
	var a, b Batch
	write := func(by *Batch) (shared bool) {
		s.touch(by)
		shared = by.shared
		s.touched, by.shared, by.sessions = false, false, nil // as Flush does
		return shared
	}
	for range 3 {
		if write(&a) {
			t.Fatal("shared by one")
		}
	}
	if !write(&b) || !write(&a) || !write(&a) {
		t.Fatal("not shared by two")
	}
	for range sharedFor {
		write(&a)
	}
	if write(&a) {
		t.Fatal("shared for ever")
	}
	s.writer = nil // half a second has passed
	if write(&b) {
		t.Fatal("shared with somebody of long ago")
	}
	// Whoever finds that the other flushes leaves it to him, who lets others join.
	s.touch(&b)
	s.touch(&a)
	if len(a.sessions) != 0 || len(b.sessions) != 1 {
		t.Fatalf("%d and %d flush", len(a.sessions), len(b.sessions))
	}
}
