package configserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// Explain implements the service.
func (s *Service) Explain(ctx context.Context, r *configv1.ExplainRequest) (*configv1.ExplainResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	if r.GetTarget() == "" {
		return nil, invalid("a target is missing")
	}
	have, err := s.about(ctx, r.GetEnvironment(), r.GetTarget(), r.GetCaller())
	if err != nil {
		return nil, err
	}
	e := &explanation{service: s, request: r, have: have}
	e.switches(ctx)
	target := r.GetTarget()
	policy := have[KindPolicy+"/"+target]
	e.bind(ctx, KindPolicy+"/"+target, e.routes(policy), "there is no policy: defaults hold, and calls go to the target itself")
	e.bind(ctx, KindAuth+"/"+target, "who may call, asked by the server's proxy", "there is no auth policy: every caller is let in")
	e.bind(ctx, KindApplication+"/"+target, "whose the target is", "")
	if c := r.GetCaller(); c != "" && c != target {
		e.bind(ctx, KindApplication+"/"+c, "whose the caller is", "")
	}
	e.overrides(ctx)
	e.bind(ctx, KindSchema+"/"+target, "what the target serves", "")
	e.leadingHere()
	if e.err != nil {
		return nil, e.err
	}
	return &configv1.ExplainResponse{Bindings: e.out}, nil
}

// about reads what may bind calls to a target: all policies and switches, since others may lead to it, and else its own.
func (s *Service) about(ctx context.Context, environment, target, caller string) (map[string]kept, error) {
	have, _, err := s.all(ctx, environment, KindPolicy)
	if err != nil {
		return nil, err
	}
	switches, _, err := s.all(ctx, environment, KindSwitch)
	if err != nil {
		return nil, err
	}
	maps.Copy(have, switches)
	overrides, _, err := s.list(ctx, currentKey(environment, KindInstance+"/"+target+","))
	if err != nil {
		return nil, err
	}
	maps.Copy(have, overrides)
	for _, name := range []string{KindAuth + "/" + target, KindApplication + "/" + target, KindApplication + "/" + caller, KindSchema + "/" + target} {
		k, err := s.current(ctx, environment, name)
		if err != nil {
			return nil, err
		}
		if k.Version != nil {
			have[name] = k
		}
	}
	return have, nil
}

type explanation struct {
	service *Service
	request *configv1.ExplainRequest
	have    map[string]kept
	out     []*configv1.Binding
	err     error
}

// bind adds a resource with the origins of its fields. Without the resource it adds the other text, if there is one.
func (e *explanation) bind(ctx context.Context, name, text, without string) {
	k := e.have[name]
	b := &configv1.Binding{Name: name, Text: text, Revision: k.revision()}
	var policy *resourcev1.ServicePolicy
	if k.live() {
		var err error
		if b.Fields, err = e.service.origins(ctx, e.request.GetEnvironment(), k); err != nil && e.err == nil {
			e.err = err
		}
		if p := k.GetResource().GetPolicies(); len(p) > 0 {
			policy = p[0]
		}
	} else if b.Text = without; without == "" {
		return
	}
	if strings.HasPrefix(name, KindPolicy+"/") {
		for _, d := range resource.Defaults(policy) {
			b.Fields = append(b.Fields, &configv1.FieldOrigin{Field: d.Path, Value: d.Value})
		}
	}
	e.out = append(e.out, b)
}

// origins says of each field of a resource which revision gave it the value that it has.
func (s *Service) origins(ctx context.Context, environment string, k kept) ([]*configv1.FieldOrigin, error) {
	entries, _, err := s.store.List(ctx, historyPrefix+keyOf(environment, k.GetName())+"/")
	if err != nil {
		return nil, storeError(err)
	}
	type origin struct {
		value string
		by    *configv1.Version
	}
	from := make(map[string]origin)
	for _, entry := range entries { // by revision, the oldest first
		v, err := decode(entry)
		if err != nil {
			return nil, err
		}
		if v.GetRevision() > k.GetRevision() {
			break // it was written since k was read
		}
		next := make(map[string]origin)
		if v.live() {
			for _, f := range resource.Fields(content(v.GetResource(), nil)) {
				if o, ok := from[f.Path]; ok && o.value == f.Value {
					next[f.Path] = o
				} else {
					next[f.Path] = origin{f.Value, v.Version}
				}
			}
		}
		from = next
	}
	var out []*configv1.FieldOrigin
	for _, f := range resource.Fields(content(k.GetResource(), nil)) {
		by := from[f.Path].by
		out = append(out, &configv1.FieldOrigin{
			Field: f.Path, Value: f.Value, Revision: by.GetRevision(), Author: by.GetAuthor(), Reason: by.GetReason(),
		})
	}
	return out, nil
}

