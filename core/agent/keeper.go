package agent

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/resource"
)

// keeper keeps one proxy. All but what is shown is of the goroutine that runs it.
type keeper struct {
	agent  *Agent
	cfg    *agentv1.ProxyConfig
	log    *slog.Logger
	orders chan *order

	bootstrap *resourcev1.Bootstrap // as it was last read well; nil: never
	child     *child                // nil: none runs
	silence   silence
	backoff   *backoff
	again     time.Time // when the next start is due, if none runs
	refused   *stamp    // of the file that the last process refused; nil: it did not
	last      string    // how the process before has ended, if nobody had asked it to

	mu    sync.Mutex
	noted *agentv1.Record_Process
	shown *agentv1.Proxy
}

func newKeeper(a *Agent, p *agentv1.ProxyConfig) *keeper {
	k := &keeper{
		agent: a, cfg: p, log: a.log.With("proxy", p.GetName()), orders: make(chan *order), backoff: newBackoff(a.cfg.GetRestarts()),
		noted: a.record.of(p.GetName()),
		shown: &agentv1.Proxy{Name: p.GetName(), State: agentv1.Proxy_STATE_STARTING},
	}
	if k.noted.GetConfigured() != k.configured() { // the file says something new: what an upgrade has brought counts no more
		k.noted.Binary, k.noted.Configured = "", k.configured()
	}
	return k
}

// configured is the binary that the agent's file names.
func (k *keeper) configured() string {
	if b := k.cfg.GetBinary(); b != "" {
		return b
	}
	return k.agent.cfg.GetBinary()
}

// binary is the one that is started next.
func (k *keeper) binary() string {
	if b := k.noted.GetBinary(); b != "" {
		return b
	}
	return k.configured()
}

// run keeps the proxy until ctx ends.
func (k *keeper) run(ctx context.Context) {
	k.readBootstrap()
	k.adopt(ctx)
	tick := time.NewTicker(k.agent.cfg.GetHealth().GetInterval().AsDuration())
	defer tick.Stop()
	answers := make(chan answer, 1)
	asking := false
	for {
		if k.child == nil && ctx.Err() == nil && k.due() {
			k.start()
		}
		var ended <-chan struct{}
		if k.child != nil {
			ended = k.child.ended
		}
		select {
		case <-ctx.Done():
			k.leave()
			return
		case <-ended:
			k.lost(ctx)
		case o := <-k.orders:
			o.done <- k.obey(ctx, o)
		case a := <-answers:
			asking = false
			k.judge(a)
		case <-tick.C:
			if c := k.child; c != nil && !asking {
				asking = true
				k.agent.group.Go(func(ctx context.Context) { answers <- askFor(ctx, c) })
			}
		case <-k.untilDue():
		}
	}
}

// untilDue is a channel that has something when the next start is due; nil while a process runs.
func (k *keeper) untilDue() <-chan time.Time {
	if k.child != nil {
		return nil
	}
	return time.After(max(0, time.Until(k.again)))
}

// due tells whether a process is to be started now.
func (k *keeper) due() bool {
	return !time.Now().Before(k.again) || k.refused != nil && *k.refused != stampOf(k.cfg.GetBootstrapFile())
}

// stamp tells a file from what it was before.
type stamp struct {
	changed time.Time
	size    int64
}

func stampOf(path string) (s stamp) {
	if info, err := os.Stat(path); err == nil {
		s.changed, s.size = info.ModTime(), info.Size()
	}
	return s
}

// readBootstrap reads the proxy's file again. If it is wrong the last good one stays.
func (k *keeper) readBootstrap() error {
	b, err := readBootstrap(k.cfg)
	if err == nil {
		k.bootstrap = b
	}
	return err
}

// adminSocket is where the proxy answers; empty: nobody knows.
func (k *keeper) adminSocket() string {
	if k.bootstrap != nil {
		return k.bootstrap.GetAdminSocket()
	}
	return k.noted.GetAdminSocket()
}

// drain is how long a process may take to leave.
func (k *keeper) drain() time.Duration {
	deadline := resource.DefaultDrainDeadline // of a file that is wrong by now
	if k.bootstrap != nil {
		deadline = k.bootstrap.GetDrainDeadline().AsDuration()
	}
	return deadline + leaveMargin
}

// adopt looks for a process that runs already: what answers at the admin socket, else what is noted.
func (k *keeper) adopt(ctx context.Context) {
	var noted *pidfd.Process
	if k.noted.GetPid() != 0 {
		p, err := pidfd.Open(int(k.noted.GetPid()), k.noted.GetStart())
		if err == nil {
			if err = own(p); err != nil {
				p.Close()
			} else {
				noted = p
			}
		}
		if err != nil {
			k.log.Info("the process that was kept is gone", "pid", k.noted.GetPid(), "error", err)
		}
	}
	if k.adminSocket() == "" && noted == nil {
		return
	}
	s, err := ask(ctx, k.adminSocket())
	var p *pidfd.Process
	if err == nil {
		if p, err = identify(s); err != nil {
			k.log.Error("a proxy answers that cannot be kept", "socket", k.adminSocket(), "error", err)
		}
	}
	switch {
	case p != nil:
		if noted != nil {
			noted.Close()
		}
	case noted != nil:
		p = noted
	default:
		return
	}
	k.take(k.agent.found(p, k.adminSocket()))
	k.log.Info("a proxy runs already and is kept", "pid", p.PID, "answers", err == nil)
	if err == nil {
		k.answered(s)
	}
}

