package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/secret"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
	"github.com/octomesh/octomesh/core/telemetry"
)

// control is what `octo control` and `octo up` run with.
type control struct {
	flags    *flag.FlagSet
	terminal *terminal
	config   plane.Config

	roles, etcd, writers, level, passwordFile, readyFile string
	registries, directories                              paths
}

const loopbackOnly = "where to listen for proxies, operators and other roles: host:port or unix:/path. Beyond loopback only with TLS"

// newControl makes the flags that both commands have.
func newControl(t *terminal, name, text string) *control {
	c := &control{flags: newFlags(t, name, "[flags]", text), terminal: t}
	f := c.flags
	f.StringVar(&c.config.Listen, "listen", defaultServer, loopbackOnly)
	f.Var(&c.registries, "registry", "a registry beside the own one; may stand several times, and the first that fits a target has it.\n"+registries.Form)
	f.Var(&c.directories, "directory", "where SDKs without a proxy ask about an environment, ENVIRONMENT=HOST:PORT; may stand several times.\n"+
		"Beyond loopback only with TLS")
	f.StringVar(&c.config.TLS.Certificate, "certificate", "", "own certificate (PEM file); with --key and --authorities: speak TLS")
	f.StringVar(&c.config.TLS.Key, "key", "", "its key (PEM file)")
	f.StringVar(&c.config.TLS.Authorities, "authorities", "", "authorities that callers' certificates must be of (PEM file)")
	f.StringVar(&c.writers, "writers", "", "with TLS: SPIFFE ids that may change configurations, by commas; each may end in *")
	r := &c.config.RateLimits
	f.StringVar(&r.Redis, "redis", "", "where the Dispatcher counts global rate limits: host:port or unix:/path, of a cluster several by commas.\nWithout it they are counted in memory if --data is given, else not at all. A password is in OCTO_REDIS_PASSWORD")
	f.StringVar(&r.User, "redis-user", "", "user of Redis")
	f.StringVar(&r.Authorities, "redis-authorities", "", "speak TLS with Redis, whose certificate is of these authorities (PEM file)")
	f.StringVar(&r.File, "rate-limits", "", "limits of the Dispatcher's own, for stock Envoys and for policies without figures: a YAML file, read again on SIGHUP")
	l := &c.config.Limits
	f.IntVar(&l.StreamsPerSecond, "streams-per-second", 0, "how many streams of proxies may begin in a second; others are told when to come again (default 2000)")
	f.IntVar(&l.Streams, "streams-per-identity", 0, "how many streams one proxy may have open (default 8)")
	f.IntVar(&l.OpensPerMinute, "opens-per-identity", 0, "how many streams one proxy may begin in a minute (default 120)")
	f.IntVar(&l.Stock, "stock-streams-per-identity", 0, "how many streams one stock xDS client may have open (default 100)")
	f.IntVar(&l.StockOpensPerMinute, "stock-opens-per-identity", 0, "how many streams one stock xDS client may begin in a minute (default 600)")
	f.IntVar(&l.Topics, "topics-per-stream", 0, "how many topics one proxy may follow, of which a target has four (default 65536)")
	f.StringVar(&c.readyFile, "ready-file", "", "a file to write the address into once all roles are ready; it is removed at the end")
	return c
}

func runControl(ctx context.Context, t *terminal, args []string) error {
	c := newControl(t, "control", "Runs roles of the control plane until SIGTERM or SIGINT: several processes on one etcd cluster find each other by it.\n"+
		"`octo up` runs all of them in one process, with less to say.")
	f, s := c.flags, &c.config.Store
	f.StringVar(&c.roles, "roles", "all", "roles to run, by commas: "+strings.Join(plane.Roles(), ", ")+"; or all")
	f.StringVar(&c.config.Name, "name", "", "tells this process from others of its roles (default: the host's name and something of its own)")
	f.StringVar(&c.config.Advertise, "advertise", "", "where other roles reach --listen, host:port (default: what it is)")
	f.StringVar(&c.config.Metrics, "metrics", "", "where to serve /metrics, /healthz and /readyz over HTTP, host:port; empty: nowhere")
	f.StringVar(&c.etcd, "etcd", "", "endpoints of an etcd cluster, by commas; empty: an embedded one, in --data")
	f.StringVar(&s.Data, "data", "", "directory of the embedded etcd")
	f.StringVar(&s.TLS.Authorities, "etcd-authorities", "", "authorities of the etcd cluster's certificates (PEM file; default: the system's)")
	f.StringVar(&s.TLS.Certificate, "etcd-certificate", "", "own certificate for the etcd cluster (PEM file)")
	f.StringVar(&s.TLS.Key, "etcd-key", "", "its key (PEM file)")
	f.StringVar(&s.User, "etcd-user", "", "user of the etcd cluster; the password is in --etcd-password-file or in OCTO_ETCD_PASSWORD")
	f.StringVar(&c.passwordFile, "etcd-password-file", "", "file with the password of --etcd-user, in its first line")
	f.StringVar(&c.level, "log", "info", "log level: debug, info, warn, error")
	if err := c.parse(args); err != nil {
		return err
	}
	return c.run(ctx, func(*plane.Plane) {})
}

