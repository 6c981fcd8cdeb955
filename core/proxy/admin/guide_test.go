package admin_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/proxy/tap"
)

var descForm = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)", .*variableLabels: \{([^}]*)\}`)

// TestGuideListsEveryMetric: with its labels and its help.
func TestGuideListsEveryMetric(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/guides/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []prometheus.Collector{
		admin.NewCollector(store.New(store.Config{}), nil), admin.NewTelemetryCollector(func() tap.Status { return tap.Status{} }),
		admin.NewLimiterCollector(func() ratelimit.Status { return ratelimit.Status{} }),
	} {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := descForm.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("%v cannot be read", d)
			}
			labels := ""
			if m[3] != "" {
				labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
			}
			if row := fmt.Sprintf("| `%s` | %s | %s |", m[1], labels, m[2]); !strings.Contains(string(guide), row) {
				t.Errorf("docs/guides/telemetry.md lacks the row\n%s", row)
			}
			n++
		}
	}
	if n < 10 {
		t.Errorf("%d metrics were found", n)
	}
}
