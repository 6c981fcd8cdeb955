package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	// degradedAfter is how long the control plane may be gone until what it said is called degraded. Calls go on by it, for
	// as long as it takes.
	degradedAfter = time.Minute
	// quietAfter is how long a stream has to stand until a Pilot that has said nothing counts as there.
	quietAfter = 2 * time.Second
	// oldAfter is the age of a saved configuration from which on its use is an alarm. By the host's clock, which may be
	// wrong: so nothing is dropped for it.
	oldAfter = 7 * 24 * time.Hour
	// beat is how often the client looks after itself: how long a change may wait for others before all are written to the
	// disk, and how late the end of a trial may be noticed.
	beat = time.Second
	// savePause is how long a disk that failed is left alone.
	savePause = 5 * time.Second
	// idleEvery is how often calls to targets are looked at.
	idleEvery = time.Minute
)

// health is how the client itself fares. Times go by the monotonic clock: the host's may jump.
type health struct {
	connected bool // a Pilot has said something on the stream that stands
	since     time.Time
	told      bool      // that it is degraded
	saved     time.Time // when what was loaded was written; zero: nothing was loaded
	disk      string    // why the disk cannot be written; empty: it can
	tried     time.Time // when it was written, or tried to, last
}

func (h *health) heard(now time.Time) (after time.Duration) {
	after = now.Sub(h.since)
	h.connected, h.since, h.told = true, now, false
	return after
}

func (h *health) lost(now time.Time) {
	if h.connected {
		h.connected, h.since = false, now
	}
}

func (h *health) degraded(now time.Time) bool {
	return !h.connected && now.Sub(h.since) >= degradedAfter
}

// Status is what an operator wants to know.
type Status struct {
	Connected bool `json:"connected"`
	// Since when that is so.
	Since time.Time `json:"since"`
	// Degraded says that what the proxy goes by may be old: no Pilot has said anything for a minute. Calls go on.
	Degraded bool `json:"degraded"`
	// Loaded is when what the proxy began with was written to its disk, by the host's clock; zero: it began with nothing.
	// Old says that this was more than 7 days ago then, or later than now.
	Loaded time.Time `json:"loaded,omitzero"`
	Old    bool      `json:"loaded_old,omitempty"`
	// Disk is why what was pushed cannot be kept on the disk; empty: it can.
	Disk string `json:"disk,omitempty"`
	// Unsaved says that something was pushed that is not on the disk yet, as for a moment after each push.
	Unsaved     bool         `json:"unsaved"`
	Targets     []string     `json:"targets"`
	Resources   int          `json:"resources"`
	Held        []Held       `json:"held"`
	Quarantined []Quarantine `json:"quarantined"`
}

// Quarantine is a version of a resource after which the proxy crashed.
type Quarantine struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Crashes uint32 `json:"crashes"`
	// Refused: it is not taken any more.
	Refused bool   `json:"refused"`
	Crash   string `json:"crash"`
}

// Status returns what an operator wants to know.
func (c *Client) Status() Status {
	held, quarantined := c.Held(), c.Quarantined()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.health
	s := Status{
		Connected: h.connected, Since: h.since, Degraded: h.degraded(time.Now()), Loaded: h.saved, Old: h.old(), Disk: h.disk,
		Unsaved: c.changes != c.saved && c.cfg.Dir != "", Targets: c.state.targets(), Held: held, Quarantined: quarantined,
	}
	for _, items := range c.state.resources {
		s.Resources += len(items)
	}
	return s
}

