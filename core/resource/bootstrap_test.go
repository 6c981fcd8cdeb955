package resource_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func bootstrap(t *testing.T, text string, env map[string]string) (*resourcev1.Bootstrap, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := resource.ReadBootstrap(path, resource.Sidecar, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return b, dir
}

func TestBootstrapHasDefaults(t *testing.T) {
	b, dir := bootstrap(t, "resources_file: r.yaml\n", map[string]string{"OCTO_SOCKET": "/run/octo/octo.sock", "OCTO_ADVERTISE_ADDRESS": "10.1.2.3:7700"})
	l := b.Limits
	if b.AdvertiseAddress != "10.1.2.3:7700" {
		t.Errorf("it is reached at %q", b.AdvertiseAddress)
	}
	if b.Environment != "test" || b.OutboundSocket != "/run/octo/octo.sock" || b.ResourcesFile != filepath.Join(dir, "r.yaml") ||
		b.AdminSocket != "" || b.InboundAddress != "" || b.DrainDeadline.AsDuration() != 30*time.Second || b.Instance == "" ||
		l.MaxStreams != 1024 || l.StreamWindow != 256<<10 || l.MaxFrameBody != 64<<10 || l.MaxQueuedBytes != 16<<20 {
		t.Errorf("bootstrap %v", b)
	}
}

func TestBootstrapFileGoesBeforeTheEnvironment(t *testing.T) {
	b, dir := bootstrap(t, `
environment: stage
outbound_socket: octo.sock
admin_socket: /abs/admin.sock
resources_file: ../r.yaml
inbound_address: ":0"
limits: {max_frame_body: 1048576}
`, map[string]string{"OCTO_SOCKET": "/other", "OCTO_ENVIRONMENT": "prod"})
	if b.Environment != "stage" || b.OutboundSocket != filepath.Join(dir, "octo.sock") || b.AdminSocket != "/abs/admin.sock" ||
		b.ResourcesFile != filepath.Join(filepath.Dir(dir), "r.yaml") {
		t.Errorf("bootstrap %v", b)
	}
	if b.Limits.StreamWindow != 2*(1<<20+64) {
		t.Errorf("a window of %d does not go with frames of %d", b.Limits.StreamWindow, b.Limits.MaxFrameBody)
	}
}

func TestMissingBootstrapFile(t *testing.T) {
	if _, err := resource.ReadBootstrap("/nowhere/proxy.yaml", resource.Sidecar, noEnv); err == nil || !strings.Contains(err.Error(), "/nowhere/proxy.yaml") {
		t.Errorf("error %v", err)
	}
}

func TestSocketUsers(t *testing.T) {
	listed := &resourcev1.Bootstrap{SocketUsers: []*resourcev1.SocketUser{
		{Uid: 7, Applications: []string{"cart", "web"}}, {Uid: 8}, {Uid: 7, Applications: []string{"late"}},
	}}
	for _, c := range []struct {
		b           *resourcev1.Bootstrap
		uid         uint32
		application string
		want        bool
	}{
		{&resourcev1.Bootstrap{}, 1000, "any", true},
		{&resourcev1.Bootstrap{}, 0, "any", true},
		{&resourcev1.Bootstrap{}, 1001, "any", false},
		{listed, 7, "web", true}, {listed, 7, "late", true}, {listed, 7, "other", false},
		{listed, 8, "other", true}, {listed, 0, "web", false}, {listed, 1000, "web", false},
	} {
		if got := resource.MayConnect(c.b, 1000, c.uid, c.application); got != c.want {
			t.Errorf("uid %d as %s with %d users listed: %v", c.uid, c.application, len(c.b.SocketUsers), got)
		}
	}
}
