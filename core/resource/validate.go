package resource

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Bounds of what a resource may say. They are far above any use, and keep a slip from taking memory or
// overflowing a sum.
const (
	maxWeight       = 1_000_000
	maxName         = 255 // bytes of a name
	maxTags         = 64
	maxRoutes       = 1000
	maxDestinations = 100
	maxConditions   = 64 // metadata and baggage conditions of a match, each
	maxCalls        = 10_000_000
	maxTimeout      = 24 * time.Hour
	maxPark         = time.Minute
)

// directoryTarget is served by every proxy itself.
const directoryTarget = "octo.directory"

// form is how a kind of name looks.
type form struct {
	pattern *regexp.Regexp
	says    string
}

var (
	nameForm = form{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`),
		"letters, digits and . _ : / @ -, of which a letter or digit comes first"}
	environmentForm = form{regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`), "lower-case letters, digits and -"}
	keyForm         = form{regexp.MustCompile(`^[a-z0-9_.-]+$`), "lower-case letters, digits and . _ -"}
	methodForm      = form{regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`), "the method alone, such as AddItem"}
	serviceForm     = form{regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`),
		"the service's full name, such as shop.v1.Cart"}
	identityForm = form{regexp.MustCompile(`^spiffe://[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`), "a SPIFFE URI, such as spiffe://example.org/prod/proxy/web-1"}
	hostForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// validator gathers problems, and knows what the snapshot holds.
type validator struct {
	problems  []Problem
	resource  string // what is being looked at
	has       func(target string) bool
	endpoints func(target string) []*resourcev1.Endpoint
	ours      bool // it comes from the control plane or from the disk
	elsewhere bool // endpoints come from elsewhere, and so may targets
	// applications that have a resource of their own
	applications map[string]bool
}

// Validate returns what is wrong with a snapshot in a proxy of the environment, in the order of its fields;
// [Errors] tells whether it can be used. An empty environment stands for any.
func Validate(s *resourcev1.Snapshot, environment string) []Problem {
	targets, endpoints := make(map[string]bool), make(map[string][]*resourcev1.Endpoint)
	v := &validator{
		has:       func(target string) bool { return targets[target] },
		endpoints: func(target string) []*resourcev1.Endpoint { return endpoints[target] },
	}
	if s.GetEnvironment() != "" {
		if v.name("environment", s.GetEnvironment(), environmentForm) && environment != "" && s.GetEnvironment() != environment {
			v.bad("environment", "the resources belong to %q, this proxy to %q", s.GetEnvironment(), environment)
		}
	}
	for _, e := range s.GetEndpoints() {
		targets[e.GetTarget()] = true
		endpoints[e.GetTarget()] = append(endpoints[e.GetTarget()], e)
	}
	for _, p := range s.GetPolicies() {
		targets[p.GetTarget()] = true
	}
	for _, p := range s.GetAuthPolicies() {
		targets[p.GetTarget()] = true
	}
	v.checkEndpoints(s.GetEndpoints())
	v.checkPolicies(s.GetPolicies())
	v.checkAuthPolicies(s.GetAuthPolicies())
	return v.problems
}

func (v *validator) bad(field, format string, args ...any) {
	field = strings.TrimPrefix(field, ".") // of a resource that stands in no list
	v.problems = append(v.problems, Problem{Resource: v.resource, Field: field, Text: fmt.Sprintf(format, args...)})
}

func (v *validator) warn(field, format string, args ...any) {
	v.bad(field, format, args...)
	v.problems[len(v.problems)-1].Warning = true
}

// name checks a required name.
func (v *validator) name(field, name string, f form) bool {
	switch {
	case name == "":
		v.bad(field, "is missing")
	case len(name) > maxName:
		v.bad(field, "is longer than %d bytes", maxName)
	case !f.pattern.MatchString(name):
		v.bad(field, "%q does not fit: %s", shorten(name), f.says)
	default:
		return true
	}
	return false
}

// optional checks a name that may be absent.
func (v *validator) optional(field, name string, f form) {
	if name != "" {
		v.name(field, name, f)
	}
}

