package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
)

const (
	// defaultData is where `octo up` keeps its data: where it is started, so that one sees it and can remove it.
	defaultData = "octo-data"
	// defaultMetrics is where `octo up` shows its metrics and its roles' health.
	defaultMetrics = "127.0.0.1:7601"
	// defaultDirectory is where SDKs without a proxy ask about the default environment.
	defaultDirectory = "127.0.0.1:7602"
)

func runUp(ctx context.Context, t *terminal, args []string) error {
	c := newControl(t, "up", "Runs the whole control plane in this process until SIGTERM or SIGINT, and keeps its data in a directory:\n"+
		"the next start goes on from there. Nothing else needs to be installed.")
	f := c.flags
	f.StringVar(&c.config.Store.Data, "data", defaultData, "directory for all data; it is made if it is not there")
	f.StringVar(&c.config.Metrics, "metrics", "", "where to serve /metrics, /healthz and /readyz over HTTP, host:port (default "+
		defaultMetrics+"; with another --listen than the default: nowhere)")
	f.Lookup("directory").Usage += " (default " + resource.DefaultEnvironment + "=" + defaultDirectory + "; with another --listen than the default, or TLS: none)"
	f.StringVar(&c.level, "log", "warn", "log level: debug, info, warn, error")
	c.roles = "all"
	if err := c.parse(args); err != nil {
		return err
	}
	if c.config.Metrics == "" && c.config.Listen == defaultServer {
		c.config.Metrics = defaultMetrics
	}
	if len(c.config.Directories) == 0 && c.config.Listen == defaultServer && c.config.TLS == (identity.Files{}) {
		c.config.Directories = []plane.Directory{{Environment: resource.DefaultEnvironment, Listen: defaultDirectory}}
	}
	return c.run(ctx, func(p *plane.Plane) { c.welcome(p) })
}

// welcome says what runs where, and what to try. Its first line is what scripts may wait for.
func (c *control) welcome(p *plane.Plane) {
	out, server := c.terminal.out, ""
	if p.Address() != defaultServer {
		server = " --server " + p.Address()
	}
	data, err := filepath.Abs(c.config.Store.Data)
	if err != nil {
		data = c.config.Store.Data
	}
	fmt.Fprintf(out, "octo is ready at %s\n\n", p.Address())
	rows := [][]string{{"WHAT", "WHERE"}, {"proxies and operators (gRPC)", p.Address()}}
	if m := p.MetricsAddress(); m != "" {
		rows = append(rows, []string{"metrics, health (HTTP)", "http://" + m + "/metrics, /readyz"})
	}
	for _, d := range p.Directories() {
		rows = append(rows, []string{"SDKs without a proxy, environment " + d.Environment, d.Listen})
	}
	rows = append(rows, []string{"etcd: configuration and registry", p.StoreName()}, []string{"data", data})
	table(out, rows)
	fmt.Fprintf(out, `
Proxies follow it by their configuration:  control: {pilots: ["%s"], directory: DIRECTORY}
Try, in another terminal:
  octo get%s                      what is configured
  octo apply%s -f FILE -m WHY     configure something: docs/guides/config.md
  octo explain%s TARGET           what binds calls to a target
End it with Ctrl-C; the next start goes on with the same data.
`, p.Address(), server, server, server)
}
