package resource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of octo.resource.v1.MeshSwitch.
const (
	// MaxPermille is the whole.
	MaxPermille = 1000
	// MaxSwitchNodes is how many nodes a switch names.
	MaxSwitchNodes = 1000
	maxNodeShares  = 100
)

// Share is the permille of an application's calls from a node that go through the mesh (D-WATCH-5). Nodes without a name
// have the share of all.
func Share(s *resourcev1.MeshSwitch, node string) uint32 {
	if node == "" {
		return s.GetPermille()
	}
	if slices.Contains(s.GetNodes(), node) {
		return MaxPermille
	}
	for _, n := range s.GetNodeShares() {
		if slices.Contains(n.GetNodes(), node) {
			return n.GetPermille()
		}
	}
	return s.GetPermille()
}

// NodeShares are the shares of the nodes that a switch names.
func NodeShares(s *resourcev1.MeshSwitch) map[string]uint32 {
	shares := make(map[string]uint32)
	for _, each := range s.GetNodeShares() {
		for _, n := range each.GetNodes() {
			shares[n] = each.GetPermille()
		}
	}
	for _, n := range s.GetNodes() {
		shares[n] = MaxPermille
	}
	return shares
}

// SetNodeShares replaces the shares of chosen nodes. The whole goes into nodes, which every proxy reads; the rest are grouped
// by share, so that equal shares are written alike.
func SetNodeShares(s *resourcev1.MeshSwitch, shares map[string]uint32) {
	s.Nodes, s.NodeShares = nil, nil
	groups := make(map[uint32]*resourcev1.NodeShare)
	for _, n := range slices.Sorted(maps.Keys(shares)) {
		permille := shares[n]
		if permille == MaxPermille {
			s.Nodes = append(s.Nodes, n)
			continue
		}
		g := groups[permille]
		if g == nil {
			g = &resourcev1.NodeShare{Permille: permille}
			groups[permille] = g
			s.NodeShares = append(s.NodeShares, g)
		}
		g.Nodes = append(g.Nodes, n)
	}
	slices.SortFunc(s.NodeShares, func(a, b *resourcev1.NodeShare) int { return cmp.Compare(a.GetPermille(), b.GetPermille()) })
}

func (v *validator) checkMeshSwitches(switches []*resourcev1.MeshSwitch) {
	type key struct{ application, target string }
	first := make(map[key]int)
	for i, s := range switches {
		at := fmt.Sprintf("mesh_switches[%d]", i)
		v.resource = "switch " + s.GetApplication() + "," + s.GetTarget()
		v.optional(at+".application", s.GetApplication(), nameForm)
		v.target(at+".target", s.GetTarget())
		if a := s.GetApplication(); a != "" && len(v.applications) > 0 && !v.applications[a] {
			v.warn(at+".application", "no application has the name %q: the switch holds for nobody, unless a caller without a resource is called so", shorten(a))
		}
		k := key{s.GetApplication(), s.GetTarget()}
		if j, dup := first[k]; dup {
			v.bad(at+".target", "mesh_switches[%d] is of the same application and target: write one", j)
		} else {
			first[k] = i
		}
		v.permille(at+".permille", s.GetPermille())
		if s.GetRevision() != 0 {
			v.bad(at+".revision", "is the Config Server's to set: leave it out")
		}
		v.switchNodes(at, s)
	}
}

// switchNodes checks the nodes that a switch names: bounded, and each once.
func (v *validator) switchNodes(at string, s *resourcev1.MeshSwitch) {
	named := len(s.GetNodes())
	for _, each := range s.GetNodeShares() {
		named += len(each.GetNodes())
	}
	switch {
	case named > MaxSwitchNodes:
		v.bad(at+".nodes", "%d nodes are named here and in node_shares, more than %d: use permille", named, MaxSwitchNodes)
		return
	case len(s.GetNodeShares()) > maxNodeShares:
		v.bad(at+".node_shares", "holds more than %d shares", maxNodeShares)
		return
	}
	first := make(map[string]string)
	check := func(at string, nodes []string) {
		for j, n := range nodes {
			field := fmt.Sprintf("%s.nodes[%d]", at, j)
			if !v.name(field, n, nameForm) {
				continue
			}
			if other, dup := first[n]; dup {
				v.bad(field, "%q stands in %s too: a node has one share", shorten(n), other)
			} else {
				first[n] = field
			}
		}
	}
	check(at, s.GetNodes())
	for i, each := range s.GetNodeShares() {
		field := fmt.Sprintf("%s.node_shares[%d]", at, i)
		if len(each.GetNodes()) == 0 {
			v.bad(field+".nodes", "is missing: name at least one node, or use permille for all")
		}
		v.permille(field+".permille", each.GetPermille())
		check(field, each.GetNodes())
	}
}