func (v *validator) target(field, name string) {
	if v.name(field, name, nameForm) && name == directoryTarget {
		v.bad(field, "%q is served by the proxy itself", name)
	}
}

func (v *validator) checkEndpoints(endpoints []*resourcev1.Endpoint) {
	type key struct{ target, instance string }
	first := make(map[key]int)
	share := make(map[string]bool)
	for i, e := range endpoints {
		at := fmt.Sprintf("endpoints[%d]", i)
		v.resource = EndpointLabel(e.GetTarget(), e.GetInstance())
		v.endpoint(at, e)
		k := key{e.GetTarget(), e.GetInstance()}
		if j, dup := first[k]; dup {
			v.bad(at+".instance", "is the instance of endpoints[%d] too: instances are unique within a target", j)
		} else {
			first[k] = i
		}
		share[e.GetTarget()] = share[e.GetTarget()] || weighted(e)
	}
	for i, e := range endpoints {
		if !share[e.GetTarget()] {
			share[e.GetTarget()] = true // say it once
			v.resource = "target " + e.GetTarget()
			v.warn(fmt.Sprintf("endpoints[%d].weight", i), "every endpoint of the target has weight 0: none gets calls")
		}
	}
}

func (v *validator) endpoint(at string, e *resourcev1.Endpoint) {
	v.target(at+".target", e.GetTarget())
	v.name(at+".instance", e.GetInstance(), nameForm)
	if e.GetMeshAddress() == "" && e.GetDirectAddress() == "" {
		v.bad(at, "has no address: give mesh_address, direct_address or both")
	}
	v.address(at+".mesh_address", e.GetMeshAddress(), false)
	v.address(at+".direct_address", e.GetDirectAddress(), false)
	if v.host(at+".direct_server_name", e.GetDirectServerName()); e.GetDirectServerName() != "" && !ByTLS(e.GetDirectProtocol()) {
		v.bad(at+".direct_server_name", "is for PROTOCOL_GRPC_TLS, and direct_protocol is another")
	}
	if e.GetWeight() > maxWeight {
		v.bad(at+".weight", "%d is more than %d", e.GetWeight(), maxWeight)
	}
	if e.GetIdentity() != "" {
		v.pattern(at+".identity", e.GetIdentity(), identityForm)
	}
	v.optional(at+".zone", e.GetZone(), nameForm)
	if e.GetStanding() != resourcev1.Standing_STANDING_UNSPECIFIED && !v.ours {
		v.bad(at+".standing", "is the mesh's own word: leave it out")
	}
	v.tags(at+".tags", e.GetTags())
}

// address checks "host:port". Port 0 is for listening only.
func (v *validator) address(field, address string, listens bool) {
	if address == "" {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		v.bad(field, "%q is not host:port", shorten(address))
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !listens {
		v.bad(field, "%q has no port from 1 to 65535", shorten(address))
	}
	if net.ParseIP(host) == nil && !(host == "" && listens) && (len(host) > maxName || !hostForm.MatchString(host)) {
		v.bad(field, "%q has no host", shorten(address))
	}
}

func (v *validator) tags(field string, tags map[string]string) {
	if len(tags) > maxTags {
		v.bad(field, "holds more than %d tags", maxTags)
		return
	}
	for _, k := range sorted(tags) {
		at := fmt.Sprintf("%s[%q]", field, shorten(k))
		v.name(at, k, nameForm)
		if len(tags[k]) > maxName {
			v.bad(at, "is longer than %d bytes", maxName)
		}
	}
}

// duration checks that a duration is sound, not negative and within a bound.
func (v *validator) duration(field string, d *durationpb.Duration, limit time.Duration) {
	switch {
	case d == nil:
	case d.CheckValid() != nil:
		v.bad(field, "is not a duration")
	case d.AsDuration() < 0:
		v.bad(field, "%s is negative", d.AsDuration())
	case d.AsDuration() > limit:
		v.bad(field, "%s is more than %s", d.AsDuration(), strings.Replace(strings.Replace(limit.String(), "m0s", "m", 1), "h0m", "h", 1))
	}
}
