package proxyd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/handover"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// warmUp is how long a successor may take until it has a configuration, before it gives up and its predecessor serves on.
	warmUp = 30 * time.Second
	// selfCheck is how long its call through its own data path may take.
	selfCheck = 5 * time.Second
)

var errNoTakeover = errors.New("--takeover: there is no takeover_socket, and the default's path is too long for a socket")

// sockets are what a proxy listens on.
type sockets struct {
	outbound, inbound, grpc, kitex, admin, takeover net.Listener // each may be nil

	// own are those of the called ones that this process has opened itself, by name.
	own map[string]net.Listener

	// taken tells that they come from a predecessor, and attached who was attached to it: to the last, if complete.
	taken    bool
	attached []*handoverv1.Instance
	complete bool
}

func (s *sockets) close() {
	for _, l := range []net.Listener{s.outbound, s.inbound, s.grpc, s.kitex, s.admin, s.takeover} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// predecessor asks the proxy that runs whether this process may take over from it. nil: nobody is asked, or nobody runs.
func predecessor(ctx context.Context, b *resourcev1.Bootstrap, takeover bool, log *slog.Logger) (*handover.Successor, error) {
	if !takeover {
		return nil, nil
	}
	if b.GetTakeoverSocket() == "" {
		return nil, configError{errNoTakeover}
	}
	intro := &handoverv1.Introduction{Environment: b.GetEnvironment(), SoftwareVersion: proxy.Version, Places: places(b)}
	if b.GetInstance() != resource.ProcessName() { // else it is nobody's wish
		intro.Instance = b.GetInstance()
	}
	next, err := handover.Dial(ctx, b.GetTakeoverSocket(), intro)
	if errors.Is(err, handover.ErrNobody) {
		log.Info("no proxy runs to take over from", "socket", b.GetTakeoverSocket())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b.Instance = next.Admission.GetInstance()
	log.Info("taking over", "from", next.Admission.GetSoftwareVersion(), "instance", b.GetInstance())
	return next, nil
}

// places are the addresses that are called, as the bootstrap file says them.
func places(b *resourcev1.Bootstrap) []*handoverv1.Place {
	var all []*handoverv1.Place
	if out := b.GetOutboundSocket(); out != "" {
		all = append(all, &handoverv1.Place{Name: handover.Outbound, Address: absolute(out)})
	}
	if in := b.GetInboundAddress(); in != "" {
		all = append(all, &handoverv1.Place{Name: handover.Inbound, Address: in})
	}
	if at := b.GetGrpc().GetAddress(); at != "" {
		all = append(all, &handoverv1.Place{Name: handover.GRPC, Address: at})
	}
	if at := b.GetKitex().GetAddress(); at != "" {
		all = append(all, &handoverv1.Place{Name: handover.Kitex, Address: at})
	}
	return all
}

// absolute makes a path one for processes that run elsewhere.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// openSockets opens what the proxy listens on, or takes it from the predecessor once the proxy is warm.
func openSockets(ctx context.Context, b *resourcev1.Bootstrap, p *proxy.Proxy, next *handover.Successor, given *given) (*sockets, error) {
	s := &sockets{complete: true}
	err := handover.ErrGone // there is no predecessor, or none any more
	if next != nil {
		if err = warm(ctx, p, next); err == nil {
			err = s.take(ctx, b, next)
		}
	}
	if errors.Is(err, handover.ErrGone) {
		err = s.open(b, given)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	given.drop()
	return s, nil
}

// warm has the proxy do all that it can do before it is called: it gets its configuration, and calls itself.
func warm(ctx context.Context, p *proxy.Proxy, next *handover.Successor) error {
	if next.Admission.GetConfigured() {
		ctx, cancel := context.WithTimeout(ctx, warmUp)
		defer cancel()
		if err := p.Configured(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, selfCheck)
	defer cancel()
	return p.SelfCheck(ctx)
}

// take takes the predecessor's sockets, and learns who was attached to it. From then on it accepts nobody.
func (s *sockets) take(ctx context.Context, b *resourcev1.Bootstrap, next *handover.Successor) error {
	listeners, err := next.Take(ctx)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		switch {
		case l.Name == handover.Outbound && s.outbound == nil:
			s.outbound = l.Listener
		case l.Name == handover.Inbound && s.inbound == nil:
			s.inbound = l.Listener
		case l.Name == handover.GRPC && s.grpc == nil && b.GetGrpc().GetAddress() != "":
			s.grpc = l.Listener
		case l.Name == handover.Kitex && s.kitex == nil && b.GetKitex().GetAddress() != "":
			s.kitex = l.Listener
		case l.Name == handover.Takeover && s.takeover == nil:
			s.takeover = l.Listener
		case l.Name == handover.Admin && s.admin == nil && l.At(b.GetAdminSocket()):
			s.admin = l.Listener
		default:
			_ = l.Close() // what this version does not know, or has elsewhere
		}
	}
	if s.outbound == nil && b.GetOutboundSocket() != "" || s.takeover == nil {
		return errors.New("the running proxy gives no outbound or no takeover socket")
	}
	s.taken = true
	if s.admin == nil && b.GetAdminSocket() != "" {
		if s.admin, err = transport.ListenUnix(b.GetAdminSocket(), 0o600); err != nil {
			return err
		}
	}
	if at := b.GetKitex().GetAddress(); s.kitex == nil && at != "" { // the predecessor's version does not know it
		if s.kitex, err = net.Listen("tcp", at); err != nil {
			return err
		}
	}
	beforeReady()
	s.attached, s.complete, err = next.Ready(ctx)
	return err
}

// open opens sockets where nobody has them, and systemd gives none.
func (s *sockets) open(b *resourcev1.Bootstrap, given *given) error {
	s.own = make(map[string]net.Listener)
	for _, place := range []struct {
		name    string
		address string
		mode    os.FileMode // of a Unix socket; 0: TCP
		into    *net.Listener
	}{
		{handover.Outbound, b.GetOutboundSocket(), 0o660, &s.outbound},
		{handover.Inbound, b.GetInboundAddress(), 0, &s.inbound},
		{handover.GRPC, b.GetGrpc().GetAddress(), 0, &s.grpc},
		{handover.Kitex, b.GetKitex().GetAddress(), 0, &s.kitex},
		{handover.Admin, b.GetAdminSocket(), 0o600, &s.admin},
		{handover.Takeover, b.GetTakeoverSocket(), 0o600, &s.takeover},
	} {
		if place.address == "" {
			continue
		}
		l := given.take(place.name, place.address, place.mode != 0)
		if l == nil {
			var err error
			if place.mode != 0 {
				l, err = listenUnix(place.address, place.mode)
			} else {
				l, err = net.Listen("tcp", place.address)
			}
			if err != nil {
				return err
			}
			s.own[place.name] = l
		}
		*place.into = l
	}
	return given.strangers()
}

// offer has the proxy's sockets handed over to a successor that asks. handed gets an element when one serves.
func (s *sockets) offer(group *lifecycle.Group, b *resourcev1.Bootstrap, p *proxy.Proxy, handed chan<- struct{}, log *slog.Logger) *handover.Server {
	if s.takeover == nil {
		return nil
	}
	all := []handover.Listener{{Name: handover.Takeover, Listener: s.takeover, Configured: absolute(b.GetTakeoverSocket())}}
	if s.outbound != nil {
		all = append(all, handover.Listener{Name: handover.Outbound, Listener: s.outbound, Configured: absolute(b.GetOutboundSocket())})
	}
	if s.inbound != nil {
		all = append(all, handover.Listener{Name: handover.Inbound, Listener: s.inbound, Configured: b.GetInboundAddress()})
	}
	if s.grpc != nil {
		all = append(all, handover.Listener{Name: handover.GRPC, Listener: s.grpc, Configured: b.GetGrpc().GetAddress()})
	}
	if s.kitex != nil {
		all = append(all, handover.Listener{Name: handover.Kitex, Listener: s.kitex, Configured: b.GetKitex().GetAddress()})
	}
	if s.admin != nil {
		all = append(all, handover.Listener{Name: handover.Admin, Listener: s.admin, Configured: absolute(b.GetAdminSocket())})
	}
	return handover.Serve(group, s.takeover, handover.Config{
		Environment: b.GetEnvironment(), Instance: b.GetInstance(), SoftwareVersion: proxy.Version, Listeners: all,
		Configured: func() bool { return p.Store().Current().Number > 0 },
		Host:       proxy.Heir{Proxy: p}, Leave: func() { handed <- struct{}{} }, Log: log,
	})
}

// follow hears what the predecessor says while it leaves.
func follow(ctx context.Context, p *proxy.Proxy, next *handover.Successor, log *slog.Logger) {
	defer next.Close()
	cut, err := next.Follow(ctx, handover.Heard{
		Attached: func(more []*handoverv1.Instance) { p.Inherit(more, true) },
		Gone:     p.Disinherit,
	})
	switch {
	case err == nil:
		log.Info("the process before has left", "calls_cut_off", cut)
	case ctx.Err() == nil:
		log.Warn("the process before has ended without a word", "error", err)
	}
}

// listenUnix opens a Unix socket, and says what to do where that is another process'.
func listenUnix(path string, mode os.FileMode) (net.Listener, error) {
	l, err := transport.ListenUnix(path, mode)
	switch {
	case errors.Is(err, transport.ErrInUse):
		return nil, fmt.Errorf("%w: end it, or take over from it with --takeover", err)
	case err != nil:
		return nil, err
	}
	return l, nil
}
