package main

import (
	"context"

	"github.com/octomesh/octomesh/core/agent"
	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
	"github.com/octomesh/octomesh/core/telemetry"
)

func runAgent(ctx context.Context, t *terminal, args []string) error {
	f := newFlags(t, "agent", "--config FILE [flags]",
		"Keeps the proxies of a file (octo.agent.v1.AgentConfig in YAML) running until SIGTERM or SIGINT: starts them, starts those again that crash,\n"+
			"kills those that hang. Proxies that run already are kept as they are, and they go on when the agent ends. `octo proxy` speaks with it.")
	file := f.String("config", "", "the agent's file (required)")
	level := f.String("log", "info", "log level: debug, info, warn, error")
	stop := f.Bool("stop-proxies", false, "when the agent is asked to end, have its proxies drain and end first")
	rest, err := parseFlags(f, args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return usage("%q is no flag", rest[0])
	case *file == "":
		return usage("--config is missing: give the agent's file")
	}
	log, err := telemetry.NewLogger(t.err, *level)
	if err != nil {
		return usage("%v", err)
	}
	cfg, err := agent.ReadConfig(*file, t.getenv)
	if err != nil {
		return &exit{exitInvalid, err.Error()}
	}
	a, err := agent.Start(cfg, log)
	if err != nil {
		return &exit{exitFailed, err.Error()}
	}
	log.Info("octo agent runs", "socket", cfg.GetSocket(), "proxies", len(cfg.GetProxies()))
	group := lifecycle.New(context.Background())
	defer group.Stop()
	group.Go(systemd.Watch)
	systemd.Notify(systemd.Ready, systemd.Status("keeps %d proxies", len(cfg.GetProxies())))
	<-ctx.Done()
	systemd.Notify(systemd.Stopping)
	a.Close(*stop)
	log.Info("left", "proxies_stopped", *stop)
	return nil
}
