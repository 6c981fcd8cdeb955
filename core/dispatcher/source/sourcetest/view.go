package sourcetest

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// view is what one has learnt from the events of watches, and holds events to the contract.
type view struct {
	key       source.Key
	endpoints map[string]*resourcev1.Endpoint
	removed   map[string]source.Reason // why instances that are not there went, as the last event said
	refused   map[string]bool
	suspended bool
	begun     bool // this watch has told a full set
	fulls     int  // in all watches
	vanished  int  // how often an instance was removed
}

func newView(key source.Key) *view {
	return &view{key: key, endpoints: make(map[string]*resourcev1.Endpoint), removed: make(map[string]source.Reason), refused: make(map[string]bool)}
}

// apply takes an event in, and says what is wrong with it.
func (v *view) apply(e source.Event) error {
	if !v.begun && e.Kind != source.Full {
		return fmt.Errorf("the first event of a watch is %v", e.Kind)
	}
	switch e.Kind {
	case source.Full:
		if len(e.Removed) > 0 {
			return fmt.Errorf("a full set removes %v", e.Removed)
		}
		v.begun, v.suspended = true, false
		v.fulls++
		before := v.endpoints
		v.endpoints = make(map[string]*resourcev1.Endpoint)
		for _, r := range e.Refused {
			if old := before[r.Instance]; old != nil {
				v.endpoints[r.Instance] = old
			}
		}
	case source.Change:
		if len(e.Endpoints)+len(e.Removed)+len(e.Refused) == 0 {
			return fmt.Errorf("a change changes nothing")
		}
	case source.Suspended, source.Resumed:
		v.suspended = e.Kind == source.Suspended
		return nil
	default:
		return fmt.Errorf("an event has %v", e.Kind)
	}
	return v.entries(e)
}

func (v *view) entries(e source.Event) error {
	seen := make(map[string]bool)
	once := func(instance string) error {
		if seen[instance] {
			return fmt.Errorf("one event speaks twice of instance %q", instance)
		}
		seen[instance] = true
		return nil
	}
	for _, p := range e.Endpoints {
		if err := source.CheckEndpoint(v.key, p); err != nil {
			return fmt.Errorf("an event has an unsound endpoint: %w", err)
		}
		if err := once(p.GetInstance()); err != nil {
			return err
		}
		if old := v.endpoints[p.GetInstance()]; e.Kind == source.Change && old != nil && old.GetIncarnation() > p.GetIncarnation() {
			return fmt.Errorf("instance %s went back from %d to %d", p.GetInstance(), old.GetIncarnation(), p.GetIncarnation())
		}
		v.endpoints[p.GetInstance()] = p
		delete(v.removed, p.GetInstance())
		delete(v.refused, p.GetInstance())
	}
	for _, r := range e.Removed {
		if err := once(r.Instance); err != nil {
			return err
		}
		delete(v.endpoints, r.Instance)
		delete(v.refused, r.Instance)
		v.removed[r.Instance] = r.Reason
		v.vanished++
	}
	for _, r := range e.Refused {
		if r.Err == nil {
			return fmt.Errorf("the entry of %q is refused without a reason", r.Instance)
		}
		v.refused[r.Instance] = true
	}
	return nil
}

// has tells whether the view is of exactly these endpoints.
func (v *view) has(want map[string]*resourcev1.Endpoint) bool {
	return maps.EqualFunc(v.endpoints, want, func(a, b *resourcev1.Endpoint) bool { return proto.Equal(a, b) })
}
