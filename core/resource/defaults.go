package resource

import resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

// policyDefaults are what holds where a ServicePolicy says nothing, as resource.proto documents it. Those of a section
// count only if the section is there, but for those of the sections that a policy always has.
var policyDefaults = []struct{ section, field, value string }{
	{"", "default_timeout", "none"},
	{"", "max_timeout", "none"},
	{"", "limits.max_open_calls", "65536"},
	{"", "limits.max_parked_calls", "1024"},
	{"", "limits.max_park", "5s"},
	{"", "balancing.balancer", "BALANCER_POWER_OF_TWO"},
	{"", "retries.max_attempts", "2"},
	{"", "retries.backoff", "25ms"},
	{"", "retry_budget.success_permille", "100"},
	{"", "retry_budget.min_per_second", "10"},
	{"", "retry_budget.burst", "100"},
	{"", "outlier_ejection", "none"},
	{"outlier_ejection", "outlier_ejection.consecutive_failures", "5"},
	{"outlier_ejection", "outlier_ejection.min_calls", "20"},
	{"outlier_ejection", "outlier_ejection.window", "10s"},
	{"outlier_ejection", "outlier_ejection.ejection_time", "10s"},
	{"outlier_ejection", "outlier_ejection.max_ejected_percent", "50"},
	{"", "circuit_breaker", "none"},
	{"circuit_breaker", "circuit_breaker.window", "10s"},
	{"circuit_breaker", "circuit_breaker.min_calls", "20"},
	{"circuit_breaker", "circuit_breaker.failure_permille", "500"},
	{"circuit_breaker", "circuit_breaker.open_time", "5s"},
	{"circuit_breaker", "circuit_breaker.probes", "3"},
}

// Defaults are the values that hold where a policy says nothing, of the fields that people ask for; nil: no policy.
// "none" is a section or bound that is not there.
func Defaults(p *resourcev1.ServicePolicy) []Field {
	set := make(map[string]bool)
	for _, f := range Fields(p) {
		for i, r := range f.Path { // the field, and all that it stands in
			if r == '.' || r == '[' {
				set[f.Path[:i]] = true
			}
		}
		set[f.Path] = true
	}
	var out []Field
	for _, d := range policyDefaults {
		if !set[d.field] && (d.section == "" || set[d.section]) {
			out = append(out, Field{d.field, d.value})
		}
	}
	return out
}
