package resource_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// TestGuideToPoliciesShowsFilesThatWork loads each example of docs/guides/policies.md alone, and all of them as one file.
func TestGuideToPoliciesShowsFilesThatWork(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := &resourcev1.Snapshot{}
	blocks := strings.Split(string(guide), "```yaml\n")[1:]
	for i, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		s := &resourcev1.Snapshot{}
		doc, err := resource.Parse(fmt.Sprintf("example %d", i+1), []byte(text), s)
		if err != nil {
			t.Fatal(err)
		}
		problems := resource.Validate(s, "test")
		doc.Locate(problems)
		for _, p := range problems { // warnings too
			t.Error(p)
		}
		for _, p := range s.GetPolicies() {
			for _, other := range all.GetPolicies() {
				if p.GetTarget() == other.GetTarget() {
					t.Errorf("two examples are for target %s", p.GetTarget())
				}
			}
		}
		proto.Merge(all, s)
	}
	if len(blocks) < 8 {
		t.Errorf("%d examples: some are not found", len(blocks))
	}
	for _, p := range resource.Validate(all, "test") {
		t.Error(p)
	}
	for field, there := range examples(all) {
		if !there {
			t.Errorf("no example shows %s", field)
		}
	}
}

// examples tells of each kind of policy whether a snapshot holds one.
func examples(s *resourcev1.Snapshot) map[string]bool {
	got := map[string]bool{"auth_policies": len(s.GetAuthPolicies()) > 0, "backup": false, "lane": false, "mirror": false, "global": false, "dry_run": false}
	for _, e := range s.GetEndpoints() {
		got["backup"] = got["backup"] || e.GetBackup()
		got["lane"] = got["lane"] || e.GetTags()["lane"] != ""
	}
	for _, p := range s.GetPolicies() {
		for _, l := range p.GetRateLimits() {
			got["global"] = got["global"] || l.GetGlobal() != nil
			got["dry_run"] = got["dry_run"] || l.GetDryRun()
		}
		for field, there := range map[string]bool{
			"balancing": p.GetBalancing() != nil, "outlier_ejection": p.GetOutlierEjection() != nil, "slow_start": p.GetBalancing().GetSlowStart() != nil,
			"rate_limits": len(p.GetRateLimits()) > 0, "circuit_breaker": p.GetCircuitBreaker() != nil, "faults": len(p.GetFaults()) > 0,
			"retries": p.GetRetries() != nil, "retry_budget": p.GetRetryBudget() != nil, "identities": len(p.GetIdentities()) > 0,
		} {
			got[field] = got[field] || there
		}
		for _, r := range p.GetRoutes() {
			got["mirror"] = got["mirror"] || r.GetMirror() != nil
		}
	}
	return got
}
