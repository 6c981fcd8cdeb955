package register

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/resource"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Times.
const (
	// DefaultGrace is how long an instance stays registered whose SERVE connection was lost: it comes back, mostly.
	DefaultGrace = 2 * time.Second
	// releaseKept is how long what was released stays, as the directory's protocol says.
	releaseKept = 10 * time.Second
	// againAfter is when one tries again what was refused, or superseded, and is still there.
	againAfter = time.Minute
	// maxEntries bounds the targets of instances that are registered, or are yet to be withdrawn.
	maxEntries = 10_000
)

// Config is a client's.
type Config struct {
	// Environment and Instance are the proxy's, as are the rest; Incarnation is its start.
	Environment, Instance string
	Incarnation           uint64
	Version, Zone         string
	// Pilots are connections to Pilots, the best first. They are tried in turn.
	Pilots []grpc.ClientConnInterface
	// MeshAddress is where other proxies reach this one. Empty: instances can be called directly alone.
	MeshAddress string
	// Identity is whom TLS proves the proxy to be. Empty: nobody.
	Identity string
	// Suspects returns the versions of resources that the proxy suspects to have crashed it. Nil: none.
	Suspects func() []*controlv1.Suspect
	// Condition tells whether what the proxy goes by is old, and how many versions of resources it does not take any more. It is
	// asked each second. Nil: it is not, and none.
	Condition func() (degraded bool, quarantined uint32)
	// Silent: instances are not registered; what else there is to say is said.
	Silent bool
	// Grace is how long an instance stays registered whose SERVE connection was lost. 0: [DefaultGrace].
	Grace time.Duration
	Log   *slog.Logger
}

// Client speaks for one proxy to its Pilot. Its methods are safe for concurrent use; a nil one does nothing.
type Client struct {
	cfg  Config
	news chan struct{} // holds one element while something is to be said
	quit chan struct{} // closed when there is a successor

	quitOnce sync.Once

	mu         sync.Mutex
	processes  map[processID]*process
	entries    map[entryID]*entry
	dirty      []*entry
	left       bool          // the proxy leaves: nothing is registered any more
	yielded    bool          // to a successor
	settled    chan struct{} // closed, and replaced, when entries are over
	anomalies  anomalies
	reports    reports
	attendance attendance
	applied    *controlv1.Applied // to be said; nil: it was
	current    *controlv1.Applied
	connected  bool
	since      time.Time
}

type processID struct {
	instance    string
	incarnation uint64
}

type entryID struct{ target, instance string }

// process is one incarnation of an instance, and how it is known.
type process struct {
	processID
	application string
	attached    map[string]int // its SERVE connections, by target
	held        *held          // what it says of itself; nil: nothing
	why         controlv1.Withdrawal_Reason
}

// entry is what is wanted of one target of an instance, and what became of it.
type entry struct {
	entryID
	want     *controlv1.Registration // nil: it is to go
	withdraw *controlv1.Withdrawal   // without want
	state    controlv1.RegistrationState_State
	reason   string
	queued   bool
}

func (e *entry) incarnation() uint64 {
	if e.want != nil {
		return e.want.GetEndpoint().GetIncarnation()
	}
	return e.withdraw.GetIncarnation()
}

// New makes a client that says nothing before Run.
func New(cfg Config) *Client {
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		cfg: cfg, news: make(chan struct{}, 1), quit: make(chan struct{}), processes: make(map[processID]*process), entries: make(map[entryID]*entry),
		settled: make(chan struct{}), since: time.Now(), anomalies: anomalies{all: make(map[anomalyID]*anomaly)},
		attendance: attendance{here: make(map[fleet.ID]*controlv1.Process), dirty: make(map[fleet.ID]struct{})},
	}
}

func (c *Client) ring() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// Attach notes that an instance has opened a SERVE connection, and registers it for its targets. detach is to be called
// when that has ended; left says that it said goodbye, and else it is waited for a moment.
func (c *Client) Attach(application, instance string, incarnation uint64, targets []string) (detach func(left bool)) {
	if c == nil || c.cfg.Silent {
		return func(bool) {}
	}
	if !resource.IsName(instance) {
		c.cfg.Log.Warn("an instance is not registered: it has no name, or none that can be", "application", application, "instance", instance)
		return func(bool) {}
	}
	id := processID{instance, incarnation}
	targets = slices.Compact(slices.Sorted(slices.Values(targets)))
	c.mu.Lock()
	p := c.process(id, application)
	for _, t := range targets {
		p.attached[t]++
	}
	c.look(instance, targets)
	c.mu.Unlock()
	var once sync.Once
	return func(left bool) {
		once.Do(func() {
			if left {
				c.detach(id, targets, controlv1.Withdrawal_REASON_LEFT)
				return
			}
			time.AfterFunc(c.cfg.Grace, func() { c.detach(id, targets, controlv1.Withdrawal_REASON_LOST) })
		})
	}
}

// process finds or makes one. The lock is held.
func (c *Client) process(id processID, application string) *process {
	p := c.processes[id]
	if p == nil {
		p = &process{processID: id, attached: make(map[string]int)}
		c.processes[id] = p
	}
	p.application, p.why = application, 0
	return p
}

func (c *Client) detach(id processID, targets []string, why controlv1.Withdrawal_Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.processes[id]
	if p == nil {
		return
	}
	for _, t := range targets {
		if p.attached[t]--; p.attached[t] <= 0 {
			delete(p.attached, t)
		}
	}
	p.why = why
	c.tidy(p)
	c.look(id.instance, targets)
}