// start starts a process where none runs.
func (k *keeper) start() {
	k.refused = nil
	if err := k.readBootstrap(); err != nil {
		k.refuse(err.Error())
		return
	}
	c, err := k.agent.launch(k.cfg, k.binary(), k.adminSocket())
	if err != nil {
		k.wait(0, err.Error())
		return
	}
	k.log.Info("a process is started", "pid", c.PID, "binary", c.binary)
	k.take(c)
}

// take makes a process the proxy's, and notes it.
func (k *keeper) take(c *child) {
	k.child, k.silence = c, silence{}
	state := agentv1.Proxy_STATE_STARTING
	if c.since() > 0 {
		state = agentv1.Proxy_STATE_SERVING
	}
	k.show(func(p *agentv1.Proxy) {
		p.Pid, p.Binary, p.State, p.Version, p.Generation, p.Sessions = uint32(c.PID), c.binary, state, "", 0, nil
	})
	k.note()
}

// note writes down which process is the proxy's.
func (k *keeper) note() {
	k.mu.Lock()
	n := k.noted
	n.Pid, n.Start = 0, 0
	if k.child != nil {
		n.Pid, n.Start, n.AdminSocket = uint32(k.child.PID), k.child.Start, k.child.admin
	}
	copied := proto.CloneOf(n)
	k.mu.Unlock()
	if err := k.agent.record.note(k.cfg.GetName(), copied); err != nil {
		k.log.Error("it cannot be noted which process runs: an agent after this one finds it only if it answers", "error", err)
	}
}

// lost decides what comes after the end of the proxy's process.
func (k *keeper) lost(ctx context.Context) {
	c := k.child
	if s, err := ask(ctx, c.admin); err == nil && s.PID != c.PID && k.follow(s) {
		return // another one has taken over
	}
	k.child = nil
	k.note()
	if c.refused() {
		k.refuse(c.why())
		return
	}
	k.wait(c.since(), c.why())
}

// follow keeps the process that answers instead of the one that was kept, if it may be kept.
func (k *keeper) follow(s *admin.Status) bool {
	p, err := identify(s)
	if err != nil {
		k.log.Error("another process answers, and cannot be kept", "error", err)
		return false
	}
	k.log.Info("another process has taken over, and is kept", "pid", p.PID)
	k.take(k.agent.found(p, k.child.admin))
	k.answered(s)
	return true
}

// wait has a process started again in some time.
func (k *keeper) wait(served time.Duration, why string) {
	delay := k.backoff.crashed(served, jitter())
	k.again, k.last = time.Now().Add(delay), why
	k.mu.Lock()
	k.noted.Restarts++
	k.mu.Unlock()
	state, level := agentv1.Proxy_STATE_WAITING, slog.LevelWarn
	message := "the proxy has ended; it is started again"
	if k.backoff.looping() {
		state, level = agentv1.Proxy_STATE_CRASH_LOOP, slog.LevelError
		message = "the proxy ends again and again; it is started again all the same"
	}
	k.log.Log(context.Background(), level, message, "why", why, "times", k.backoff.crashes, "in", delay)
	k.idle(state, why)
}

// refuse waits for another configuration.
func (k *keeper) refuse(why string) {
	s := stampOf(k.cfg.GetBootstrapFile())
	k.refused, k.again = &s, time.Now().Add(k.backoff.most)
	k.log.Error("the proxy does not start before its configuration is right", "why", why, "file", k.cfg.GetBootstrapFile())
	k.idle(agentv1.Proxy_STATE_REFUSED, why)
}

func (k *keeper) idle(state agentv1.Proxy_State, why string) {
	k.show(func(p *agentv1.Proxy) {
		p.Pid, p.Binary, p.State, p.Why, p.Version, p.Generation, p.Sessions = 0, k.binary(), state, why, "", 0, nil
	})
}

// leave ends the keeper, and the process only if that is asked for.
func (k *keeper) leave() {
	if k.child == nil || !k.agent.stops.Load() {
		return
	}
	if err := k.child.end(context.Background(), k.drain()); err != nil {
		k.log.Error("the proxy does not end", "pid", k.child.PID, "error", err)
		return
	}
	k.child = nil
	k.note()
}

// show changes what operators see.
func (k *keeper) show(change func(*agentv1.Proxy)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k.shown)
}

// proxy is what operators see now.
func (k *keeper) proxy() *agentv1.Proxy {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := proto.CloneOf(k.shown)
	p.Restarts = k.noted.GetRestarts()
	if p.GetPid() != 0 {
		p.Uptime = durationpb.New(pidfd.Age(k.noted.GetStart()))
	}
	return p
}
