package proxy_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// desk is a rate limit service that answers when a test says so. It serves one proxy, or several with one answer.
type desk struct {
	mu    sync.Mutex
	queue []*policy.Counter
	now   func() int64
	soon  func(c *policy.Counter, now int64) // answers each question as soon as it is asked; nil: the test answers
}

func (d *desk) Run(ctx context.Context, now func() int64) {
	d.mu.Lock()
	d.now = now
	d.mu.Unlock()
	<-ctx.Done()
}

func (d *desk) Ask(c *policy.Counter) {
	if c.Queue() {
		d.mu.Lock()
		d.queue = append(d.queue, c)
		d.answerSoonLocked()
		d.mu.Unlock()
	}
}

// answersSoon has each question be answered as soon as it is asked, and those that wait.
func (d *desk) answersSoon(a func(c *policy.Counter, now int64)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.soon = a
	for range d.queue {
		d.answerSoonLocked()
	}
}

func (d *desk) answerSoonLocked() {
	if d.soon != nil {
		go d.answer(d.soon)
	}
}

func (d *desk) Down(int64) (down, probe bool) { return false, false }

// asked returns how many counters are asked about.
func (d *desk) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

// answer answers about the first counter, and returns how many calls were asked for.
func (d *desk) answer(a func(c *policy.Counter, now int64)) int64 {
	d.mu.Lock()
	c, now := d.queue[0], d.now()
	d.queue = d.queue[1:]
	d.mu.Unlock()
	hits := c.Begin(now, 0)
	if hits > 0 {
		a(c, now)
	}
	if c.End() {
		d.mu.Lock()
		d.queue = append(d.queue, c)
		d.answerSoonLocked()
		d.mu.Unlock()
	}
	return hits
}

func grant(limit int64) func(c *policy.Counter, now int64) {
	return func(c *policy.Counter, now int64) {
		c.Granted(policy.Answer{Limit: limit, Remaining: limit, Until: now + int64(time.Minute)}, now)
	}
}

func over(c *policy.Counter, now int64) {
	c.Granted(policy.Answer{Limit: 1, Over: true, Until: now + int64(time.Minute)}, now)
}

// limited is a fleet whose one server has a global limit, on a side, with the call's wait as given.
func limited(t *testing.T, limit string) (*fleet, *desk) {
	d := &desk{}
	f := newFleetWith(t, 1, proxy.Config{Limiter: d})
	f.attach(0, "echo")
	f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}]
policies:
- target: echo
  limits: {max_open_calls: 1000}
  rate_limits: [` + limit + `]
`)
	return f, d
}

func TestACallWaitsForTheRateLimitService(t *testing.T) {
	for side, origin := range map[string]wire.Origin{"SIDE_SERVER": wire.OriginServerProxy, "SIDE_CLIENT": wire.OriginClientProxy} {
		t.Run(side, func(t *testing.T) {
			f, d := limited(t, `{name: l, calls: 1000, side: `+side+`, global: {timeout: 1s}}`)
			var waiting []<-chan meshtest.Answer
			for range 5 {
				got, err := f.caller.Call(head("echo"), nil)
				if err != nil {
					t.Fatal(err)
				}
				waiting = append(waiting, got)
			}
			waitFor(t, "the question", func() bool { return d.asked() == 1 })
			waitFor(t, "all calls", func() bool { return len(f.servers[0].OpenCalls())+len(f.client.OpenCalls()) >= 5 })
			for d.asked() > 0 {
				d.answer(grant(1000))
			}
			for _, got := range waiting {
				if a := get(t, got, nil); a.Status.Code != wire.OK {
					t.Fatalf("ended %+v", a.Status)
				}
			}
			// Calls that were let go on may have had more asked for. And no call waits longer than a second, which is little time for
			// a test on a busy machine to see the question and to answer it.
			d.answersSoon(over)
			for range 2 { // the first is of a new window, the second is refused at once
				if st := f.call(head("echo")).Status; st.Reason != wire.ReasonRateLimited || st.Code != wire.ResourceExhausted || st.Origin != origin ||
					st.RetryAfterMS < 50_000 || st.Disposition != wire.DispositionNotProcessed {
					t.Fatalf("ended %+v", st)
				}
			}
			if n := f.got()[0]; n != 5 {
				t.Errorf("%d calls reached the server", n)
			}
		})
	}
}

func TestWithoutAnAnswerTheLimitsFailureModeDecides(t *testing.T) {
	for mode, want := range map[string]wire.Code{"FAILURE_MODE_ALLOW": wire.OK, "FAILURE_MODE_DENY": wire.ResourceExhausted} {
		t.Run(mode, func(t *testing.T) {
			f, d := limited(t, `{name: l, calls: 1, global: {failure_mode: `+mode+`, timeout: 30ms}}`)
			for range 3 {
				if a := f.call(head("echo")); a.Status.Code != want || want != wire.OK && a.Status.Reason != wire.ReasonRateLimited {
					t.Fatalf("ended %+v", a.Status)
				}
			}
			if d.asked() != 1 {
				t.Errorf("%d counters are asked about", d.asked())
			}
		})
	}
}

func TestCallsThatEndWhileTheyWaitForTheServiceAreNotMade(t *testing.T) {
	f, d := limited(t, `{name: l, calls: 1000, global: {timeout: 1s}}`)
	h := head("echo")
	h.TimeoutUS = 30_000
	if a := f.call(h); a.Status.Code != wire.DeadlineExceeded { // by either proxy: both count down
		t.Fatalf("the deadline passed: ended %+v", a.Status)
	}
	gone := f.dial("gone")
	if _, err := gone.Call(head("echo"), nil); err != nil {
		t.Fatal(err)
	}
	parked := func() int { return len(f.servers[0].OpenCalls()) }
	waitFor(t, "the call", func() bool { return parked() == 1 })
	gone.Close()
	waitFor(t, "its end", func() bool { return parked() == 0 })
	if hits := d.answer(grant(1000)); hits != 0 {
		t.Errorf("%d calls are asked for that have ended", hits)
	}
	if n := f.got()[0]; n != 0 {
		t.Errorf("%d calls reached the server", n)
	}
}

func TestAWaitingCallIsRefusedWhenTheProxyLeaves(t *testing.T) {
	f, _ := limited(t, `{name: l, calls: 1000, side: SIDE_CLIENT, global: {timeout: 1s}}`)
	got, err := f.caller.Call(head("echo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the call", func() bool { return len(f.client.OpenCalls()) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // at once
	f.client.Drain(ctx)
	if a := get(t, got, nil); a.Status.Reason != wire.ReasonProxyDraining || a.Status.Disposition != wire.DispositionNotProcessed {
		t.Errorf("ended %+v", a.Status)
	}
}
