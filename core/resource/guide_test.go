package resource_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// TestGuideToTheProxyShowsFilesThatWork reads the YAML of docs/guides/proxy.md as a proxy would.
func TestGuideToTheProxyShowsFilesThatWork(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(guide), "```yaml\n")[1:]
	if len(blocks) != 6 {
		t.Fatalf("%d blocks of YAML, want 6", len(blocks))
	}
	for i := range blocks {
		blocks[i], _, _ = strings.Cut(blocks[i], "```")
	}
	dir := t.TempDir()
	bootstrap := filepath.Join(dir, "proxy.yaml")
	if err := os.WriteFile(bootstrap, []byte(blocks[0]+blocks[2]+blocks[3]+blocks[4]), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := resource.ReadBootstrap(bootstrap, resource.Sidecar, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if !resource.MayConnect(b, 1, 1001, "shop.cart") || resource.MayConnect(b, 1, 1001, "other") {
		t.Error("socket_users do not say what the guide says")
	}
	if s := b.GetRateLimitServices(); !s.GetPlaintext() || len(s.GetAddresses()) != 2 {
		t.Errorf("rate limit services: %v", s)
	}
	followed := strings.Replace(blocks[0], "resources_file:", "# resources_file:", 1) + blocks[5]
	if err := os.WriteFile(bootstrap, []byte(followed), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = resource.ReadBootstrap(bootstrap, resource.Sidecar, func(string) string { return "" }); err != nil || len(b.GetControl().GetPilots()) != 2 {
		t.Fatal(b, err)
	}
	path := filepath.Join(dir, "resources.yaml")
	if err := os.WriteFile(path, []byte(blocks[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	var snapshot resourcev1.Snapshot
	if _, err := resource.ReadFile(path, &snapshot); err != nil {
		t.Fatal(err)
	}
	if err := resource.Errors(resource.Validate(&snapshot, "test")); err != nil {
		t.Fatal(err)
	}
}
