package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport"
)

// Defaults of octo.agent.v1.AgentConfig.
const (
	DefaultSocket        = "/run/octo/agent.sock"
	DefaultBinary        = "octo-proxy"
	DefaultBackoff       = 200 * time.Millisecond
	DefaultMaxBackoff    = 30 * time.Second
	DefaultSteadyAfter   = time.Minute
	DefaultInterval      = time.Second
	DefaultSilence       = 30 * time.Second
	DefaultStartDeadline = time.Minute
)

// maxProxies bounds the proxies of one agent.
const maxProxies = 256

// SocketVariable is the environment variable with the agent's socket, for the agent and for who calls it.
const SocketVariable = "OCTO_AGENT"

// ReadConfig reads an agent's file, completes it from the environment variables and defaults, and checks it. Paths in the result
// are absolute. What the bootstrap files say is checked when the proxies start: one that is wrong keeps no other from running.
func ReadConfig(path string, getenv func(string) string) (*agentv1.AgentConfig, error) {
	c := &agentv1.AgentConfig{}
	doc, err := resource.ReadFile(path, c)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	complete(c, getenv)
	paths := []*string{&c.Socket, &c.StateFile, &c.Binary}
	for _, p := range c.GetProxies() {
		paths = append(paths, &p.BootstrapFile, &p.Binary, &p.LogFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) && (p != &c.Binary || *p != DefaultBinary) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c, doc.LocateError(resource.Errors(check(c)))
}

func complete(c *agentv1.AgentConfig, getenv func(string) string) {
	if c.Socket == "" {
		c.Socket = getenv(SocketVariable)
	}
	if c.Socket == "" {
		c.Socket = DefaultSocket
	}
	if c.StateFile == "" {
		c.StateFile = c.GetSocket() + ".state"
	}
	if c.Binary == "" {
		c.Binary = DefaultBinary
	}
	if c.Restarts == nil {
		c.Restarts = &agentv1.RestartConfig{}
	}
	if c.Health == nil {
		c.Health = &agentv1.HealthConfig{}
	}
	for _, d := range durations(c) {
		if *d.of == nil {
			*d.of = durationpb.New(d.absent)
		}
	}
	if c.Health.OnSilence == agentv1.HealthConfig_ON_SILENCE_UNSPECIFIED {
		c.Health.OnSilence = agentv1.HealthConfig_ON_SILENCE_KILL
	}
}

// duration is a field with its default and bounds.
type duration struct {
	field              string
	of                 **durationpb.Duration
	absent, least, max time.Duration
}

func durations(c *agentv1.AgentConfig) []duration {
	r, h := c.GetRestarts(), c.GetHealth()
	return []duration{
		{"restarts.backoff", &r.Backoff, DefaultBackoff, time.Millisecond, time.Minute},
		{"restarts.max_backoff", &r.MaxBackoff, max(DefaultMaxBackoff, r.GetBackoff().AsDuration()), time.Millisecond, time.Hour},
		{"restarts.steady_after", &r.SteadyAfter, DefaultSteadyAfter, 0, 24 * time.Hour},
		{"health.interval", &h.Interval, DefaultInterval, 10 * time.Millisecond, time.Minute},
		{"health.silence", &h.Silence, DefaultSilence, 100 * time.Millisecond, time.Hour},
		{"health.start_deadline", &h.StartDeadline, DefaultStartDeadline, time.Second, time.Hour},
	}
}

func check(c *agentv1.AgentConfig) (problems []resource.Problem) {
	bad := func(field, format string, args ...any) {
		problems = append(problems, resource.Problem{Field: field, Text: fmt.Sprintf(format, args...)})
	}
	if err := transport.CheckSocketPath(c.GetSocket() + notifyEnding); err != nil {
		bad("socket", "%v", err)
	}
	switch n := len(c.GetProxies()); {
	case n == 0:
		bad("proxies", "is missing: there is nothing to keep")
	case n > maxProxies:
		bad("proxies", "has %d, at most %d", n, maxProxies)
	}
	names, files := make(map[string]bool), make(map[string]bool)
	for i, p := range c.GetProxies() {
		at := fmt.Sprintf("proxies[%d].", i)
		switch {
		case !resource.IsName(p.GetName()):
			bad(at+"name", "%q is not a name: letters, digits and . _ - are", p.GetName())
		case names[p.GetName()]:
			bad(at+"name", "%q stands twice", p.GetName())
		}
		names[p.GetName()] = true
		switch {
		case p.GetBootstrapFile() == "":
			bad(at+"bootstrap_file", "is missing")
		case files[p.GetBootstrapFile()]:
			bad(at+"bootstrap_file", "%s is another proxy's too", p.GetBootstrapFile())
		}
		files[p.GetBootstrapFile()] = true
	}
	for _, d := range durations(c) {
		if v := (*d.of).AsDuration(); v < d.least || v > d.max {
			bad(d.field, "%v is not from %v to %v", v, d.least, d.max)
		}
	}
	if c.GetRestarts().GetMaxBackoff().AsDuration() < c.GetRestarts().GetBackoff().AsDuration() {
		bad("restarts.max_backoff", "is less than backoff")
	}
	if _, known := agentv1.HealthConfig_OnSilence_name[int32(c.GetHealth().GetOnSilence())]; !known {
		bad("health.on_silence", "%d is none", c.GetHealth().GetOnSilence())
	}
	return problems
}

// readBootstrap reads a proxy's file for what the agent must know of it.
func readBootstrap(p *agentv1.ProxyConfig) (*resourcev1.Bootstrap, error) {
	b, err := resource.ReadBootstrap(p.GetBootstrapFile(), resource.AnyProgram, func(name string) string {
		if v, ok := p.GetEnvironment()[name]; ok {
			return v
		}
		return os.Getenv(name)
	})
	switch {
	case err != nil:
		return nil, err
	case b.GetAdminSocket() == "":
		return nil, fmt.Errorf("%s: admin_socket is missing: the agent asks there how the proxy is", p.GetBootstrapFile())
	case b.GetTakeoverSocket() == "":
		return nil, fmt.Errorf("%s: takeover_socket is missing, and the default's path is too long for a socket", p.GetBootstrapFile())
	}
	return b, nil
}

// checkBinary says what is wrong with a program before anything depends on it.
func checkBinary(path string) error {
	found, err := exec.LookPath(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("there is no %s", path)
	case err != nil:
		return err
	}
	if info, err := os.Stat(found); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder", path)
	}
	return nil
}
