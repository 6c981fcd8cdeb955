package secret_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/secret"
)

func TestAPasswordThatEverybodyKnowsIsRefused(t *testing.T) {
	for _, c := range []struct{ user, password, says string }{
		{"octo", "", "empty"}, {"octo", "Password", "everybody"}, {"Mesh", "mESH", "everybody"}, {"octo", "changeme", "everybody"},
		{"octo", strings.Repeat("x", 1025), "longer"}, {"octo", "b5d1-of-its-own", ""},
	} {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(c.password+"\r\nsecond line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secret.File(c.user, path)
		if c.says == "" {
			if err != nil || got != c.password {
				t.Error(got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.says) || c.password == "changeme" && strings.Contains(err.Error(), c.password) {
			t.Errorf("%q of %q: %v", c.password, c.user, err)
		}
	}
	if _, err := secret.File("octo", "/nowhere"); err == nil {
		t.Error("a file that is not there was read")
	}
}
