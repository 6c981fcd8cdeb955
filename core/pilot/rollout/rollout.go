// Package rollout watches, for one Pilot, what becomes of changes that go in waves: which of its proxies are to have them, go
// by them, refuse them or crash with them. It tells the Config Server, which moves the waves on or takes them back.
package rollout

import (
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	maxRefusals = 10   // that are told of one roll-out: the first ends it
	maxCrashes  = 100  // likewise
	maxSuspects = 1000 // nodes whose suspicions are remembered
	maxNodes    = 3    // of which one may be the first
	maxText     = 1000 // bytes of a node's words
)

// Config is an observer's.
type Config struct {
	// Pilot is the Pilot's name, unique among Pilots. Required.
	Pilot string
	Cache *snapshot.Cache
	// ConfigServers are connections to Config Servers, tried in turn.
	ConfigServers []grpc.ClientConnInterface
	// Gather is how long news waits for more. 0: 200 ms.
	Gather time.Duration
	// Repeat is after what time the same is said again. 0: 2 s.
	Repeat time.Duration
	Log    *slog.Logger
}

// Observer watches roll-outs. It is told of candidates by the ingest, of answers by the push server and of crashes by
// the service that proxies introduce themselves to. Its methods are safe for concurrent use, and do not block.
type Observer struct {
	cfg Config

	mu       sync.Mutex
	rolling  map[place]*candidate
	suspects map[push.Node]suspicion
	news     chan struct{} // holds one element while something has changed
}

// suspicion is what an incarnation of a node suspects.
type suspicion struct {
	incarnation uint64
	all         []*controlv1.Suspect
}

// place is one resource.
type place struct {
	topic resource.Topic
	name  string
}

// candidate is a version of one resource that is being rolled out.
type candidate struct {
	rollout, step uint64
	first         string
	wave          *snapshot.Wave
	version       string            // "": it is a deletion
	applied       map[string]bool   // nodes
	refused       map[string]string // why, by node
	crashed       map[string]*configv1.Failure
}

// New makes an observer.
func New(cfg Config) *Observer {
	if cfg.Gather == 0 {
		cfg.Gather = 200 * time.Millisecond
	}
	if cfg.Repeat == 0 {
		cfg.Repeat = 2 * time.Second
	}
	return &Observer{
		cfg: cfg, rolling: make(map[place]*candidate), suspects: make(map[push.Node]suspicion), news: make(chan struct{}, 1),
	}
}

// Candidate tells what is being rolled out of a resource, and in which version; nil: nothing any more.
func (o *Observer) Candidate(t resource.Topic, name string, c *configv1.Candidate, w *snapshot.Wave, version string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := place{t, name}
	before := o.rolling[p]
	if c == nil {
		if before != nil {
			delete(o.rolling, p)
		}
		return
	}
	now := &candidate{rollout: c.GetRollout(), step: c.GetStep(), wave: w, version: version}
	if len(c.GetNodes()) > 0 {
		now.first = c.GetNodes()[0]
	}
	if before != nil && before.rollout == now.rollout && before.version == version {
		now.applied, now.refused, now.crashed = before.applied, before.refused, before.crashed
	} else {
		now.applied, now.refused, now.crashed = make(map[string]bool), make(map[string]string), make(map[string]*configv1.Failure)
	}
	o.rolling[p] = now
	for node, its := range o.suspects {
		for _, s := range its.all {
			o.suspect(node, s)
		}
	}
	o.changed()
}

// Applied implements push.Observer.
func (o *Observer) Applied(n push.Node, u snapshot.Update) { o.answered(n, u, "") }

// Refused implements push.Observer.
func (o *Observer) Refused(n push.Node, u snapshot.Update, why string) {
	if why == "" {
		why = "it says not why"
	}
	o.answered(n, u, why)
}

func (o *Observer) answered(n push.Node, u snapshot.Update, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rolling) == 0 {
		return
	}
	for _, t := range u.Told {
		o.answer(n.ID, place{t.Topic, t.Resource.Name}, t.Resource.Version, why)
	}
	for _, k := range u.Kept {
		o.answer(n.ID, place{k.Topic, k.Name}, k.Version, "")
	}
	for _, full := range u.Removed {
		t, err := resource.TopicOf(u.Kind, full)
		if err != nil {
			continue
		}
		if name, ok := t.LocalName(full); ok {
			o.answer(n.ID, place{t, name}, "", why)
		}
	}
}

// answer notes what a node says of a version; why is empty if it goes by it. The lock is held.
func (o *Observer) answer(node string, p place, version, why string) {
	c := o.rolling[p]
	if c == nil {
		return
	}
	switch {
	case version != c.version:
		delete(c.applied, node)
	case why == "":
		c.applied[node] = true
	case len(c.refused) < maxRefusals:
		c.refused[node] = cut(why)
	}
	o.changed()
}

func cut(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}

// Suspects takes what a node that introduces itself suspects to have crashed it: all of it. Each incarnation comes by a stream of its
// own, so that a word of an earlier one may come later: it knows of fewer crashes, and is not heard.
func (o *Observer) Suspects(n push.Node, incarnation uint64, all []*controlv1.Suspect) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.suspects[n].incarnation > incarnation {
		return
	}
	delete(o.suspects, n)
	if len(all) == 0 || len(o.suspects) >= maxSuspects {
		return
	}
	o.suspects[n] = suspicion{incarnation, all} // also for a candidate of which this Pilot hears later
	for _, s := range all {
		o.suspect(n, s)
	}
	o.changed()
}

// suspect notes a suspicion, if it is of a candidate. The lock is held.
func (o *Observer) suspect(n push.Node, s *controlv1.Suspect) {
	kind, ok := resource.KindOf(s.GetTypeUrl())
	if !ok {
		return
	}
	t, err := resource.TopicOf(kind, s.GetName())
	if err != nil || t.Environment != n.Environment {
		return
	}
	name, _ := t.LocalName(s.GetName())
	c := o.rolling[place{t, name}]
	if c == nil || c.version != s.GetVersion() {
		return
	}
	if s.GetQuarantined() && len(c.refused) < maxRefusals {
		c.refused[n.ID] = "it does not take it any more, after crashes"
	}
	if len(c.crashed) < maxCrashes || c.crashed[n.ID] != nil {
		c.crashed[n.ID] = &configv1.Failure{Node: n.ID, Count: s.GetCrashes(), Text: "it came back from a crash, and suspects this"}
	}
}

// changed has something said. The lock is held.
func (o *Observer) changed() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}
