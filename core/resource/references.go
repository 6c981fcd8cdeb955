package resource

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// MaxResource bounds a resource, in bytes as it is sent; a schema has a bound of its own, [MaxSchema].
const MaxResource = 256 << 10

// checkSizes looks for resources that are larger than proxies should have to take.
func (v *validator) checkSizes(c *resourcev1.Configuration) {
	v.resource = ""
	c.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !f.IsList() || f.Message() == nil || f.Name() == "schemas" {
			return true
		}
		for i, list := 0, value.List(); i < list.Len(); i++ {
			if n := proto.Size(list.Get(i).Message().Interface()); n > MaxResource {
				v.bad(fmt.Sprintf("%s[%d]", f.Name(), i), "has %d bytes, at most %d: say it with fewer entries", n, MaxResource)
			}
		}
		return true
	})
}

// checkCircles looks for routes that lead calls in a circle, from target to target. Of two policies of one target in whole
// the later one counts.
func (v *validator) checkCircles(policies, whole []*resourcev1.ServicePolicy) {
	next := make(map[string]*resourcev1.ServicePolicy, len(whole)+len(policies))
	for _, all := range [][]*resourcev1.ServicePolicy{whole, policies} {
		for _, p := range all {
			next[p.GetTarget()] = p
		}
	}
	for i, p := range policies {
		v.resource = "policy " + p.GetTarget()
		for j, r := range p.GetRoutes() {
			for k, d := range r.GetDestinations() {
				if d.GetTarget() == "" || d.GetTarget() == p.GetTarget() {
					continue
				}
				if circle := wayTo(p.GetTarget(), []string{p.GetTarget(), d.GetTarget()}, next, make(map[string]bool)); circle != nil {
					v.bad(fmt.Sprintf("policies[%d].routes[%d].destinations[%d].target", i, j, k),
						"leads calls in a circle: %s: take one of these routes away", strings.Join(circle, " -> "))
				}
			}
		}
	}
}

// wayTo finds a way back to a target by the routes of policies; nil: there is none. Its end is the way's.
func wayTo(target string, way []string, policies map[string]*resourcev1.ServicePolicy, seen map[string]bool) []string {
	at := way[len(way)-1]
	if seen[at] {
		return nil
	}
	seen[at] = true
	for _, r := range policies[at].GetRoutes() {
		for _, d := range r.GetDestinations() {
			switch {
			case d.GetTarget() == target:
				return append(slices.Clone(way), target)
			case d.GetTarget() != "":
				if found := wayTo(target, append(slices.Clone(way), d.GetTarget()), policies, seen); found != nil {
					return found
				}
			}
		}
	}
	return nil
}
