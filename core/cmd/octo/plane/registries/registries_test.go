package registries_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/etcd"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"), // idle connections of http.DefaultTransport
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func parse(t *testing.T, texts ...string) (all []registries.Spec) {
	t.Helper()
	for _, text := range texts {
		s, err := registries.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func open(t *testing.T, specs []registries.Spec) *registries.Set {
	t.Helper()
	own, err := etcd.New(etcd.Config{Endpoints: []string{"unix:///nowhere"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := registries.Open(specs, own, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestTheFirstRegistryThatFitsHasATarget(t *testing.T) {
	s := open(t, parse(t, "prod/legacy.*=etcd://127.0.0.1:1,127.0.0.2:1/old", "prod/mail=http://127.0.0.1:1/r?every=1s", "prod=static:/nowhere.yaml",
		"*/shared=etcd://127.0.0.1:1"))
	for key, want := range map[source.Key]int{
		{Environment: "prod", Target: "legacy.cart"}: 0, {Environment: "prod", Target: "mail"}: 1, {Environment: "prod", Target: "mailer"}: 2,
		{Environment: "prod", Target: "shared"}: 2, {Environment: "test", Target: "shared"}: 3, {Environment: "test", Target: "cart"}: 4,
		{Environment: "test", Target: "legacy.cart"}: 4,
	} {
		if got := s.Pick(key); got != want {
			t.Errorf("%v is in %d, want %d", key, got, want)
		}
	}
	if len(s.Registries) != 5 {
		t.Error(len(s.Registries))
	}
}

func TestWhatTheyHaveIsToldByTheHub(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prod.yaml")
	if err := os.WriteFile(file, []byte("environment: prod\nendpoints:\n- {target: cart, instance: cart-1, mesh_address: \"10.0.0.1:7000\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"endpoints": [{"target": "mail", "instance": "at%s", "meshAddress": "10.0.0.2:7000"}]}`, strings.ReplaceAll(r.URL.Path, "/", "-"))
	}))
	t.Cleanup(web.Close)
	s := open(t, parse(t, "test/mail="+web.URL+"/names?every=1s", "prod=static:"+file))
	h, err := hub.New(hub.Config{Registries: s.Registries, Pick: s.Pick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	sub := h.Subscribe()
	defer sub.Close()
	for key, want := range map[source.Key]string{{Environment: "prod", Target: "cart"}: "cart-1", {Environment: "test", Target: "mail"}: "at-names-test-mail"} {
		if err := sub.Follow(key); err != nil {
			t.Fatal(err)
		}
		u, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if changed, _ := u.Diff(); u.Key != key || len(changed) != 1 || changed[0].Instance != want {
			t.Errorf("%v: %v", u.Key, changed)
		}
	}
}

func TestABadRegistryIsToldWithWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"prod": "want WHERE=URL", "=static:/x": "environment", "Prod=static:/x": "lower-case", "prod/ä=etcd://x": "target", "prod=": "no kind of registry",
		"prod=consul://x": "no kind of registry", "*=static:/x": "one environment", "prod/a=static:/x": "one environment", "prod=static:": "no file",
		"prod=etcd:///x": "no host", "prod=etcd://u:hunter2@x:1": "does not belong on a command line",
	} {
		if _, err := registries.Parse(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v; want it to say %q", text, err, want)
		}
	}
	weak := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(weak, []byte("changeme\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"prod=etcd://x:1?colour=red": "no option", "prod=etcd://x:1?user=a": "go together", "prod=http://x?every=soon": "at least 100ms",
		"prod=etcd://x:1?user=a&password-file=" + weak: "everybody would try first", "prod=etcd://x:1?authorities=/nowhere": "authorities",
		"prod=zookeeper://x:1?certificate=c&key=k": "without TLS", "prod=http://x?user=a&password-file=/nowhere": "nowhere",
		"prod=etcd://x:1/%20": "prefix",
	} {
		own, err := etcd.New(etcd.Config{Endpoints: []string{"unix:///nowhere"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := registries.Open(parse(t, text), own, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want it to say %q", text, err, want)
		}
	}
}
