package h2_test

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

// TestH2spec has the suite that others hold HTTP/2 servers to judge the machine.
func TestH2spec(t *testing.T) {
	path, err := exec.Command("go", "-C", "../../../tools/pins", "tool", "-n", "h2spec").Output()
	if err != nil {
		t.Fatalf("tools/pins has no h2spec: %v", err)
	}
	s := startSite(t, h2.Config{PingStrikes: -1})
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(strings.TrimSpace(string(path)), "--strict", "-o", "5", "-p", port).CombinedOutput()
	m := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("h2spec did not finish: %v\n%s", err, out)
	}
	if os.Getenv("H2SPEC_VERBOSE") != "" {
		t.Logf("%s", out)
	}
	tests, _ := strconv.Atoi(string(m[1]))
	passed, _ := strconv.Atoi(string(m[2]))
	t.Logf("%d of %d", passed, tests)
	if tests < 145 || passed < tests {
		t.Errorf("%s", out)
	}
}
