package state

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

func snapshot(target, address string) *directoryv1.WatchResponse {
	return &directoryv1.WatchResponse{
		Environment: "test", Target: target, State: directoryv1.WatchResponse_STATE_PRESENT, AgeMs: 500,
		Endpoints:  []*directoryv1.Endpoint{{Instance: "a", DirectAddress: address, Weight: 100, DirectHealthy: true}},
		MeshSwitch: &directoryv1.MeshSwitch{Permille: 50, Revision: 7},
	}
}

var noon = time.UnixMilli(1_700_000_000_000)

func save(t *testing.T, dir string, m *directoryv1.WatchResponse) {
	t.Helper()
	if err := Save(dir, "cart", m, noon); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasKeptComesBackWithItsAge(t *testing.T) {
	dir := t.TempDir()
	for _, target := range []string{"shop.stock", "..", "../up", "a/b", "mit leer", "*"} {
		m := snapshot(target, "10.0.0.1:7000")
		save(t, dir, m)
		got, problems := Load(dir, "test", "cart", target, noon.Add(time.Hour))
		if got == nil || len(problems) > 0 {
			t.Fatalf("%s: %v", target, problems)
		}
		if got.Source != directoryv1.WatchResponse_SOURCE_DISK || got.AgeMs != 500+3_600_000 {
			t.Errorf("%s: from %v, %d ms old", target, got.Source, got.AgeMs)
		}
		got.Source, got.AgeMs = m.Source, m.AgeMs
		if !proto.Equal(got, m) {
			t.Errorf("got %v", got)
		}
		if back, _ := Load(dir, "test", "cart", target, noon.Add(-time.Hour)); back == nil || back.AgeMs != 500 {
			t.Errorf("%s: the clock was set back: %v", target, back)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Fatal("something was written outside of the directory", entries, err)
	}
	for _, other := range [][3]string{{"prod", "cart", "shop.stock"}, {"test", "web", "shop.stock"}, {"test", "cart", "shop.mail"}} {
		if got, problems := Load(dir, other[0], other[1], other[2], noon); got != nil || len(problems) > 0 {
			t.Errorf("%v: %v, %v", other, got, problems)
		}
	}
}

// Row 23 of the faults: a file that was cut or changed at any place is never loaded; the one before it is.
func TestWhatIsNotWholeIsNeverLoaded(t *testing.T) {
	dir := t.TempDir()
	folder := place(dir, "test", "cart", "stock")
	save(t, dir, snapshot("stock", "10.0.0.1:1"))
	save(t, dir, snapshot("stock", "10.0.0.2:2"))
	whole, err := os.ReadFile(name(folder, 2))
	if err != nil {
		t.Fatal(err)
	}
	check := func(b []byte, what string, at int) {
		t.Helper()
		if err := os.WriteFile(name(folder, 2), b, 0o600); err != nil {
			t.Fatal(err)
		}
		m, problems := Load(dir, "test", "cart", "stock", noon)
		if m == nil || m.Endpoints[0].DirectAddress != "10.0.0.1:1" || len(problems) != 1 {
			t.Fatalf("%s at %d: %v, %v", what, at, m, problems)
		}
	}
	for i := range whole {
		check(whole[:i], "cut", i)
		bad := bytes.Clone(whole)
		bad[i] ^= 0x40
		check(bad, "changed", i)
	}
	check(append(bytes.Clone(whole), 0), "longer", len(whole))
	if err := os.Truncate(name(folder, 2), maxSize+1); err != nil {
		t.Fatal(err)
	}
	if m, problems := Load(dir, "test", "cart", "stock", noon); m == nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), "at most") {
		t.Fatal(m, problems)
	}
}

func TestThreeGenerationsAreKept(t *testing.T) {
	dir := t.TempDir()
	folder := place(dir, "test", "cart", "stock")
	for range 10 {
		save(t, dir, snapshot("stock", "10.0.0.1:1"))
	}
	old := filepath.Join(folder, "new-dead")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, noon.Add(-time.Hour), noon.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	save(t, dir, snapshot("stock", "10.0.0.1:1"))
	entries, _ := os.ReadDir(folder)
	if len(entries) != generations {
		t.Fatal(entries)
	}
}

func TestProcessesShareADirectory(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				save(t, dir, snapshot("stock", "10.0.0.1:1"))
				if m, problems := Load(dir, "test", "cart", "stock", noon); m == nil {
					t.Error(problems)
				}
			}
		})
	}
	wg.Wait()
}

func TestWhatIsTooLargeIsNotKept(t *testing.T) {
	m := snapshot("stock", "10.0.0.1:1")
	m.DeletedReason = strings.Repeat("x", maxSize)
	if err := Save(t.TempDir(), "cart", m, noon); err == nil {
		t.Fatal("it was kept")
	}
}
