package configserver

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// MaxSwitched is how many switches one Set may write.
const MaxSwitched = 1000

// Mesh implements octo.config.v1.Mesh on the configurations of a Service.
type Mesh struct {
	configv1.UnimplementedMeshServer
	*Service
}

// setting is one switch that a Set is to write.
type setting struct {
	application, target string
	name                string
	expected            uint64                 // its revision now
	before, after       *resourcev1.MeshSwitch // nil: there is none
	everybody, inherits *resourcev1.MeshSwitch // the switch of every application, before and, where after is nil, then
	others              []string               // applications with a switch of their own to the target
}

// Set implements the service.
func (m Mesh) Set(ctx context.Context, r *configv1.SetRequest) (*configv1.SetResponse, error) {
	if err := checkSet(r); err != nil {
		return nil, err
	}
	c := &change{service: m.Service, environment: r.GetEnvironment(), action: "mesh set", dry: r.GetDryRun()}
	if r.GetForce() {
		c.action = "mesh set, forced"
	}
	if !c.dry {
		var err error
		if c.author, c.verified, err = m.author(ctx, r.GetWhy()); err != nil {
			return nil, err
		}
		c.reason = r.GetWhy().GetReason()
	}
	settings, err := m.settings(ctx, r)
	if err != nil {
		return nil, err
	}
	whole := &resourcev1.Configuration{}
	for _, s := range settings {
		one := &resourcev1.Configuration{MeshSwitches: []*resourcev1.MeshSwitch{s.after}}
		merge(whole, one)
		c.wishes = append(c.wishes, wish{name: s.name, expected: &s.expected, resource: one})
	}
	if err := wrong(resource.ValidateConfiguration(whole, nil, r.GetEnvironment())); err != nil {
		return nil, err
	}
	found, err := m.inspect(ctx, r, settings)
	if err != nil {
		return nil, err
	}
	if inTheWay(found) && !r.GetForce() && !r.GetDryRun() {
		return nil, refusal(found)
	}
	done, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	out := &configv1.SetResponse{Check: found}
	for i, s := range settings {
		out.Changes = append(out.Changes, &configv1.ShareChange{
			Application: applicationOf(s.after), Target: s.target, Before: shareOf(s.before), After: shareOf(s.after), Change: done.changes[i],
		})
	}
	return out, nil
}

// checkSet refuses what says too little, or too much.
func checkSet(r *configv1.SetRequest) error {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return err
	}
	switch {
	case (r.GetApplication() == "") == (r.GetTier() == resourcev1.Tier_TIER_UNSPECIFIED):
		return invalid("name an application, \"*\" for all without a switch of their own, or a tier: one of them")
	case len(r.GetTargets()) == 0:
		return invalid("name at least one target")
	case r.GetPermille() > resource.MaxPermille || r.GetOthers() > resource.MaxPermille:
		return invalid("%d is more than 1000, the whole", max(r.GetPermille(), r.GetOthers()))
	case len(r.GetNodes()) > 0 && r.GetAllNodes():
		return invalid("all nodes are meant, or the chosen ones: not both")
	case r.Others != nil && len(r.GetNodes()) == 0:
		return invalid("the share of the others is said where nodes are chosen")
	}
	return nil
}

// settings are the switches as they are, and as they are to be.
func (m Mesh) settings(ctx context.Context, r *configv1.SetRequest) ([]*setting, error) {
	applications, err := m.who(ctx, r)
	if err != nil {
		return nil, err
	}
	if n := len(applications) * len(r.GetTargets()); n > MaxSwitched {
		return nil, invalid("%d switches would be written, at most %d are at once: name fewer targets", n, MaxSwitched)
	}
	have, _, err := m.all(ctx, r.GetEnvironment(), KindSwitch)
	if err != nil {
		return nil, err
	}
	own := make(map[string][]string) // by target, who has a switch
	for _, k := range have {
		if s := switchOf(k); s.GetApplication() != "" {
			own[s.GetTarget()] = append(own[s.GetTarget()], s.GetApplication())
		}
	}
	var out []*setting
	for _, target := range slices.Compact(slices.Sorted(slices.Values(r.GetTargets()))) {
		for _, a := range applications {
			s := &setting{application: a, target: target, name: KindSwitch + "/" + a + "," + target, everybody: switchOf(have[KindSwitch+"/,"+target]), others: own[target]}
			if k := have[s.name]; k.live() {
				s.before, s.expected = k.GetResource().GetMeshSwitches()[0], k.revision()
			}
			if err := s.set(r); err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	return out, nil
}

func switchOf(k kept) *resourcev1.MeshSwitch {
	if !k.live() {
		return nil
	}
	return k.GetResource().GetMeshSwitches()[0]
}

// set makes the switch that is wanted of the one that is there. Where there is none, the switch of all applications held.
func (s *setting) set(r *configv1.SetRequest) error {
	s.after = &resourcev1.MeshSwitch{Application: s.application, Target: s.target}
	switch {
	case s.before != nil:
		s.after = proto.CloneOf(s.before)
	case len(r.GetNodes()) == 0 || r.Others != nil:
	case s.everybody != nil: // it held until now, for the other nodes too
		s.after.Permille = s.everybody.GetPermille()
		resource.SetNodeShares(s.after, resource.NodeShares(s.everybody))
	default:
		return status.Errorf(codes.FailedPrecondition,
			"no switch is set from %s to %s yet: say what share the other nodes get (octo: --others PERMILLE)", applicationOf(s.after), s.target)
	}
	if r.Others != nil {
		s.after.Permille = r.GetOthers()
	}
	switch shares := resource.NodeShares(s.after); {
	case len(r.GetNodes()) > 0:
		for _, n := range r.GetNodes() {
			shares[n] = r.GetPermille()
		}
		resource.SetNodeShares(s.after, shares)
	case r.GetAllNodes():
		resource.SetNodeShares(s.after, nil)
		fallthrough
	default:
		s.after.Permille = r.GetPermille()
	}
	return nil
}

// who are the applications that are meant; "" is every one without a switch of its own.
func (m Mesh) who(ctx context.Context, r *configv1.SetRequest) ([]string, error) {
	switch a := r.GetApplication(); a {
	case "":
	case resource.EveryApplication:
		return []string{""}, nil
	default:
		return []string{a}, nil
	}
	all, err := m.applications(ctx, r.GetEnvironment())
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(all, func(_ string, a *resourcev1.Application) bool { return a.GetTier() != r.GetTier() })
	if len(all) == 0 {
		return nil, status.Errorf(codes.NotFound, "no application in environment %s is of %s: octo get application lists them", r.GetEnvironment(), r.GetTier())
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// applications are those that have a resource, by name.
func (s *Service) applications(ctx context.Context, environment string) (map[string]*resourcev1.Application, error) {
	have, _, err := s.all(ctx, environment, KindApplication)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*resourcev1.Application)
	for _, k := range have {
		if k.live() {
			a := k.GetResource().GetApplications()[0]
			out[a.GetName()] = a
		}
	}
	return out, nil
}

// applicationOf is whose calls a switch is of, as operators write it.
func applicationOf(s *resourcev1.MeshSwitch) string {
	if s.GetApplication() == "" {
		return resource.EveryApplication
	}
	return s.GetApplication()
}

func shareOf(s *resourcev1.MeshSwitch) *configv1.Share {
	if s == nil {
		return nil
	}
	return &configv1.Share{Permille: s.GetPermille(), Nodes: resource.NodeShares(s)}
}