// Condition tells whether what the client said last may be old, and how many versions are refused for crashes.
func (c *Client) Condition() (degraded bool, quarantined uint32) {
	for _, q := range c.Quarantined() {
		if q.Refused {
			quarantined++
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health.degraded(time.Now()), quarantined
}

// old tells whether what was loaded is so old, or from the future, that somebody should look.
func (h *health) old() bool {
	age := time.Since(h.saved)
	return !h.saved.IsZero() && (age > oldAfter || age < -time.Hour)
}

// Quarantined lists versions after which the proxy crashed, refused or not yet.
func (c *Client) Quarantined() []Quarantine {
	c.applying.Lock()
	defer c.applying.Unlock()
	out := make([]Quarantine, 0, len(c.quarantine.suspects))
	for at, t := range c.quarantine.suspects {
		out = append(out, Quarantine{at.kind.TypeURL(), at.name, at.version, t.Crashes, t.Crashes >= maxCrashes, t.Crash})
	}
	slices.SortFunc(out, func(a, b Quarantine) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// Suspects are the same as a Pilot is told of them.
func (c *Client) Suspects() (out []*controlv1.Suspect) {
	for _, q := range c.Quarantined() {
		out = append(out, &controlv1.Suspect{TypeUrl: q.Type, Name: q.Name, Version: q.Version, Crashes: q.Crashes, Quarantined: q.Refused})
	}
	return out
}

// Pardon takes versions of a resource out of quarantine, by its full name, and asks for it again. It returns how many.
func (c *Client) Pardon(name string) (n int) {
	c.applying.Lock()
	defer c.applying.Unlock()
	var targets []string
	for at := range c.quarantine.suspects {
		if at.name == name {
			delete(c.quarantine.suspects, at)
			n++
			if t, err := resource.TopicOf(at.kind, name); err == nil && !slices.Contains(targets, t.Target) {
				targets = append(targets, t.Target)
			}
		}
	}
	if n == 0 {
		return 0
	}
	c.cfg.Log.Warn("somebody takes a resource out of quarantine", "name", name)
	if err := c.quarantine.keep(); err != nil {
		c.cfg.Log.Error("the quarantine cannot be written", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		c.stream.subscribe(targets)
	}
	return n
}

// housekeep looks after the client until ctx is done, and writes the state a last time then.
func (c *Client) housekeep(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	looked := time.Now()
	c.mu.Lock()
	if h := &c.health; h.old() {
		c.cfg.Log.Error("the configuration on the disk is older than 7 days, or from the future; calls go by it all the same", "written", h.saved)
	}
	c.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			c.save(true)
			c.applying.Lock()
			c.quarantine.end()
			c.applying.Unlock()
			return
		case <-tick.C:
		}
		now := time.Now()
		c.settle(now)
		c.save(false)
		if now.Sub(looked) >= idleEvery {
			c.unfollowIdle(now.Sub(looked))
			looked = now
		}
	}
}

// settle ends trials, and says when the control plane has been gone for long.
func (c *Client) settle(now time.Time) {
	c.applying.Lock()
	err := c.quarantine.settle(now)
	c.applying.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.forgetLost(now)
	if st := c.stream; st != nil && !c.health.connected && now.Sub(st.opened) >= quietAfter {
		c.health.heard(now) // it has nothing to say
	}
	if h := &c.health; h.degraded(now) && !h.told {
		h.told = true
		c.cfg.Log.Error("the control plane is gone; calls go on by what it said last", "since", h.since)
	}
	if err != nil {
		c.failed(err)
	}
}

// save writes the state if it has changed.
func (c *Client) save(last bool) {
	now := time.Now()
	c.mu.Lock()
	h := &c.health
	if c.cfg.Dir == "" || c.changes == c.saved || !last && h.disk != "" && now.Sub(h.tried) < savePause {
		c.mu.Unlock()
		return
	}
	h.tried = now
	changes, content := c.changes, c.state.save(now.UnixMilli())
	c.mu.Unlock()
	err := c.disk.save(content)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed(err)
		return
	}
	c.saved = changes
	if h.disk != "" {
		h.disk = ""
		c.cfg.Log.Info("the configuration is kept on disk again")
	}
}

// failed notes why the disk cannot be written, and says it once. The lock is held.
func (c *Client) failed(err error) {
	why := err.Error()
	if errno := syscall.Errno(0); errors.As(err, &errno) { // names of files differ from time to time
		why = errno.Error()
	}
	if c.health.disk != why {
		c.health.disk = why
		c.cfg.Log.Error("the configuration cannot be kept on disk; calls go on", "directory", c.cfg.Dir, "error", err)
	}
}
