// Package vectors reads conformance/vectors for the tests of the SDK's packages.
package vectors

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Each calls test with each vector of a kind in a file of conformance/vectors. The module may be used without the repository: then
// there are none, and the test is skipped.
func Each[In, Out any](t *testing.T, file, kind string, test func(t *testing.T, in In, out Out)) {
	t.Helper()
	b, err := read(file)
	if os.IsNotExist(err) {
		t.Skip("the vectors are not part of the module")
	}
	var all struct {
		Vectors []struct {
			ID, Kind      string
			Input, Result json.RawMessage
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range all.Vectors {
		if v.Kind == kind {
			n++
			t.Run(v.ID, func(t *testing.T) {
				var in In
				var out Out
				if err := errors.Join(json.Unmarshal(v.Input, &in), json.Unmarshal(v.Result, &out)); err != nil {
					t.Fatal(err)
				}
				test(t, in, out)
			})
		}
	}
	if n == 0 {
		t.Fatalf("no vector of kind %q in %s", kind, file)
	}
}

// read finds the file above the package that is tested.
func read(file string) (b []byte, err error) {
	for up := ".."; len(up) < 20; up = filepath.Join(up, "..") {
		if b, err = os.ReadFile(filepath.Join(up, "conformance", "vectors", file)); err == nil || !os.IsNotExist(err) {
			return b, err
		}
	}
	return nil, err
}
