package configserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/resource"
)

const (
	// maxChecked bounds the processes that an answer tells of: first those that are not eligible.
	maxChecked = 1000
	// leastProxy is the oldest proxy that answers the Directory and hands over without a call that notices.
	leastProxy = "0.1.0"
)

// sdk is what an SDK must be to go by a switch.
type sdk struct{ least, runtime string }

// sdks are the SDKs that there are. Another one is held to its features alone.
func sdks() map[string]sdk { return map[string]sdk{"go": {least: "0.1.0", runtime: "go1.26"}} }

// features are what a caller must say that it does (D-WATCH-13), and what for.
var features = []struct{ name, what string }{
	{"switch", "it does not go by a switch"},
	{"fallback", "it does not go direct when its proxy fails"},
	{"report", "it does not report what it measures, so that nobody sees how the mesh does"},
}

// rises tells from which nodes more calls would go through the mesh than now. What held before is the switch itself, or that of
// all applications; where there was none nothing was checked before, and all counts. Where there will be none SDKs go by their
// default, which is the mesh.
func (s *setting) rises(node string) bool {
	before, after, now := s.before, s.after, uint32(resource.MaxPermille)
	if before == nil {
		before = s.everybody
	}
	if after == nil {
		after = s.inherits
	}
	if after != nil {
		now = resource.Share(after, node)
	}
	return now > 0 && (before == nil || now > resource.Share(before, node))
}

// mayRise tells whether it rises from any node.
func (s *setting) mayRise() bool {
	if s.rises("") {
		return true
	}
	for _, of := range []*resourcev1.MeshSwitch{s.before, s.everybody, s.after, s.inherits} {
		for n := range resource.NodeShares(of) {
			if s.rises(n) {
				return true
			}
		}
	}
	return false
}

// question is whom a check looks at.
type question struct {
	environment string
	application string // empty: all
	nodes       []wantedNode
	// Nobody goes into the mesh: nothing and nobody is ever in the way of that.
	leaves, force bool
}

// wantedNode is one that is chosen, of which somebody must have heard: of a process to which one of the settings applies.
type wantedNode struct {
	who, node string
	of        []*setting
}

// asks is what a request asks.
func asks(r *configv1.SetRequest, settings []*setting) *question {
	q := &question{
		environment: r.GetEnvironment(), application: r.GetApplication(), force: r.GetForce(),
		leaves: !slices.ContainsFunc(settings, func(s *setting) bool { return s.before == nil || s.mayRise() }) || r.GetPermille() == 0 && r.GetOthers() == 0,
	}
	if q.application == resource.EveryApplication {
		q.application = ""
	}
	for _, n := range r.GetNodes() {
		if r.GetPermille() > 0 && !q.leaves {
			q.nodes = append(q.nodes, wantedNode{r.GetApplication(), n, settings})
		}
	}
	return q
}

// inspect looks at all processes whose share would rise, and at what else is in the way.
func (m Mesh) inspect(ctx context.Context, r *configv1.SetRequest, settings []*setting) (*configv1.Check, error) {
	q, out := asks(r, settings), &configv1.Check{}
	seen, err := m.seen(ctx, q, out)
	if err != nil {
		return nil, err
	}
	if err := m.knows(ctx, q, r.GetApplication(), settings, seen); err != nil {
		return nil, err
	}
	if err := m.tiers(ctx, r, settings, out); err != nil {
		return nil, err
	}
	m.look(q, settings, seen, out)
	return out, nil
}

// look holds those who are there against what they must be.
func (m Mesh) look(q *question, settings []*setting, seen []*controlv1.Seen, out *configv1.Check) {
	own := ownSwitches(settings)
	done := make(map[fleet.ID]bool)
	type at struct {
		of   *setting
		node string
	}
	heard := make(map[at]bool)
	for _, s := range settings {
		for _, one := range seen {
			p := one.GetProcess()
			if s.application != "" && p.GetApplication() != s.application || s.application == "" && own[p.GetApplication()+","+s.target] {
				continue
			}
			heard[at{s, p.GetNode()}] = true
			if done[fleet.IDOf(p)] || servesOnly(p) || !s.rises(p.GetNode()) {
				continue
			}
			done[fleet.IDOf(p)] = true
			out.Checked = append(out.Checked, &configv1.Checked{Application: p.GetApplication(), Seen: one, Node: p.GetNode(), Lacks: lacks(one)})
		}
	}
	for _, n := range q.nodes {
		if m.cfg.Fleet != nil && !slices.ContainsFunc(n.of, func(s *setting) bool { return heard[at{s, n.node}] }) {
			out.Checked = append(out.Checked, unknownNode(n))
		}
	}
	count(out)
}

