package fleet

import (
	"maps"
	"slices"
	"sync"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// ID tells processes apart.
type ID struct {
	Application, Instance string
	Incarnation           uint64
}

// IDOf is a process' key.
func IDOf(p *controlv1.Process) ID {
	return ID{p.GetApplication(), p.GetInstance(), p.GetIncarnation()}
}

const (
	// maxPresent bounds the processes beside one proxy, or at one Directory of the control plane.
	maxPresent = 100_000
	// maxTargets bounds the targets that are told of one process.
	maxTargets  = 50
	maxFeatures = 16
	maxWord     = 64 // bytes of a feature, a version or a runtime
)

// Presence is who is here, as far as connections and watches show it. Its methods are safe for concurrent use; a nil one sees
// nobody.
type Presence struct {
	tell func(*controlv1.Process, bool)

	mu  sync.Mutex
	all map[ID]*present
}

// present is one process.
type present struct {
	process *controlv1.Process // without targets
	open    int                // connections and watches
	serving int
	targets map[string]int
}

// NewPresence makes one that tells of each change: who is here, with all that is known of it, or who is not any more. tell is
// called with a lock held and must not block.
func NewPresence(tell func(p *controlv1.Process, here bool)) *Presence {
	return &Presence{tell: tell, all: make(map[ID]*present)}
}

// Enter notes a connection; leave is to be called at its end.
func (p *Presence) Enter(of *controlv1.Process) (leave func()) {
	return p.enter(of, "", func(one *present) {
		if of.GetServes() {
			one.serving++
		}
	}, func(one *present) {
		if of.GetServes() {
			one.serving--
		}
	})
}

// Watch notes that a process watches a target, and what it says of itself; leave is to be called at the end.
func (p *Presence) Watch(of *controlv1.Process, r *directoryv1.WatchRequest) (leave func()) {
	return p.enter(of, r.GetTarget(), func(one *present) {
		if resource.IsName(r.GetNode()) {
			one.process.Node = r.GetNode()
		}
		if v := r.GetRuntime(); v != "" {
			one.process.Runtime = shorten(v)
		}
		if f := r.GetFeatures(); len(f) > 0 {
			one.process.Features = features(f)
		}
	}, func(*present) {})
}

// enter notes something of a process that is open, by change, and by undo that it has ended.
func (p *Presence) enter(of *controlv1.Process, target string, change, undo func(*present)) (leave func()) {
	if p == nil || !resource.IsName(of.GetApplication()) || !resource.IsName(of.GetInstance()) {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[IDOf(of)]
	if one == nil {
		if len(p.all) >= maxPresent {
			return func() {}
		}
		one = &present{targets: make(map[string]int), process: &controlv1.Process{
			Application: of.GetApplication(), Instance: of.GetInstance(), Incarnation: of.GetIncarnation(),
		}}
		p.all[IDOf(of)] = one
	}
	if of.GetSdk() != "" {
		one.process.Sdk, one.process.SdkVersion = shorten(of.GetSdk()), shorten(of.GetSdkVersion())
	}
	one.open++
	if target != "" {
		one.targets[target]++
	}
	change(one)
	p.tell(one.shown(), true)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		one.open--
		if target != "" {
			if one.targets[target]--; one.targets[target] <= 0 {
				delete(one.targets, target)
			}
		}
		undo(one)
		if one.open > 0 {
			p.tell(one.shown(), true)
			return
		}
		delete(p.all, IDOf(one.process))
		p.tell(one.shown(), false)
	})
}

// shown is the process with all that is known of it now.
func (one *present) shown() *controlv1.Process {
	f := one.process
	out := &controlv1.Process{
		Application: f.GetApplication(), Instance: f.GetInstance(), Incarnation: f.GetIncarnation(), Sdk: f.GetSdk(), SdkVersion: f.GetSdkVersion(),
		Node: f.GetNode(), Runtime: f.GetRuntime(), Features: f.GetFeatures(), Serves: one.serving > 0,
	}
	out.Targets = slices.Sorted(maps.Keys(one.targets))
	if more := len(out.Targets) - maxTargets; more > 0 {
		out.Targets, out.MoreTargets = out.Targets[:maxTargets:maxTargets], uint32(more)
	}
	return out
}

func shorten(text string) string { return text[:min(len(text), maxWord)] }

// features are those of a list that are kept (D-WATCH-13).
func features(all []string) (out []string) {
	for _, f := range all {
		if len(out) < maxFeatures && len(f) <= maxWord && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}
