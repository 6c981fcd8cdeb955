package resource_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests find into their golden files")

// TestErrorsNameFileLineAndField reads each testdata/*.yaml and compares what is wrong with it with the
// .golden file beside it.
func TestErrorsNameFileLineAndField(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := judge(t, file)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// judge returns a line for each problem of a snapshot, or of a bootstrap.
func judge(t *testing.T, file string) string {
	t.Helper()
	var problems []resource.Problem
	if strings.Contains(file, "bootstrap") {
		b, program := &resourcev1.Bootstrap{}, resource.Sidecar
		if strings.Contains(file, "gateway") {
			program = resource.Gateway
		}
		doc, err := resource.ReadFile(file, b)
		if err == nil {
			err = doc.LocateError(resource.CompleteBootstrap(b, program, noEnv))
		}
		problems = of(t, err)
	} else if strings.Contains(file, "ratelimits") {
		table := &resourcev1.RateLimitTable{}
		doc, err := resource.ReadFile(file, table)
		if problems = of(t, err); err == nil {
			problems = resource.ValidateRateLimits(table)
			doc.Locate(problems)
		}
	} else {
		s := &resourcev1.Snapshot{}
		doc, err := resource.ReadFile(file, s)
		if problems = of(t, err); err == nil {
			problems = resource.Validate(s, "prod")
			doc.Locate(problems)
		}
	}
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func of(t *testing.T, err error) []resource.Problem {
	t.Helper()
	var e *resource.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e == nil {
		return nil
	}
	return e.Problems
}

func noEnv(string) string { return "" }

func TestAllFieldsAreRead(t *testing.T) {
	s := &resourcev1.Snapshot{}
	_, err := resource.Parse("f", []byte(`
environment: prod
endpoints:
- target: cart
  instance: a
  incarnation: 18446744073709551615
  meshAddress: "10.0.0.1:80"   # JSON's spelling
  direct_address: "[::1]:81"
  weight: 0
  zone: z
  tags: {version: "1"}
  disabled: true
policies:
- target: cart
  default_timeout: 1.5s
  max_timeout: 2m
  limits: {max_open_calls: 5, max_parked_calls: 6, max_park: 250ms}
  routes:
  - name: r
    match: {service: s.S, method: M, caller: c, metadata: [{key: k, exact: ""}], baggage: [{key: b, present: false}]}
    destinations: [{target: t, subset: {a: b}, weight: 4294967295}]
    timeout: 3s
`), s)
	if err != nil {
		t.Fatal(err)
	}
	e, p := s.Endpoints[0], s.Policies[0]
	r := p.Routes[0]
	if s.Environment != "prod" || e.Incarnation != 1<<64-1 || e.MeshAddress != "10.0.0.1:80" || e.Weight == nil || *e.Weight != 0 ||
		e.Tags["version"] != "1" || !e.Disabled || e.DirectAddress != "[::1]:81" || e.Zone != "z" {
		t.Errorf("endpoint %v", e)
	}
	if p.DefaultTimeout.AsDuration() != 1500*time.Millisecond || p.MaxTimeout.AsDuration() != 2*time.Minute ||
		p.Limits.MaxPark.AsDuration() != 250*time.Millisecond || p.Limits.MaxOpenCalls != 5 || p.Limits.MaxParkedCalls != 6 {
		t.Errorf("policy %v", p)
	}
	if _, exact := r.Match.Metadata[0].Value.(*resourcev1.EntryMatch_Exact); !exact {
		t.Error("an empty exact value is a value")
	}
	if r.Match.Caller != "c" || r.Destinations[0].GetWeight() != 1<<32-1 || r.Destinations[0].Subset["a"] != "b" || r.Timeout.AsDuration() != 3*time.Second {
		t.Errorf("route %v", r)
	}
}

func TestHashIsOfEveryField(t *testing.T) {
	empty := resource.Hash(&resourcev1.Snapshot{})
	fields := (&resourcev1.Snapshot{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		s := (&resourcev1.Snapshot{}).ProtoReflect()
		if f := fields.Get(i); f.IsList() {
			list := s.Mutable(f).List()
			list.Append(list.NewElement())
		} else {
			s.Set(f, protoreflect.ValueOfString("x"))
		}
		if resource.Hash(s.Interface().(*resourcev1.Snapshot)) == empty {
			t.Errorf("the hash does not show %s", fields.Get(i).Name())
		}
	}
}

func TestHashIsOfTheContent(t *testing.T) {
	a := &resourcev1.Endpoint{Target: "t", Instance: "a", MeshAddress: "h:1", Tags: map[string]string{"x": "1", "y": "2", "z": "3"}}
	b := &resourcev1.Endpoint{Target: "t", Instance: "b", MeshAddress: "h:2"}
	p := &resourcev1.ServicePolicy{Target: "t"}
	base := resource.Hash(&resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{a, b}, Policies: []*resourcev1.ServicePolicy{p}})
	if len(base) != 32 {
		t.Errorf("hash %q", base)
	}
	if got := resource.Hash(&resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{b, proto.CloneOf(a)}, Policies: []*resourcev1.ServicePolicy{p}}); got != base {
		t.Error("the order of resources must not matter")
	}
	for name, s := range map[string]*resourcev1.Snapshot{
		"environment": {Environment: "prod", Endpoints: []*resourcev1.Endpoint{a, b}, Policies: []*resourcev1.ServicePolicy{p}},
		"one less":    {Endpoints: []*resourcev1.Endpoint{a}, Policies: []*resourcev1.ServicePolicy{p}},
		"weight 0":    {Endpoints: []*resourcev1.Endpoint{a, {Target: "t", Instance: "b", MeshAddress: "h:2", Weight: new(uint32)}}, Policies: []*resourcev1.ServicePolicy{p}},
		"routes": {Endpoints: []*resourcev1.Endpoint{a, b}, Policies: []*resourcev1.ServicePolicy{{Target: "t", Routes: []*resourcev1.Route{
			{Name: "r"}}}}},
	} {
		if resource.Hash(s) == base {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}

func TestFilesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(resource.MaxFile + 1); err != nil { // sparse
		t.Fatal(err)
	}
	if _, err := resource.ReadFile(path, &resourcev1.Snapshot{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &resourcev1.Snapshot{}
		doc, err := resource.Parse("f", data, s)
		if err != nil {
			return
		}
		problems := resource.Validate(s, "prod")
		doc.Locate(problems)
		resource.Hash(s)
	})
}
