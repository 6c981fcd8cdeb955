package ratelimit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// ReadRules reads a file with an octo.resource.v1.RateLimitTable, and checks it.
func ReadRules(path string) (*Rules, error) {
	t := &resourcev1.RateLimitTable{}
	doc, err := resource.ReadFile(path, t)
	if err != nil {
		return nil, err
	}
	if err := doc.LocateError(resource.Errors(resource.ValidateRateLimits(t))); err != nil {
		return nil, err
	}
	return NewRules(t), nil
}

// Rules are a server's own limits, compiled. Nil has none.
type Rules struct {
	domains map[string]map[string][]pattern // by domain and by the keys of a descriptor
}

// pattern is rules that give values for the same entries.
type pattern struct {
	given []bool
	rules map[string]*rule // by those values
}

// rule is one limit.
type rule struct {
	limit     uint64
	per       time.Duration
	unlimited bool
	dryRun    bool
}

// NewRules compiles a valid table: see [resource.ValidateRateLimits].
func NewRules(t *resourcev1.RateLimitTable) *Rules {
	r := &Rules{domains: make(map[string]map[string][]pattern)}
	for _, d := range t.GetDomains() {
		shapes := make(map[string][]pattern)
		for _, l := range d.GetLimits() {
			add(shapes, l)
		}
		for _, patterns := range shapes {
			slices.SortFunc(patterns, func(a, b pattern) int { return moreGiven(a.given, b.given) })
		}
		r.domains[d.GetDomain()] = shapes
	}
	return r
}

func add(shapes map[string][]pattern, l *resourcev1.RateLimitRule) {
	var keys, values []string
	var given []bool
	for _, k := range l.GetEntries() {
		keys, given = append(keys, k.GetKey()), append(given, k.Value != nil)
		if k.Value != nil {
			values = append(values, k.GetValue())
		}
	}
	r := &rule{limit: uint64(l.GetCalls()), per: l.GetPer().AsDuration(), unlimited: l.GetUnlimited(), dryRun: l.GetDryRun()}
	if r.per == 0 {
		r.per = time.Second
	}
	shape := joined(keys)
	i := slices.IndexFunc(shapes[shape], func(p pattern) bool { return slices.Equal(p.given, given) })
	if i < 0 {
		i = len(shapes[shape])
		shapes[shape] = append(shapes[shape], pattern{given, make(map[string]*rule)})
	}
	shapes[shape][i].rules[joined(values)] = r
}

// moreGiven orders what gives the first value that only one of two gives before the other.
func moreGiven(a, b []bool) int {
	for i := range a {
		switch {
		case a[i] && !b[i]:
			return -1
		case b[i] && !a[i]:
			return 1
		}
	}
	return 0
}

// joined is texts as one, different for different ones.
func joined(texts []string) string {
	var b strings.Builder
	for _, t := range texts {
		fmt.Fprintf(&b, "%d:%s", len(t), t)
	}
	return b.String()
}

// of returns the rule for a descriptor; nil: there is none.
func (r *Rules) of(domain string, d *commonv3.RateLimitDescriptor) *rule {
	if r == nil {
		return nil
	}
	keys := make([]string, 0, len(d.GetEntries()))
	for _, e := range d.GetEntries() {
		keys = append(keys, e.GetKey())
	}
	for _, p := range r.domains[domain][joined(keys)] {
		values := keys[:0]
		for i, e := range d.GetEntries() {
			if p.given[i] {
				values = append(values, e.GetValue())
			}
		}
		if found := p.rules[joined(values)]; found != nil {
			return found
		}
	}
	return nil
}
