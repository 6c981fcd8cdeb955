// Package agent keeps the proxies of a host running: it starts them, starts those again that crash, kills those that hang, and has them
// taken over by others, one after another, for a new binary or another file.
//
// Proxies do not depend on it. They live on when it ends, however it ends, and the next agent finds them by what this one has noted (a
// process is its number and its start, never its name) and by what answers at their admin sockets. Proxies say when they serve, and
// why they do not, in the words of systemd (core/lifecycle/systemd); docs/guides/agent.md is for operators.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
	"github.com/octomesh/octomesh/core/transport"
)

const (
	// notifyEnding is that of the socket on which proxies say how they are, beside the agent's own.
	notifyEnding = ".notify"
	// leaveMargin is what a proxy may take beyond its drain deadline, to send what telemetry has and to end.
	leaveMargin = 10 * time.Second
	// killTimeout is how long a process may be there after it was killed.
	killTimeout = 5 * time.Second
)

// Agent keeps proxies.
type Agent struct {
	cfg       *agentv1.AgentConfig
	log       *slog.Logger
	record    *record
	keepers   []*keeper
	inbox     *systemd.Inbox
	inboxPath string

	server *grpc.Server
	served chan struct{}    // closed when the server has ended
	group  *lifecycle.Group // of keepers
	ears   *lifecycle.Group // of what they hear; they may wait for it
	stops  atomic.Bool      // proxies end with the agent

	orders sync.Mutex // one restart or upgrade at a time

	mu       sync.Mutex
	children map[int]*child
	flushes  map[string]chan struct{} // by what is said to the own inbox
	flushed  int
}

// Start runs an agent: it finds the proxies that run, and starts the others. It returns when operators are heard.
func Start(cfg *agentv1.AgentConfig, log *slog.Logger) (*Agent, error) {
	a := &Agent{
		cfg: cfg, log: log, inboxPath: cfg.GetSocket() + notifyEnding, server: grpc.NewServer(), served: make(chan struct{}),
		group: lifecycle.New(context.Background()), ears: lifecycle.New(context.Background()), children: make(map[int]*child), flushes: make(map[string]chan struct{}),
	}
	// First, since it tells of an agent that runs already.
	l, err := transport.ListenUnix(cfg.GetSocket(), 0o600)
	if errors.Is(err, transport.ErrInUse) {
		return nil, fmt.Errorf("%w: is an agent running already?", err)
	} else if err != nil {
		return nil, err
	}
	if a.inbox, err = systemd.Listen(a.inboxPath); err != nil {
		_ = l.Close()
		return nil, err
	}
	if a.record, err = openRecord(cfg.GetStateFile()); err != nil {
		log.Error("what the agent before has noted cannot be read; proxies are looked for at their admin sockets", "error", err)
	}
	a.ears.Go(func(ctx context.Context) {
		if err := a.inbox.Hear(ctx, a.hear); err != nil {
			log.Error("proxies are not heard any more: those that start are taken for ones that hang", "error", err)
		}
	})
	for _, p := range cfg.GetProxies() {
		k := newKeeper(a, p)
		a.keepers = append(a.keepers, k)
		a.group.Go(k.run)
	}
	a.strangers()
	agentv1.RegisterAgentServer(a.server, &service{agent: a})
	go func() {
		defer close(a.served)
		_ = a.server.Serve(&guarded{l, log})
	}()
	return a, nil
}

// strangers says of proxies that were kept, and are not the agent's any more.
func (a *Agent) strangers() {
	for _, name := range a.record.names() {
		if slices.ContainsFunc(a.cfg.GetProxies(), func(p *agentv1.ProxyConfig) bool { return p.GetName() == name }) {
			continue
		}
		if was := a.record.of(name); was.GetPid() != 0 {
			a.log.Warn("a proxy that was kept is not in the agent's file any more: if it runs, it is left alone", "proxy", name, "pid", was.GetPid())
		}
		if err := a.record.note(name, nil); err != nil {
			a.log.Error("it cannot be noted which processes run", "error", err)
		}
	}
}

// Close ends the agent. Its proxies go on, or, if so said, leave first.
func (a *Agent) Close(stopProxies bool) {
	a.stops.Store(stopProxies)
	a.server.Stop()
	<-a.served
	a.group.Stop()
	a.ears.Stop()
}

// hear gives what a process says to whom it concerns.
func (a *Agent) hear(m systemd.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.PID == os.Getpid() {
		if waiting := a.flushes[m.Status]; waiting != nil {
			delete(a.flushes, m.Status)
			close(waiting)
		}
		return
	}
	if c := a.children[m.PID]; c != nil {
		c.hear(m)
	}
}

// flush waits until all has been heard that was said before.
func (a *Agent) flush() {
	a.mu.Lock()
	a.flushed++
	mark, heard := fmt.Sprint("flush ", a.flushed), make(chan struct{})
	a.flushes[mark] = heard
	a.mu.Unlock()
	if err := systemd.Tell(a.inboxPath, systemd.Status("%s", mark)); err != nil {
		return
	}
	select {
	case <-heard:
	case <-time.After(askTimeout):
	}
}

// guarded lets in the agent's own user and root.
type guarded struct {
	net.Listener
	log *slog.Logger
}

// Accept implements net.Listener.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		nc, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		cred, err := transport.PeerCredentials(nc)
		if err == nil && (cred.Uid == 0 || cred.Uid == uint32(os.Geteuid())) {
			return nc, nil
		}
		g.log.Warn("somebody is refused at the agent's socket", "peer", cred, "error", err)
		_ = nc.Close()
	}
}
