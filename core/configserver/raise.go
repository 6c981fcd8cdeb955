package configserver

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// guard holds the switches that a change raises to the check of [Mesh.Set], by whichever way they are written: by a file, by an
// older revision, or by being deleted, after which SDKs go by the switch of every application, or by their default. Who is in a
// file may come later than the file, so that an application of which nobody knows is a warning here.
func (c *change) guard(ctx context.Context, p *plan, have map[string]kept) error {
	if !c.guarded {
		return nil
	}
	settings := c.raised(have)
	if len(settings) == 0 {
		return nil
	}
	q := &question{environment: c.environment, force: c.force}
	for i, s := range settings {
		if q.application = s.application; i > 0 && settings[i-1].application != s.application {
			q.application = ""
			break
		}
	}
	for _, s := range settings {
		for _, n := range slices.Sorted(maps.Keys(resource.NodeShares(s.after))) {
			if s.rises(n) {
				q.nodes = append(q.nodes, wantedNode{applicationOf(s.after), n, []*setting{s}})
			}
		}
	}
	m, out := Mesh{Service: c.service}, &configv1.Check{}
	seen, err := m.seen(ctx, q, out)
	if err != nil {
		return err
	}
	m.look(q, settings, seen, out)
	for _, note := range out.GetNotes() {
		p.warnings = append(p.warnings, &configv1.Problem{Resource: settings[0].name, Warning: true, Text: note})
	}
	if !inTheWay(out) {
		return nil
	}
	if !c.force {
		return refusal(out)
	}
	p.forced = make(map[string]bool)
	for _, s := range settings {
		p.forced[s.name] = true
	}
	p.warnings = append(p.warnings, &configv1.Problem{Resource: settings[0].name, Warning: true, Text: found(out) + ": it was forced"})
	return nil
}

// raised are the switches by which more calls would go through the mesh from some node than now.
func (c *change) raised(have map[string]kept) (out []*setting) {
	after := make(map[string]kept)   // the switches as they will be
	own := make(map[string][]string) // by target, who has a switch before or after, and is looked at by that
	add := func(name string, k kept) {
		if s := switchOf(k); s != nil {
			after[name] = k
			if s.GetApplication() != "" {
				own[s.GetTarget()] = append(own[s.GetTarget()], s.GetApplication())
			}
		}
	}
	for name, k := range have {
		if strings.HasPrefix(name, KindSwitch+"/") {
			add(name, k)
		}
	}
	for _, w := range c.wishes {
		if delete(after, w.name); !w.remove && strings.HasPrefix(w.name, KindSwitch+"/") {
			add(w.name, kept{Version: &configv1.Version{Name: w.name, Resource: w.resource}})
		}
	}
	for _, w := range c.wishes {
		kind, name, err := parseName(w.name)
		application, target, ok := strings.Cut(name, ",")
		if err != nil || kind != KindSwitch || !ok {
			continue
		}
		everybody := KindSwitch + "/," + target
		s := &setting{
			application: application, target: target, name: w.name, before: switchOf(have[w.name]), after: switchOf(after[w.name]),
			everybody: switchOf(have[everybody]), inherits: switchOf(after[everybody]), others: own[target],
		}
		if s.before == nil && s.after == nil || proto.Equal(s.before, s.after) || !s.mayRise() {
			continue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *setting) int { return strings.Compare(a.name, b.name) })
	return out
}
