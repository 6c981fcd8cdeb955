package state

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

func TestStateVectors(t *testing.T) {
	type input struct{ Environment, Application, Target, File string }
	type result struct {
		Path     string
		Whole    bool
		Written  string `json:"written_unix_ms"`
		Address  string
		Permille uint32
	}
	vectors.Each(t, "state.json", "", func(t *testing.T, in input, want result) {
		dir := t.TempDir()
		path := filepath.Join(dir, filepath.FromSlash(want.Path))
		file, err := hex.DecodeString(in.File)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o750)
		}
		if err == nil {
			err = os.WriteFile(path, file, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		written, _ := strconv.ParseInt(want.Written, 10, 64)
		m, problems := Load(dir, in.Environment, in.Application, in.Target, time.UnixMilli(written+1000))
		if !want.Whole {
			if m != nil || len(problems) != 1 {
				t.Fatalf("it was taken: %v, %v", m, problems)
			}
			return
		}
		if m == nil || len(problems) > 0 {
			t.Fatal(m, problems)
		}
		if m.AgeMs != 500+1000 || len(m.Endpoints) != 1 || m.Endpoints[0].DirectAddress != want.Address || m.MeshSwitch.Permille != want.Permille {
			t.Fatal(m)
		}
		if err := Save(dir, in.Application, m, time.UnixMilli(written)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "2")); err != nil {
			t.Fatal("it is kept elsewhere:", err)
		}
	})
}
