package proxyd

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// startPilot serves a target with one instance, on an address.
func startPilot(t *testing.T) (address string, stop func()) {
	t.Helper()
	cache := snapshot.NewCache()
	loadEmpty(cache, "stock")
	topic := resource.Topic{Kind: resource.KindEndpoint, Environment: "test", Target: "stock"}
	r, err := snapshot.New(topic, "s1", &resourcev1.Endpoint{MeshAddress: "127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	cache.Set(topic, "s1", snapshot.Entry{Stable: r})
	return servePilot(t, cache)
}

// loadEmpty has a Pilot know that there is nothing about a target.
func loadEmpty(cache *snapshot.Cache, target string) {
	for _, k := range []resource.Kind{resource.KindEndpoint, resource.KindServicePolicy, resource.KindAuthPolicy, resource.KindMeshSwitch} {
		cache.Load(resource.Topic{Kind: k, Environment: "test", Target: target}, nil)
	}
}

// servePilot has a Pilot tell what is in a cache.
func servePilot(t *testing.T, cache *snapshot.Cache) (address string, stop func()) {
	t.Helper()
	g := grpc.NewServer(push.ServerOptions()...)
	push.New(push.Config{Cache: cache, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}).Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return l.Addr().String(), g.Stop
}

func TestAProxyFollowsThePilotAndStartsWithoutIt(t *testing.T) {
	t.Parallel()
	pilot, stop := startPilot(t)
	dir := t.TempDir()
	more := fmt.Sprintf("control: {pilots: [%q], directory: state, targets: [stock]}\n", pilot)
	knows := func(p *process) func() bool {
		return func() bool {
			code, body := p.get("/endpoints")
			return code == http.StatusOK && strings.Contains(body, `"s1"`)
		}
	}
	p := launchIn(t, dir, "", more)
	await(t, "the Pilot's endpoint", knows(p))
	p.stop(t)
	stop()
	if files, err := filepath.Glob(filepath.Join(dir, "state", "config-*")); err != nil || len(files) == 0 {
		t.Fatal("nothing is on the disk", err)
	}
	again := launchIn(t, dir, "", more)
	await(t, "the endpoint that was kept", knows(again))
}

func TestWhereResourcesComeFromIsSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "resources_file: is missing, and so is control",
		"resources_file: r.yaml\ncontrol: {pilots: [\"h:1\"]}\n": "p.yaml:1: resources_file: stands beside control",
		"control: {targets: [a]}\n":                              "control.pilots: is missing",
		"control: {pilots: [h]}\n":                               `p.yaml:1: control.pilots[0]: "h" is not host:port`,
	} {
		path := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(path, []byte(text+"outbound_socket: o.sock\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := resource.ReadBootstrap(path, resource.Sidecar, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
