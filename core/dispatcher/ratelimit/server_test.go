package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// descriptor is one of keys and values in turn.
func descriptor(pairs ...string) *commonv3.RateLimitDescriptor {
	d := &commonv3.RateLimitDescriptor{}
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return d
}

// with gives a descriptor a limit of its own.
func with(d *commonv3.RateLimitDescriptor, n uint32, u typev3.RateLimitUnit) *commonv3.RateLimitDescriptor {
	d.Limit = &commonv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: n, Unit: u}
	return d
}

func ask(t *testing.T, s *Server, hits uint32, all ...*commonv3.RateLimitDescriptor) *rlsv3.RateLimitResponse {
	t.Helper()
	r, err := s.ShouldRateLimit(t.Context(), &rlsv3.RateLimitRequest{Domain: "edge", Descriptors: all, HitsAddend: hits})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// brief is an answer's codes, and what is left.
func brief(r *rlsv3.RateLimitResponse) string {
	s := r.OverallCode.String() + ":"
	for _, st := range r.Statuses {
		s += fmt.Sprintf(" %s", st.Code)
		if st.CurrentLimit != nil {
			s += fmt.Sprintf("(%d of %d a %s)", st.LimitRemaining, st.CurrentLimit.RequestsPerUnit, st.CurrentLimit.Unit)
		}
	}
	return s
}

func TestTheFiguresComeWithTheQuestion(t *testing.T) {
	t.Parallel()
	s := New(Config{Store: NewMemory(func() time.Time { return time.Unix(7200, 0) })})
	d := func() *commonv3.RateLimitDescriptor {
		return with(descriptor("caller", "web"), 10, typev3.RateLimitUnit_HOUR)
	}
	own := d()
	own.HitsAddend = wrapperspb.UInt64(3)
	back := d()
	back.HitsAddend, back.IsNegativeHits = wrapperspb.UInt64(2), true
	day := with(descriptor("caller", "web"), 10, typev3.RateLimitUnit_DAY)
	half := with(descriptor("caller", "web"), 4, typev3.RateLimitUnit_MINUTE)
	half.Limit.UnitMultiplier = wrapperspb.UInt32(30)
	for _, c := range []struct {
		hits uint32
		d    *commonv3.RateLimitDescriptor
		want string
	}{
		{0, d(), "OK: OK(9 of 10 a HOUR)"},
		{4, d(), "OK: OK(5 of 10 a HOUR)"},
		{9, own, "OK: OK(2 of 10 a HOUR)"},
		{3, d(), "OVER_LIMIT: OVER_LIMIT(2 of 10 a HOUR)"},
		{1, back, "OK: OK(4 of 10 a HOUR)"},
		{4, d(), "OK: OK(0 of 10 a HOUR)"},
		{1, d(), "OVER_LIMIT: OVER_LIMIT(0 of 10 a HOUR)"},
		{1, day, "OK: OK(9 of 10 a DAY)"}, // another time, another counter
		{1, half, "OK: OK(3 of 4 a UNKNOWN)"},
		{1, with(descriptor("caller", "web", "x", "y"), 1, typev3.RateLimitUnit_HOUR), "OK: OK(0 of 1 a HOUR)"},
		{1, with(descriptor("caller", "w", "eb", ""), 1, typev3.RateLimitUnit_HOUR), "OK: OK(0 of 1 a HOUR)"},
		{1, descriptor("caller", "web"), "OK: OK"}, // nobody limits it
	} {
		if got := brief(ask(t, s, c.hits, c.d)); got != c.want {
			t.Errorf("%d hits of %v: %s, want %s", c.hits, c.d, got, c.want)
		}
	}
	if r := ask(t, s, 1, d()); r.Statuses[0].DurationUntilReset.AsDuration() < time.Hour {
		t.Errorf("a full counter takes again in %v", r.Statuses[0].DurationUntilReset.AsDuration())
	}
	if got := s.Stats(); got != (Stats{Questions: 13, Granted: 9, Over: 3, Unlimited: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func TestTheServersOwnLimits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "limits.yaml")
	if err := os.WriteFile(path, []byte(`
domains:
- domain: edge
  limits:
  - {name: each-user, entries: [{key: user}], calls: 2, per: 3600s}
  - {name: boss, entries: [{key: user, value: boss}], unlimited: true}
  - {name: anonymous, entries: [{key: user, value: ""}], calls: 1, per: 3600s}
  - {name: path-user, entries: [{key: path}, {key: user}], calls: 3, per: 3600s}
  - {name: login, entries: [{key: path, value: /login}, {key: user}], calls: 1, per: 60s}
  - {name: guest, entries: [{key: path}, {key: user, value: guest}], calls: 7, per: 86400s}
  - {name: soon, entries: [{key: soon}], calls: 1, per: 3600s, dry_run: true}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := ReadRules(path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: NewMemory(func() time.Time { return time.Unix(86400*3, 0) }), Rules: rules})
	for _, c := range []struct {
		d    []*commonv3.RateLimitDescriptor
		want string
	}{
		{[]*commonv3.RateLimitDescriptor{descriptor("user", "a"), descriptor("user", "b"), descriptor("user", "a"), descriptor("user", "a")},
			"OVER_LIMIT: OK(1 of 2 a HOUR) OK(1 of 2 a HOUR) OK(0 of 2 a HOUR) OVER_LIMIT(0 of 2 a HOUR)"},
		{[]*commonv3.RateLimitDescriptor{descriptor("user", "boss"), descriptor("user", ""), descriptor("other", "a")}, "OK: OK OK(0 of 1 a HOUR) OK"},
		{[]*commonv3.RateLimitDescriptor{descriptor("path", "/x", "user", "a"), descriptor("path", "/login", "user", "a"),
			descriptor("path", "/login", "user", "guest"), descriptor("path", "/x", "user", "guest"), descriptor("user", "a", "path", "/x")},
			"OK: OK(2 of 3 a HOUR) OK(0 of 1 a MINUTE) OK(0 of 1 a MINUTE) OK(6 of 7 a DAY) OK"},
		{[]*commonv3.RateLimitDescriptor{descriptor("soon", "x"), descriptor("soon", "x")}, "OK: OK(0 of 1 a HOUR) OK(0 of 1 a HOUR)"},
		{[]*commonv3.RateLimitDescriptor{with(descriptor("user", "boss"), 5, typev3.RateLimitUnit_SECOND)}, "OK: OK(4 of 5 a SECOND)"},
	} {
		if got := brief(ask(t, s, 1, c.d...)); got != c.want {
			t.Errorf("%v: %s, want %s", c.d, got, c.want)
		}
	}
	if n := s.Stats().WouldBeOver; n != 1 {
		t.Errorf("%d would be over", n)
	}
	s.SetRules(nil)
	if got := brief(ask(t, s, 1, descriptor("user", "a"))); got != "OK: OK" {
		t.Errorf("without rules: %s", got)
	}
	if err := os.WriteFile(path, []byte("domains:\n- {domain: edge, limits: [{name: x, entries: [{key: a}]}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRules(path); err == nil || !strings.Contains(err.Error(), "limits.yaml:2: domains[0].limits[0].calls") {
		t.Errorf("a rule without calls: %v", err)
	}
}

func TestQuestionsThatAskNothingOrTooMuchAreRefused(t *testing.T) {
	t.Parallel()
	s := New(Config{Store: NewMemory(nil)})
	many := make([]*commonv3.RateLimitDescriptor, 1001)
	for i := range many {
		many[i] = descriptor("k", "v")
	}
	hits := descriptor("k", "v")
	hits.HitsAddend = wrapperspb.UInt64(1e9 + 1)
	for name, r := range map[string]*rlsv3.RateLimitRequest{
		"no domain":      {Descriptors: many[:1]},
		"a long domain":  {Domain: strings.Repeat("x", 5000), Descriptors: many[:1]},
		"no descriptor":  {Domain: "d"},
		"many":           {Domain: "d", Descriptors: many},
		"no entry":       {Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{{}}},
		"no key":         {Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{descriptor("", "v")}},
		"a long value":   {Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{descriptor("k", strings.Repeat("x", 5000))}},
		"many hits":      {Domain: "d", Descriptors: many[:1], HitsAddend: 1e9 + 1},
		"many own hits":  {Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{hits}},
		"an unknown per": {Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{with(descriptor("k", "v"), 1, 0)}},
	} {
		if _, err := s.ShouldRateLimit(t.Context(), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// broken is a store that does not answer.
type broken struct{ Store }

func (broken) Take(ctx context.Context, _ []Hit) ([]Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		panic("there is no deadline")
	}
	return nil, errors.New("it is gone")
}

func TestAStoreThatIsDownIsNoAnswer(t *testing.T) {
	t.Parallel()
	s := New(Config{Store: broken{}})
	r := &rlsv3.RateLimitRequest{Domain: "d", Descriptors: []*commonv3.RateLimitDescriptor{with(descriptor("k", "v"), 1, typev3.RateLimitUnit_DAY)}}
	if _, err := s.ShouldRateLimit(t.Context(), r); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "it is gone") {
		t.Errorf("%v", err)
	}
	if n := s.Stats(); n.Failed != 1 || n.Questions != 0 {
		t.Errorf("counted %+v", n)
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := s.ShouldRateLimit(late, r); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4000)
	a, b := key(long, descriptor("k", long), time.Second), key("d", descriptor("k", "v"), time.Second)
	if len(a) != len(b) || len(a) > 64 || a == b {
		t.Errorf("keys %q and %q", a, b)
	}
}