// parse reads a command line into the configuration.
func (c *control) parse(args []string) (err error) {
	switch rest, err := parseFlags(c.flags, args); {
	case err != nil:
		return err
	case len(rest) > 0:
		return usage("%q is no flag", rest[0])
	}
	if c.config.Roles, err = plane.ParseRoles(c.roles); err != nil {
		return usage("%v", err)
	}
	if c.config.Log, err = telemetry.NewLogger(c.terminal.err, c.level); err != nil {
		return usage("%v", err)
	}
	for _, text := range c.registries {
		spec, err := registries.Parse(text)
		if err != nil {
			return usage("--registry: %v", err)
		}
		c.config.Registries = append(c.config.Registries, spec)
	}
	c.config.RateLimits.Password = c.terminal.getenv("OCTO_REDIS_PASSWORD")
	for _, text := range c.directories {
		d, err := plane.ParseDirectory(text)
		if err != nil {
			return usage("%v", err)
		}
		c.config.Directories = append(c.config.Directories, d)
	}
	c.config.Writers, c.config.Store.Endpoints = list(c.writers), list(c.etcd)
	return c.password()
}

// list are the parts of a text between commas; of an empty one none.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// password reads the password of the user for etcd.
func (c *control) password() (err error) {
	s := &c.config.Store
	switch {
	case s.User == "" && c.passwordFile == "":
	case s.User == "":
		return usage("--etcd-password-file is for --etcd-user: give that too")
	case c.passwordFile != "":
		if s.Password, err = secret.File(s.User, c.passwordFile); err != nil {
			return usage("--etcd-password-file: %v", err)
		}
	default:
		if s.Password = c.terminal.getenv("OCTO_ETCD_PASSWORD"); s.Password == "" {
			return usage("--etcd-user needs a password: give --etcd-password-file, or set OCTO_ETCD_PASSWORD")
		}
	}
	return nil
}

// run runs the roles until ctx is done. up is called when they serve.
func (c *control) run(ctx context.Context, up func(*plane.Plane)) error {
	p, err := plane.Start(ctx, c.config)
	var wrong *plane.UsageError
	switch {
	case errors.As(err, &wrong):
		return usage("%v", err)
	case err != nil:
		return &exit{exitFailed, err.Error()}
	}
	defer p.Close()
	log := c.config.Log
	log.Info("octo control runs", "roles", strings.Join(c.config.Roles, ","), "listen", p.Address(), "metrics", p.MetricsAddress(), "store", p.StoreName(),
		"tls", c.config.TLS.Certificate != "")
	if err := c.awaitReady(ctx, p, log); err != nil {
		return err
	}
	if c.readyFile != "" {
		defer os.Remove(c.readyFile)
	}
	if ctx.Err() == nil {
		systemd.Notify(systemd.Ready, systemd.Status("serves at %s", p.Address()))
		up(p)
	}
	select {
	case <-ctx.Done():
		systemd.Notify(systemd.Stopping)
	case err := <-p.Failed():
		return &exit{exitFailed, err.Error()}
	}
	log.Info("leaving")
	return nil
}

// awaitReady waits until each role has what it needs, and says meanwhile what is missing.
func (c *control) awaitReady(ctx context.Context, p *plane.Plane, log *slog.Logger) error {
	for missing := ""; ; {
		lacking := p.AwaitReady(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if len(lacking) == 0 {
			break
		}
		if text := fmt.Sprint(lacking); text != missing {
			missing = text
			for role, err := range lacking {
				log.Warn("a role is not ready yet", "role", role, "error", err)
			}
		}
		select {
		case err := <-p.Failed():
			return &exit{exitFailed, err.Error()}
		default:
		}
	}
	log.Info("ready", "listen", p.Address())
	if c.readyFile == "" {
		return nil
	}
	// Beside its place first: who waits for the file finds all of it.
	beside := c.readyFile + ".new"
	if err := os.WriteFile(beside, []byte(p.Address()+"\n"), 0o600); err != nil {
		return &exit{exitFailed, "--ready-file: " + err.Error()}
	}
	if err := os.Rename(beside, c.readyFile); err != nil {
		return &exit{exitFailed, "--ready-file: " + err.Error()}
	}
	return nil
}
