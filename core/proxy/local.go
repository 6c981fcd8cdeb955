package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/fleet"
	answers "github.com/octomesh/octomesh/core/proxy/directory"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// local is what the proxy itself answers to the applications beside it: the Directory.
type local struct {
	targets *answers.Targets
	service *directory.Service
	ctx     context.Context // of the calls
	leave   context.CancelCauseFunc
	open    atomic.Int64

	presence *fleet.Presence // nil: nobody is told who is here
	leaves   sync.Map        // what to call at the end of a session
}

// maxLocal bounds the calls that the proxy itself answers at once: each has a goroutine.
const maxLocal = 4096

// openLocal makes the Directory. Its goroutines are the proxy's group's.
func (p *Proxy) openLocal() error {
	p.local.ctx, p.local.leave = context.WithCancelCause(p.group.Context())
	p.local.targets = answers.NewTargets(p.store, p.askable())
	if p.cfg.Register != nil {
		p.local.presence = fleet.NewPresence(p.cfg.Register.Attend)
	}
	reports := p.cfg.Reports
	if reports == nil && p.cfg.Register != nil {
		reports = passOn{p.cfg.Register}
	}
	var err error
	p.local.service, err = directory.New(directory.Config{
		Environment: p.cfg.Environment, Source: directoryv1.WatchResponse_SOURCE_PROXY, Targets: p.local.targets,
		Registrar: p.cfg.Registrar, Serves: p.serves, Reports: reports, Presence: p.local.presence, Log: p.log,
	})
	return err
}

// enters notes that an application has connected, for whoever asks who is here; left that it has gone.
func (l *local) enters(s *session.Session) {
	if l.presence == nil {
		return
	}
	of := answers.CallerOf(s).Process()
	of.Serves = s.Peer().Role == wire.RoleServe
	l.leaves.Store(s, l.presence.Enter(of))
}

func (l *local) left(s *session.Session) {
	if leave, ok := l.leaves.LoadAndDelete(s); ok {
		leave.(func())()
	}
}

// passOn has the control plane told what the applications measured.
type passOn struct{ *register.Client }

// Reported implements directory.Reports.
func (p passOn) Reported(_ directory.Caller, r *directoryv1.ReportRequest) { p.Report(r) }

// Directory is what answers the applications beside the proxy.
func (p *Proxy) Directory() *directory.Service { return p.local.service }

// askable is the proxy's source, as far as the Directory asks it; nil: it is a file.
func (p *Proxy) askable() answers.Source {
	if full, ok := p.cfg.Source.(answers.Source); ok {
		return full
	}
	if d, ok := p.cfg.Source.(Demander); ok {
		return withoutSwitches{d}
	}
	return nil
}

// withoutSwitches is a source that knows of no switches, and is always heard.
type withoutSwitches struct{ Demander }

func (withoutSwitches) Switches(string) map[string]*resourcev1.MeshSwitch { return nil }
func (withoutSwitches) Silent() time.Time                                 { return time.Time{} }

// serveLocal answers a call to the proxy itself.
func (p *Proxy) serveLocal(c *session.Call, head *wire.RequestHead) {
	method, refused, ok := answers.Check(head)
	if !ok {
		c.Refuse(refused)
		return
	}
	p.serveHere(c, func(l *session.Local) { answers.Answer(p.local.service, l, method) })
}

// serves is the targets that a caller's process has attached with, and a channel that closes when they may have changed.
func (p *Proxy) serves(c directory.Caller) (targets []string, changed <-chan struct{}) {
	changed = p.attached.changes()
	for _, s := range p.list(instanceKind) {
		peer := s.Peer()
		if peer.Application == c.Application && peer.Instance == c.Instance && peer.Incarnation == c.Incarnation {
			targets = append(targets, peer.Targets...)
		}
	}
	return slices.Clip(targets), changed
}
