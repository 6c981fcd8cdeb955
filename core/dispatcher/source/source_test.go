package source_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestPathsTellTheirNames(t *testing.T) {
	l := source.Layout{Prefix: "/octo/registry"}
	seen := make(map[string]source.Key)
	for _, key := range []source.Key{
		{"test", "cart"}, {"test", "cart/v2"}, {"test", "cart//"}, {"prod", "cart"}, {"prod", "com.a:1@x-y_z"},
	} {
		for _, instance := range []string{"10.0.0.1:80", "a/b", "a"} {
			path := l.Instance(key, instance)
			if strings.Count(path, "/") != 5 || !strings.HasPrefix(path, l.Target(key)+"/") {
				t.Errorf("%v %s is at %s", key, instance, path)
			}
			if other, dup := seen[path]; dup {
				t.Errorf("%v and %v share %s", key, other, path)
			}
			seen[path] = key
			if k, i, err := l.Parse(path); k != key || i != instance || err != nil {
				t.Errorf("%s is read as %v %q, %v", path, k, i, err)
			}
		}
		if k, i, err := l.Parse(l.Target(key)); k != key || i != "" || err != nil {
			t.Errorf("%s is read as %v %q, %v", l.Target(key), k, i, err)
		}
	}
	for _, path := range []string{
		"", "/octo/registry", "/octo/registry/test", "/octo/registryx/test/cart", "/octo/registry/test/cart/a/b", "/octo/registry//cart/a",
		"/octo/registry/test/c%2", "/octo/registry/test/c%2f", "/octo/registry/test/c%41", "/octo/registry/test/c rt", "/octo/registry/test/%C3%A4",
		"/octo/registry/test/cart/", "/octo/registry/TEST/cart/a", "/octo/registry/test/cart/%2Fa",
	} {
		if k, i, err := l.Parse(path); err == nil {
			t.Errorf("%q is read as %v %q", path, k, i)
		}
	}
}

func TestPrefixesAreChecked(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "/octo": true, "/octo/registry-2": true, "octo": false, "/": false, "/octo/": false, "//octo": false, "/a/../b": false, "/a b": false,
	} {
		if err := (source.Layout{Prefix: prefix}).Check(); (err == nil) != ok {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}

func FuzzSegmentsTellTheirNames(f *testing.F) {
	for _, s := range []string{"a", "a/b", "%2F", "%", "%zz", "ä", "", "~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := source.Escape(s)
		if back, err := source.Unescape(escaped); back != s || err != nil {
			t.Errorf("%q became %q and that %q, %v", s, escaped, back, err)
		}
		if strings.ContainsAny(escaped, "/~") {
			t.Errorf("%q leaves its segment: %q", s, escaped)
		}
		if name, err := source.Unescape(s); err == nil && source.Escape(name) != s {
			t.Errorf("%q and %q are both %q", s, source.Escape(name), name)
		}
	})
}

func TestValuesAreReadAsTheyWereWritten(t *testing.T) {
	key := source.Key{Environment: "test", Target: "cart"}
	e := &resourcev1.Endpoint{Target: "cart", Instance: "a", Incarnation: 1 << 60, MeshAddress: "10.0.0.1:80", Weight: proto.Uint32(0), Tags: map[string]string{"k": "v"}}
	b, err := source.Encode(key, e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source.Decode(key, "a", b); err != nil || !proto.Equal(got, e) {
		t.Errorf("%s is read as %v, %v", b, got, err)
	}
	short := `{"directAddress": "10.0.0.1:80", "inventedLater": {"x": 1}}`
	if got, err := source.Decode(key, "a", []byte(short)); err != nil || got.GetTarget() != "cart" || got.GetInstance() != "a" {
		t.Errorf("%s is read as %v, %v", short, got, err)
	}
	for _, bad := range []string{
		"", "null", "[]", "{", `{}`, `{"meshAddress": "nowhere"}`, `{"meshAddress": "a:1", "instance": "b"}`, `{"meshAddress": "a:1", "target": "other"}`,
		`{"meshAddress": "a:1", "weight": -1}`, `{"meshAddress": "a:1"}` + strings.Repeat(" ", source.MaxValue),
	} {
		if got, err := source.Decode(key, "a", []byte(bad)); source.KindOf(err) != source.Invalid {
			t.Errorf("%.40q is read as %v, %v", bad, got, err)
		}
	}
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	inner := errors.New("connection refused")
	err := error(&source.Error{Kind: source.Unavailable, Source: "etcd", Op: "watch", Key: source.Key{Environment: "test", Target: "cart"}, Err: inner})
	if got, want := err.Error(), "etcd watch test/cart: unavailable: connection refused"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if !errors.Is(err, inner) || source.KindOf(inner) != source.Unavailable {
		t.Error("what is behind it cannot be told")
	}
}

func TestDiffLeadsFromOneSetToTheOther(t *testing.T) {
	at := func(address string) *resourcev1.Endpoint { return &resourcev1.Endpoint{MeshAddress: address} }
	before := map[string]*resourcev1.Endpoint{"same": at("a:1"), "moved": at("a:1"), "gone": at("a:1")}
	now := map[string]*resourcev1.Endpoint{"same": at("a:1"), "moved": at("a:2"), "new": at("a:3")}
	e, ok := source.Diff(before, now)
	if !ok || e.Kind != source.Change || len(e.Endpoints) != 2 || len(e.Removed) != 1 || e.Removed[0] != (source.Removal{Instance: "gone"}) {
		t.Errorf("the difference is %+v, %v", e, ok)
	}
	if e, ok := source.Diff(now, now); ok {
		t.Errorf("equal sets differ by %+v", e)
	}
}
