package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/agent"
)

// proxyCommand is a command that asks the host's agent.
type proxyCommand struct {
	flags    *flag.FlagSet
	terminal *terminal

	socket, config, output, binary string
	all, serving                   bool
}

func runProxy(ctx context.Context, t *terminal, args []string) error {
	c := &proxyCommand{terminal: t, flags: newFlags(t, "proxy", "list | restart NAME...|--all | upgrade [--binary PATH] NAME...|--all",
		"Shows the proxies that this host's agent keeps, and has them replaced, one after another:\n"+
			"  list     what runs, its version, and how it is\n"+
			"  upgrade  hot restart: a new process takes over, and no call fails. If it does not get ready the old one serves on, and the\n"+
			"           upgrade stops there. Without --binary: the binary of the agent's file as it is now, with the bootstrap file as it is now\n"+
			"  restart  drains and starts anew: for a changed address, which a hot restart cannot change")}
	f := c.flags
	f.StringVar(&c.socket, "agent", "", "the agent's socket (default OCTO_AGENT, else "+agent.DefaultSocket+")")
	f.StringVar(&c.config, "config", "", "the agent's file, which names the socket")
	f.BoolVar(&c.all, "all", false, "all proxies, in the order of the agent's file")
	f.StringVar(&c.binary, "binary", "", "upgrade: the new octo-proxy, or octo-gateway where that runs. Proxies run it from then on, until the agent's file names another one than today")
	f.BoolVar(&c.serving, "serving", false, "list: end with 1 unless all proxies serve")
	f.StringVar(&c.output, "o", "table", "list: output, table or json")
	rest, err := parseFlags(f, args)
	if err != nil {
		return err
	}
	if err := c.where(); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix:"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return usage("--agent %s: %v", c.socket, err)
	}
	defer func() { _ = conn.Close() }()
	client := agentv1.NewAgentClient(conn)
	if len(rest) == 0 {
		rest = []string{""}
	}
	names := rest[1:]
	switch {
	case rest[0] == "list" && len(names) == 0 && !c.all && c.binary == "" && (c.output == "table" || c.output == "json"):
		return c.list(ctx, client)
	case rest[0] == "restart" && c.binary != "":
		return usage("--binary is for upgrade")
	case (rest[0] == "restart" || rest[0] == "upgrade") && (len(names) > 0) == c.all:
		return usage("octo proxy %s NAME..., or --all", rest[0])
	case rest[0] == "restart":
		return c.restart(ctx, client, names)
	case rest[0] == "upgrade":
		return c.upgrade(ctx, client, names)
	}
	return usage("octo proxy list [-o table|json], or restart or upgrade NAME...|--all; -h says more")
}

// where finds the agent's socket.
func (c *proxyCommand) where() (err error) {
	if c.config != "" && c.socket == "" {
		cfg, err := agent.ReadConfig(c.config, c.terminal.getenv)
		if err != nil {
			return &exit{exitInvalid, err.Error()}
		}
		c.socket = cfg.GetSocket()
	}
	if c.socket == "" {
		c.socket = c.terminal.getenv(agent.SocketVariable)
	}
	if c.socket == "" {
		c.socket = agent.DefaultSocket
	}
	c.socket, err = filepath.Abs(c.socket)
	return err
}

// heard says of an agent that is not there what to do.
func (c *proxyCommand) heard(err error) error {
	if status.Code(err) == codes.Unavailable {
		return &exit{exitFailed, fmt.Sprintf("no agent answers at %s: does `octo agent` run, and is it yours? --agent, --config or %s say where it is (%s)",
			c.socket, agent.SocketVariable, status.Convert(err).Message())}
	}
	return err
}

func (c *proxyCommand) list(ctx context.Context, client agentv1.AgentClient) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, err := client.List(ctx, &agentv1.ListRequest{})
	if err != nil {
		return c.heard(err)
	}
	rows := [][]string{{"NAME", "PID", "VERSION", "GENERATION", "STATE", "UPTIME", "RESTARTS", "SESSIONS", "WHY"}}
	away := 0
	for _, p := range got.GetProxies() {
		rows = append(rows, proxyRow(p))
		if s := p.GetState(); s != agentv1.Proxy_STATE_SERVING && s != agentv1.Proxy_STATE_UPGRADING {
			away++
		}
	}
	if c.output == "json" {
		err = showJSON(c.terminal.out, got)
	} else {
		table(c.terminal.out, rows)
	}
	if err == nil && c.serving && away > 0 {
		return &exit{exitFailed, fmt.Sprintf("%d of %d proxies do not serve", away, len(got.GetProxies()))}
	}
	return err
}

// stateName is a state as people read it.
func stateName(s agentv1.Proxy_State) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.String(), "STATE_"), "_", " "))
}

func proxyRow(p *agentv1.Proxy) []string {
	row := []string{p.GetName(), "", p.GetVersion(), "", stateName(p.GetState()), "", fmt.Sprint(p.GetRestarts()), "", p.GetWhy()}
	if p.GetPid() == 0 {
		return row
	}
	row[1], row[5] = fmt.Sprint(p.GetPid()), p.GetUptime().AsDuration().Truncate(time.Second).String()
	if p.GetVersion() == "" {
		return row
	}
	row[3] = fmt.Sprint(p.GetGeneration())
	var sessions []string
	for _, kind := range slices.Sorted(maps.Keys(p.GetSessions())) {
		if n := p.GetSessions()[kind]; n > 0 {
			sessions = append(sessions, fmt.Sprintf("%d %s", n, kind))
		}
	}
	row[7] = strings.Join(sessions, ", ")
	return row
}

func (c *proxyCommand) restart(ctx context.Context, client agentv1.AgentClient, names []string) error {
	s, err := client.Restart(ctx, &agentv1.RestartRequest{Names: names})
	if err != nil {
		return c.heard(err)
	}
	return c.follow("restarted", func() (*agentv1.Progress, error) {
		r, err := s.Recv()
		return r.GetProgress(), err
	})
}

func (c *proxyCommand) upgrade(ctx context.Context, client agentv1.AgentClient, names []string) error {
	if c.binary != "" {
		abs, err := filepath.Abs(c.binary)
		if err != nil {
			return usage("--binary %s: %v", c.binary, err)
		}
		c.binary = abs
	}
	s, err := client.Upgrade(ctx, &agentv1.UpgradeRequest{Names: names, Binary: c.binary})
	if err != nil {
		return c.heard(err)
	}
	return c.follow("upgraded", func() (*agentv1.Progress, error) {
		r, err := s.Recv()
		return r.GetProgress(), err
	})
}

// follow shows what becomes of proxies, as it happens, and then how many are done.
func (c *proxyCommand) follow(done string, next func() (*agentv1.Progress, error)) error {
	out, count := c.terminal.out, 0
	for {
		p, err := next()
		if err == io.EOF {
			fmt.Fprintf(out, "%d %s\n", count, done)
			return nil
		}
		if err != nil {
			fmt.Fprintf(out, "%d %s\n", count, done)
			return c.heard(err)
		}
		process := "no process"
		if p.GetPid() != 0 {
			process = fmt.Sprintf("pid %d", p.GetPid())
			if p.GetVersion() != "" {
				process += ", version " + p.GetVersion()
			}
		}
		step := strings.ToLower(strings.TrimPrefix(p.GetStep().String(), "STEP_"))
		fmt.Fprintln(out, strings.TrimSpace(fmt.Sprintf("%s: %s (%s) %s", p.GetName(), step, process, p.GetText())))
		if p.GetStep() == agentv1.Progress_STEP_DONE {
			count++
		}
	}
}
