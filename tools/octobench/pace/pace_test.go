package pace

import (
	"testing"
	"time"
)

func TestSourcesShareARateEvenly(t *testing.T) {
	start := time.Unix(1000, 0)
	const rate, sources = 2000, 3
	for call := range 3000 {
		s := Split(start, rate, call%sources, sources)
		want := start.Add(time.Duration(call) * time.Second / rate)
		if got := s.At(uint64(call / sources)); got.Sub(want).Abs() > time.Microsecond {
			t.Fatalf("call %d goes at %v, want %v", call, got.Sub(start), want.Sub(start))
		}
	}
}

func TestDueCountsTheCallsUpToNow(t *testing.T) {
	s := Schedule{First: time.Unix(10, 0), Step: time.Millisecond}
	for _, c := range []struct {
		after time.Duration
		want  uint64
	}{{-time.Nanosecond, 0}, {0, 1}, {time.Millisecond - 1, 1}, {time.Millisecond, 2}, {10 * time.Millisecond, 11}} {
		now := s.First.Add(c.after)
		got := s.Due(now)
		if got != c.want {
			t.Errorf("after %v: %d are due, want %d", c.after, got, c.want)
		}
		if s.At(got).Before(now) || (got > 0 && s.At(got-1).After(now)) {
			t.Errorf("after %v: call %d goes at %v", c.after, got, s.At(got).Sub(s.First))
		}
	}
}

// A source that was held up is told of all calls that became due meanwhile, each with its own time.
func TestRunOmitsNoCall(t *testing.T) {
	s := Schedule{First: time.Now(), Step: 100 * time.Microsecond}
	var last uint64
	s.Run(func(due uint64) bool {
		if due <= last {
			t.Fatalf("%d are due after %d", due, last)
		}
		if now := time.Now(); s.At(due - 1).After(now) {
			t.Fatalf("call %d went %v early", due-1, s.At(due-1).Sub(now))
		}
		if last == 0 {
			for time.Since(s.First) < 5*time.Millisecond { // the source is busy with something else
			}
		} else if last < 3 && due < 40 {
			t.Fatalf("after 5 ms %d calls are due", due)
		}
		last = due
		return due < 100
	})
}