// servesOnly tells of a process that calls nobody by a switch, since it calls nobody: it watches nothing, and serves.
func servesOnly(p *controlv1.Process) bool {
	return p.GetServes() && len(p.GetTargets()) == 0 && p.GetMoreTargets() == 0
}

func unknownNode(n wantedNode) *configv1.Checked {
	who := cmp.Or(n.who, "an application of the tier")
	return &configv1.Checked{Application: n.who, Node: n.node, Lacks: []*configv1.Lack{{
		Kind: configv1.Lack_KIND_UNKNOWN_NODE, Text: "nobody has heard of " + who + " there",
		Remedy: "see octo mesh nodes; nodes are named by OCTO_NODE, else by the host",
	}}}
}

// count puts those that are not eligible first, and drops what is too much to tell.
func count(out *configv1.Check) {
	for _, c := range out.Checked {
		if len(c.GetLacks()) == 0 {
			out.Eligible++
		} else {
			out.Ineligible++
		}
	}
	slices.SortStableFunc(out.Checked, func(a, b *configv1.Checked) int {
		return cmp.Compare(min(len(b.GetLacks()), 1), min(len(a.GetLacks()), 1))
	})
	if len(out.Checked) > maxChecked {
		out.Checked = out.Checked[:maxChecked]
	}
}

// seen asks who is there. That somebody does not answer is in the way: nobody knows who is ineligible there.
func (m Mesh) seen(ctx context.Context, q *question, out *configv1.Check) ([]*controlv1.Seen, error) {
	if q.leaves {
		return nil, nil
	}
	if m.cfg.Fleet == nil {
		out.Notes = append(out.Notes, "no node was checked: "+status.Convert(errNoFleet).Message())
		return nil, nil
	}
	all, sources, err := m.roster(ctx, q.environment, q.application)
	if err != nil {
		if q.force {
			out.Notes = append(out.Notes, "no node was checked: "+status.Convert(err).Message())
			return nil, nil
		}
		return nil, err
	}
	for _, s := range sources {
		if s.GetError() != "" {
			out.Lacks = append(out.Lacks, &configv1.Lack{
				Kind: configv1.Lack_KIND_UNANSWERED, Text: fmt.Sprintf("%s %s at %s does not answer: %s", s.GetRole(), s.GetName(), s.GetAddress(), s.GetError()),
				Remedy: "try again: which nodes it hears of is not known",
			})
		}
	}
	if len(all) == 0 {
		out.Notes = append(out.Notes, "no node was checked: nobody is known to run there")
	}
	return all, nil
}

// knows refuses an application of which nobody knows: its name is a slip, mostly.
func (m Mesh) knows(ctx context.Context, q *question, a string, settings []*setting, seen []*controlv1.Seen) error {
	if a == "" || a == resource.EveryApplication || q.force || len(seen) > 0 || q.leaves {
		return nil
	}
	if slices.ContainsFunc(settings, func(s *setting) bool { return s.before != nil }) {
		return nil
	}
	k, err := m.current(ctx, q.environment, KindApplication+"/"+a)
	if err != nil || k.live() {
		return err
	}
	return status.Errorf(codes.NotFound, "nobody knows an application %q in environment %s: it has no resource, no switch, and does not run. "+
		"octo mesh nodes shows who does; --force sets the switch all the same", a, q.environment)
}

// tiers says which less critical applications are behind: they go first.
func (m Mesh) tiers(ctx context.Context, r *configv1.SetRequest, settings []*setting, out *configv1.Check) error {
	if r.GetTier() == 0 || r.GetPermille() == 0 || !slices.ContainsFunc(settings, func(s *setting) bool { return s.rises("") }) {
		return nil
	}
	all, err := m.applications(ctx, r.GetEnvironment())
	if err != nil {
		return err
	}
	have, _, err := m.all(ctx, r.GetEnvironment(), KindSwitch)
	if err != nil {
		return err
	}
	for _, k := range have {
		s := switchOf(k)
		tier := all[s.GetApplication()].GetTier()
		if s == nil || tier <= r.GetTier() || !slices.Contains(r.GetTargets(), s.GetTarget()) || s.GetPermille() >= r.GetPermille() {
			continue
		}
		out.Lacks = append(out.Lacks, &configv1.Lack{
			Kind: configv1.Lack_KIND_TIER, Text: fmt.Sprintf("%s is less critical, %s, and has %d to %s", s.GetApplication(), tier, s.GetPermille(), s.GetTarget()),
			Remedy: fmt.Sprintf("octo mesh set %s %s %d first", s.GetApplication(), s.GetTarget(), r.GetPermille()),
		})
	}
	slices.SortFunc(out.Lacks, func(a, b *configv1.Lack) int { return strings.Compare(a.GetText(), b.GetText()) })
	return nil
}

