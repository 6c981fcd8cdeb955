package resource_test

import (
	"strings"
	"testing"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

func TestDefaultsAreOfFieldsThatAreThere(t *testing.T) {
	p := &resourcev1.ServicePolicy{OutlierEjection: &resourcev1.OutlierEjection{}, CircuitBreaker: &resourcev1.CircuitBreaker{}}
	defaults := resource.Defaults(p)
	if len(defaults) < 20 {
		t.Fatalf("only %d", len(defaults))
	}
	for _, d := range defaults {
		m := p.ProtoReflect().Descriptor()
		for _, part := range strings.Split(d.Path, ".") {
			f := m.Fields().ByTextName(part)
			if f == nil {
				t.Fatalf("%s: %s has no field %s", d.Path, m.Name(), part)
			}
			m = f.Message()
		}
	}
}

func TestADefaultGivesWayToWhatIsSaid(t *testing.T) {
	has := func(p *resourcev1.ServicePolicy, path string) bool {
		for _, d := range resource.Defaults(p) {
			if d.Path == path {
				return true
			}
		}
		return false
	}
	p := &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 7}, CircuitBreaker: &resourcev1.CircuitBreaker{Probes: 1}}
	for path, want := range map[string]bool{
		"limits.max_open_calls": false, "limits.max_park": true, "circuit_breaker": false, "circuit_breaker.probes": false,
		"circuit_breaker.window": true, "outlier_ejection": true, "outlier_ejection.window": false,
	} {
		if has(p, path) != want {
			t.Errorf("default of %s: %v, want %v", path, !want, want)
		}
	}
	if !has(nil, "retries.max_attempts") {
		t.Error("without a policy there are no defaults")
	}
}