// switches adds the switch that holds for the caller; without a caller, all of the target's.
func (e *explanation) switches(ctx context.Context) {
	all := KindSwitch + "/," + e.request.GetTarget()
	if c := e.request.GetCaller(); c != "" {
		own := KindSwitch + "/" + c + "," + e.request.GetTarget()
		for _, name := range []string{own, all} {
			if k := e.have[name]; k.live() {
				e.bind(ctx, name, e.switched(k.GetResource().GetMeshSwitches()[0]), "")
				return
			}
		}
	}
	var names []string
	for name, k := range e.have {
		if k.live() && e.request.GetCaller() == "" && strings.HasPrefix(name, KindSwitch+"/") &&
			k.GetResource().GetMeshSwitches()[0].GetTarget() == e.request.GetTarget() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e.bind(ctx, name, e.switched(e.have[name].GetResource().GetMeshSwitches()[0]), "")
	}
	if len(names) == 0 {
		e.bind(ctx, all, "", "there is no switch: the SDK goes by its own settings")
	}
}

// overrides adds what operators say of the target's instances.
func (e *explanation) overrides(ctx context.Context) {
	var names []string
	for name, k := range e.have {
		if k.live() && strings.HasPrefix(name, KindInstance+"/"+e.request.GetTarget()+",") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		e.bind(ctx, name, "what an operator says of an instance, over what it registers", "")
	}
}

func (e *explanation) switched(s *resourcev1.MeshSwitch) string {
	who := "calls of " + s.GetApplication()
	if s.GetApplication() == "" {
		who = "calls of every application without a switch of its own"
	}
	node, shares := e.request.GetNode(), resource.NodeShares(s)
	if _, own := shares[node]; own {
		who += " from node " + node
	}
	text := fmt.Sprintf("%s: %d of 1000 go through the mesh, the others direct", who, resource.Share(s, node))
	if len(shares) > 0 && node == "" {
		text += "; some nodes have shares of their own"
	}
	return text
}

// routes says which routes of the policy the call may take, in the order in which they are asked.
func (e *explanation) routes(k kept) string {
	if !k.live() {
		return ""
	}
	var may []string
	for _, route := range k.GetResource().GetPolicies()[0].GetRoutes() {
		m := route.GetMatch()
		if !fits(m.GetCaller(), e.request.GetCaller()) || !fits(m.GetService(), e.request.GetService()) || !fits(m.GetMethod(), e.request.GetMethod()) {
			continue
		}
		var open []string // what the request does not tell
		for what, unknown := range map[string]bool{
			"caller": m.GetCaller() != "" && e.request.GetCaller() == "", "service": m.GetService() != "" && e.request.GetService() == "",
			"method": m.GetMethod() != "" && e.request.GetMethod() == "", "metadata": len(m.GetMetadata()) > 0, "baggage": len(m.GetBaggage()) > 0,
		} {
			if unknown {
				open = append(open, what)
			}
		}
		slices.Sort(open)
		if len(open) == 0 {
			return "routes, in order: " + strings.Join(append(may, route.GetName()), ", else ")
		}
		may = append(may, route.GetName()+" (if its "+strings.Join(open, " and ")+" match)")
	}
	return "routes, in order: " + strings.Join(append(may, "default, the target itself"), ", else ")
}

// fits tells whether a part of a match may hold: what is not known may be anything.
func fits(want, have string) bool { return want == "" || have == "" || want == have }

// leadingHere adds policies of other targets whose routes or mirrors send calls to this one: its balancing binds them.
func (e *explanation) leadingHere() {
	var found []*configv1.Binding
	for name, k := range e.have {
		if !k.live() || len(k.GetResource().GetPolicies()) == 0 || k.GetResource().GetPolicies()[0].GetTarget() == e.request.GetTarget() {
			continue
		}
		var ways []string
		for _, route := range k.GetResource().GetPolicies()[0].GetRoutes() {
			for _, d := range route.GetDestinations() {
				if d.GetTarget() == e.request.GetTarget() && !slices.Contains(ways, "route "+route.GetName()) {
					ways = append(ways, "route "+route.GetName())
				}
			}
			if route.GetMirror().GetDestination().GetTarget() == e.request.GetTarget() {
				ways = append(ways, "the mirror of route "+route.GetName())
			}
		}
		if len(ways) > 0 {
			found = append(found, &configv1.Binding{Name: name, Revision: k.revision(), Text: strings.Join(ways, ", ") + " sends calls here too"})
		}
	}
	slices.SortFunc(found, func(a, b *configv1.Binding) int { return strings.Compare(a.GetName(), b.GetName()) })
	e.out = append(e.out, found...)
}
