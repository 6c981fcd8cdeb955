// Package pace is the clock of an open loop: when each call is to go, whatever the calls before it do, and
// a sleep that is exact enough to keep to it. Latency is measured from the time a call was meant to go, so
// that a system that stalls is charged with all the calls that would have come meanwhile.
package pace

import (
	"runtime"
	"syscall"
	"time"
)

// Schedule is when the calls of one source go: one each Step from First on.
type Schedule struct {
	First time.Time
	Step  time.Duration
}

// Split shares a rate of calls a second evenly among n sources, and returns the schedule of the i-th of
// them. Together they begin at start and are evenly spaced.
func Split(start time.Time, rate float64, i, n int) Schedule {
	between := float64(time.Second) / rate
	return Schedule{
		First: start.Add(time.Duration(float64(i) * between)),
		Step:  time.Duration(float64(n) * between),
	}
}

// At is when call n, counted from 0, is to go.
func (s Schedule) At(n uint64) time.Time { return s.First.Add(time.Duration(n) * s.Step) }

// Due is how many calls are to have gone by now.
func (s Schedule) Due(now time.Time) uint64 {
	if now.Before(s.First) {
		return 0
	}
	return uint64(now.Sub(s.First)/s.Step) + 1
}

// Run calls f each time at least one of the schedule's calls is due, with how many are by then, until f
// says that it is enough. It takes a thread for itself: the runtime's own timers may be a millisecond late
// when all else sleeps.
func (s Schedule) Run(f func(due uint64) bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	exact()
	for done := uint64(0); ; {
		now := time.Now()
		due := s.Due(now)
		if due <= done {
			sleep(s.At(done).Sub(now))
			continue
		}
		done = due
		if !f(due) {
			return
		}
	}
}

// exact asks the kernel not to join this thread's timers with later ones, for which it takes 50 µs else.
func exact() {
	const setTimerSlack = 29 // PR_SET_TIMERSLACK, in nanoseconds
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
}

func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // an early end is found by the caller's clock
}
