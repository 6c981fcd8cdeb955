package plane_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/dispatcher/ratelimit/redistest"
)

// granted counts how many of n questions, put to addresses in turn, are within a limit of 10 a day, and of those about a user within
// the service's own.
func granted(t *testing.T, n int, addresses ...string) (own, users int) {
	t.Helper()
	for i := range n {
		c := rlsv3.NewRateLimitServiceClient(dial(t, addresses[i%len(addresses)]))
		r, err := c.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: []*commonv3.RateLimitDescriptor{
			{Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: "k", Value: "v"}},
				Limit: &commonv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 10, Unit: typev3.RateLimitUnit_DAY}},
			{Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: "user", Value: "u"}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Statuses[0].Code == rlsv3.RateLimitResponse_OK {
			own++
		}
		if r.Statuses[1].Code == rlsv3.RateLimitResponse_OK {
			users++
		}
	}
	return own, users
}

func TestTheDispatcherCountsRateLimits(t *testing.T) {
	t.Parallel()
	dir := short(t)
	file := filepath.Join(dir, "limits.yaml")
	if err := os.WriteFile(file, []byte("domains: [{domain: edge, limits: [{name: user, entries: [{key: user}], calls: 3, per: 86400s}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(t)
	var addresses []string
	for _, name := range []string{"a", "b"} { // two that have nothing in common but Redis
		p, _ := start(t, plane.Config{
			Roles: []string{plane.RoleDispatcher}, Store: plane.Store{Data: filepath.Join(dir, name)}, Log: quiet, Metrics: "127.0.0.1:0",
			RateLimits: plane.RateLimits{Redis: redis.Address(), File: file},
		})
		addresses = append(addresses, p.Address())
		defer func() {
			if text := get(t, "http://"+p.MetricsAddress()+"/metrics", http.StatusOK); !strings.Contains(text, "octo_ratelimit_questions_total 10") {
				t.Errorf("metrics of %s:\n%s", name, text)
			}
		}()
	}
	if own, users := granted(t, 20, addresses...); own != 10 || users != 3 {
		t.Errorf("%d and %d of 20 were granted, want 10 and 3", own, users)
	}
}

func TestOneProcessCountsRateLimitsInMemory(t *testing.T) {
	t.Parallel()
	p, _ := start(t, plane.Config{Roles: []string{plane.RoleDispatcher}, Store: plane.Store{Data: short(t)}, Log: quiet})
	if own, users := granted(t, 12, p.Address()); own != 10 || users != 12 {
		t.Errorf("%d and %d of 12 were granted, want 10 and 12", own, users)
	}
}

func TestMistakesAboutRateLimitsAreSaid(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]plane.RateLimits{
		"--redis-user and --redis-authorities are for --redis": {User: "u"},
		"--rate-limits: open /nowhere":                         {File: "/nowhere"},
		"--redis-authorities: open /nowhere":                   {Redis: "h:1", Authorities: "/nowhere"},
	} {
		p, err := plane.Start(t.Context(), plane.Config{
			Roles: []string{plane.RoleDispatcher}, Store: plane.Store{Data: short(t)}, Log: quiet, Listen: "127.0.0.1:0", Unsafe: true, RateLimits: l,
		})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