// ownSwitches are, as "application,target", the switches that keep those of every application from holding.
func ownSwitches(settings []*setting) map[string]bool {
	own := make(map[string]bool)
	for _, s := range settings {
		for _, a := range s.others {
			own[a+","+s.target] = true
		}
	}
	return own
}

// lacks is what a process lacks to go through the mesh.
func lacks(s *controlv1.Seen) (out []*configv1.Lack) {
	p := s.GetProcess()
	lack := func(kind configv1.Lack_Kind, text, remedy string) {
		out = append(out, &configv1.Lack{Kind: kind, Text: text, Remedy: remedy})
	}
	need := sdks()[p.GetSdk()]
	if v := p.GetSdkVersion(); v != "" && older(v, need.least) {
		lack(configv1.Lack_KIND_SDK, fmt.Sprintf("its SDK is %s %s", p.GetSdk(), v), "build it with "+p.GetSdk()+" "+need.least+" or later")
	}
	if v := p.GetRuntime(); v != "" && older(v, need.runtime) {
		lack(configv1.Lack_KIND_RUNTIME, "it runs on "+v, "run it on "+need.runtime+" or later")
	}
	for _, f := range features {
		if !slices.Contains(p.GetFeatures(), f.name) {
			lack(configv1.Lack_KIND_FEATURE, f.what+" (feature "+f.name+")", "build it with a newer SDK, and let it ask a Directory (OCTO_MODE must be auto)")
		}
	}
	x := s.GetProxy()
	if x == nil {
		lack(configv1.Lack_KIND_NO_PROXY, "it has no proxy", "start octo-proxy beside it, and set OCTO_SOCKET")
		return out
	}
	if older(x.GetSoftwareVersion(), leastProxy) {
		lack(configv1.Lack_KIND_PROXY_VERSION, fmt.Sprintf("its proxy %s is %s", x.GetInstance(), x.GetSoftwareVersion()), "restart it with "+leastProxy+" or later (octo-proxy --takeover)")
	}
	c := x.GetCondition()
	if c.GetDraining() {
		lack(configv1.Lack_KIND_PROXY_HEALTH, "its proxy "+x.GetInstance()+" leaves", "wait for its successor, or start it again")
	}
	if c.GetDegraded() {
		lack(configv1.Lack_KIND_PROXY_HEALTH, "its proxy "+x.GetInstance()+" has heard of no Pilot for a minute", "look at its log, and at its way to the Pilots")
	}
	if n := c.GetQuarantined(); n > 0 {
		lack(configv1.Lack_KIND_PROXY_HEALTH, fmt.Sprintf("its proxy %s refuses %d resources that crashed it", x.GetInstance(), n), "mend or roll back what it refuses (/control at its admin socket), or pardon it")
	}
	return out
}

// older compares the first dotted number in a with that in b: "go1.26.1" with "go1.26". What has none is not older.
func older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	return len(x) > 0 && len(y) > 0 && slices.Compare(x, y) < 0
}

// numbers is the first dotted number in a text, without zeros at its end: "1.26" is "1.26.0".
func numbers(text string) (out []uint64) {
	defer func() {
		for len(out) > 1 && out[len(out)-1] == 0 {
			out = out[:len(out)-1]
		}
	}()
	digit := func(r rune) bool { return r >= '0' && r <= '9' }
	i := strings.IndexFunc(text, digit)
	if i < 0 {
		return nil
	}
	for part := range strings.SplitSeq(text[i:], ".") {
		n, seen := uint64(0), false
		for _, r := range part {
			if !digit(r) {
				if seen {
					out = append(out, n)
				}
				return out // what comes after is a suffix, such as "-rc1"
			}
			n, seen = min(n*10+uint64(r-'0'), 1<<32), true
		}
		if !seen {
			return out
		}
		out = append(out, n)
	}
	return out
}

// inTheWay tells whether something is.
func inTheWay(c *configv1.Check) bool { return c.GetIneligible() > 0 || len(c.GetLacks()) > 0 }

// found is what a check found, in a sentence.
func found(c *configv1.Check) string {
	return fmt.Sprintf("%d of %d processes are not eligible, and %d other things are in the way", c.GetIneligible(), c.GetIneligible()+c.GetEligible(), len(c.GetLacks()))
}

// refusal is how a change ends before which something is in the way.
func refusal(c *configv1.Check) error {
	return refuse(codes.FailedPrecondition, protoadapt.MessageV1Of(c), "%s. Nothing was written: --force sets it all the same", found(c))
}