// tidy forgets a process by which nothing is known any more. The lock is held.
func (c *Client) tidy(p *process) {
	if len(p.attached) == 0 && p.held == nil && c.processes[p.processID] == p {
		delete(c.processes, p.processID)
		for _, e := range c.entries { // why it is gone is told
			if e.instance == p.instance && e.want != nil && e.incarnation() == p.incarnation {
				c.look(p.instance, []string{e.target}, p.why)
			}
		}
	}
}

// endpoint is what a process has for a target; nil: nothing that could be called.
func (c *Client) endpoint(p *process, target string) *resourcev1.Endpoint {
	e := &resourcev1.Endpoint{Target: target, Instance: p.instance, Incarnation: p.incarnation, Zone: c.cfg.Zone}
	if p.attached[target] > 0 && c.cfg.MeshAddress != "" {
		e.MeshAddress, e.Identity = c.cfg.MeshAddress, c.cfg.Identity
	}
	if h := p.held; h != nil && slices.Contains(h.details.Targets, target) {
		h.details.describe(e)
	}
	if e.GetMeshAddress() == "" && e.GetDirectAddress() == "" {
		return nil
	}
	return e
}

// look compares what is wanted of targets of an instance with what is there: the newest of its incarnations counts. The
// lock is held.
func (c *Client) look(instance string, targets []string, why ...controlv1.Withdrawal_Reason) {
	for _, target := range targets {
		var best *process
		var endpoint *resourcev1.Endpoint
		if !c.left {
			for _, p := range c.processes {
				if p.instance == instance && (best == nil || p.incarnation > best.incarnation) {
					if e := c.endpoint(p, target); e != nil {
						best, endpoint = p, e
					}
				}
			}
		}
		id := entryID{target, instance}
		switch e := c.entries[id]; {
		case endpoint != nil:
			c.want(id, &controlv1.Registration{Application: best.application, Endpoint: endpoint})
		case e != nil && e.want != nil:
			reason := controlv1.Withdrawal_REASON_LEFT
			if len(why) > 0 {
				reason = why[0]
			} else if p := c.processes[processID{instance, e.incarnation()}]; p != nil && p.why != 0 {
				reason = p.why
			}
			c.end(e, reason)
		}
		c.tellHeld(instance, target)
	}
}

// status says what an operator wants to know of one registration.
func (e *entry) status() Registered {
	r := Registered{
		Target: e.target, Instance: e.instance, Incarnation: e.incarnation(), Reason: e.reason,
		State: strings.ToLower(strings.TrimPrefix(e.state.String(), "STATE_")),
	}
	switch {
	case e.want == nil:
		r.State = "withdrawing"
	case e.state == controlv1.RegistrationState_STATE_UNSPECIFIED:
		r.State = "pending"
	}
	if p := e.want.GetEndpoint(); p != nil {
		r.MeshAddress, r.DirectAddress = p.GetMeshAddress(), p.GetDirectAddress()
	}
	return r
}

// Registered is one registration, for operators.
type Registered struct {
	Target        string `json:"target"`
	Instance      string `json:"instance"`
	Incarnation   uint64 `json:"incarnation"`
	MeshAddress   string `json:"mesh_address,omitempty"`
	DirectAddress string `json:"direct_address,omitempty"`
	State         string `json:"state"`
	Reason        string `json:"reason,omitempty"`
}

// Report is how the client fares, for operators.
type Report struct {
	Connected     bool         `json:"connected"`
	Since         time.Time    `json:"since"`
	Registrations []Registered `json:"registrations"`
}

// Status tells how the client fares.
func (c *Client) Status() Report {
	if c == nil {
		return Report{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Connected: c.connected, Since: c.since, Registrations: []Registered{}}
	for _, e := range c.entries {
		r.Registrations = append(r.Registrations, e.status())
	}
	slices.SortFunc(r.Registrations, func(a, b Registered) int {
		return strings.Compare(a.Target+"\x00"+a.Instance, b.Target+"\x00"+b.Instance)
	})
	return r
}

// Reached says where other proxies reach this one, once that is known: what is registered goes by it.
func (c *Client) Reached(meshAddress string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg.MeshAddress = meshAddress
	for _, p := range c.processes {
		targets := slices.Collect(maps.Keys(p.attached))
		c.look(p.instance, targets)
	}
}

// Yield says nothing any more, but for what was measured by then: another process speaks for the same instances, at the same
// address. What it does not register again the Pilot withdraws after a while.
func (c *Client) Yield() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left = true; c.yielded {
		return
	}
	c.yielded = true
	if !c.connected || c.reports.pending.Empty() && len(c.reports.sent) == 0 {
		c.stop()
		return
	}
	c.ring() // what was measured is this one's to say
	time.AfterFunc(lastWords, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stop()
	})
}

// stop ends the stream for good. The lock is held.
func (c *Client) stop() { c.quitOnce.Do(func() { close(c.quit) }) }

// settle tells those who wait that something is over. The lock is held.
func (c *Client) settle() {
	close(c.settled)
	c.settled = make(chan struct{})
}

// Leave withdraws everything, says what was measured, and waits until the Pilot knows, or ctx is done. Nothing is registered
// after it.
func (c *Client) Leave(ctx context.Context) {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.left = true
	for _, e := range c.entries {
		if e.want != nil {
			c.end(e, controlv1.Withdrawal_REASON_LEFT)
		}
	}
	c.ring() // also what was measured
	c.mu.Unlock()
	for {
		c.mu.Lock()
		n, settled := len(c.entries)+len(c.reports.sent), c.settled
		if !c.reports.pending.Empty() {
			n++
		}
		if !c.connected {
			n = 0 // nobody hears it; the Pilot will find out
		}
		c.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-settled:
		}
	}
}
