package octomesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	"github.com/octomesh/octomesh/sdks/go/internal/directory"
)

// Registration is what a server says of its instance to the Directory, beside its name and its target. The zero value is
// what every server says that has a Directory: see [Server.Registration].
type Registration struct {
	// Off keeps the server from registering.
	Off bool
	// Address is "host:port" at which others reach the server directly. Default: the first TCP address that it listens
	// on, if that is of one host; a server that listens on all addresses of its host, as with ":7000", must name one, or it
	// gets no direct calls.
	Address string
	// Weight is its share of calls relative to the other instances. 0: the default, 100; below 0: no calls.
	Weight int
	// Zone is where it stands, for calls to the nearest. Default: its proxy's.
	Zone string
	// Tags are what subsets and lanes select by.
	Tags map[string]string
	// Changed is called with each new status, one after the other. It must not wait.
	Changed func(RegistrationStatus)
}

// WithRegistration sets what a server says of its instance, or keeps it from registering.
func WithRegistration(r Registration) ServerOption {
	return serverOption(func(c *config) { c.registration = r })
}

// WithDirectory names Directories of the control plane, "host:port" each: a server registers there that is attached to no proxy, and
// a channel asks there while its proxy does not answer, or it has none. With [WithTLS] they are called by TLS. Default: OCTO_DIRECTORY,
// with commas between several; none: a server without a proxy does not register.
func WithDirectory(addresses ...string) Option {
	return bothOption(func(c *config) { c.directory = addresses })
}

// RegistrationPhase is where a registration stands.
type RegistrationPhase uint8

// The phases.
const (
	RegistrationOff        = RegistrationPhase(directory.Off)        // the server has no Directory, or does not want to
	RegistrationConnecting = RegistrationPhase(directory.Connecting) // no stream stands; for 10 s what was said by the last one holds
	RegistrationPending    = RegistrationPhase(directory.Pending)    // it is said, and not in rotation yet
	RegistrationPublished  = RegistrationPhase(directory.Published)  // callers learn of the instance
	RegistrationSuperseded = RegistrationPhase(directory.Superseded) // a newer process has the instance's name; it is over
	RegistrationWithdrawn  = RegistrationPhase(directory.Withdrawn)  // the server has left, or was withdrawn; it is over
)

var phaseNames = [...]string{"off", "connecting", "pending", "published", "superseded", "withdrawn"}

// String returns the phase in a word.
func (p RegistrationPhase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// RegistrationStatus is how a server's registration fares.
type RegistrationStatus struct {
	Phase RegistrationPhase
	// Reason says for people what it waits for, or why it is over.
	Reason string
	// Err is how the last stream to the Directory ended, an [*Error]; nil while one stands that has said something.
	Err error
}

// directoryTarget is the target of Directories.
const directoryTarget = "octo.directory"

var registerMethod = Method{Service: "octo.directory.v1.Directory", Name: "Register", Kind: BidiStreaming}

type registerStream = BidiStream[directoryv1.RegisterRequest, directoryv1.RegisterResponse]

// leaveTimeout is how long a server that stops waits for the Directory to hear of it.
const leaveTimeout = time.Second

// registrar keeps one server registered.
type registrar struct {
	srv     *Server
	request *directoryv1.RegisterRequest

	mu      sync.Mutex
	state   directory.Registration
	err     error
	stream  *registerStream // that stands
	leaving bool
	over    chan struct{} // closed when nothing more is said
}

// ProcessIncarnation is the start of this process in nanoseconds since 1970, by which it tells itself from an earlier one of
// the same instance name.
func ProcessIncarnation() uint64 { return process.incarnation }

// Registration returns how the server's registration fares. A server registers its instance once it listens, and where it
// has a proxy is attached: with its proxy, else with the Directories of [WithDirectory]. It comes back after a lost stream,
// and says that it leaves before it stops ([Server.Shutdown]).
func (s *Server) Registration() RegistrationStatus {
	s.mu.Lock()
	r := s.registrar
	s.mu.Unlock()
	if r == nil {
		return RegistrationStatus{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status()
}

// status is the state as users see it. The lock must be held.
func (r *registrar) status() RegistrationStatus {
	return RegistrationStatus{RegistrationPhase(r.state.Phase), r.state.Reason, r.err}
}

// register begins to register the server, if it is to be. The server's lock must be held, and it must listen.
func (s *Server) register() {
	cfg := s.cfg
	if cfg.registration.Off || cfg.socket == "" && len(cfg.directory) == 0 {
		return
	}
	ch := newChannel(directoryTarget, cfg.forDirectory())
	if cfg.socket != "" {
		ch.path = newMeshPath(ch.cfg, cfg.socket)
	} else {
		ch.path = fixedPool(ch.cfg, ch.cfg.direct)
	}
	s.registrar = &registrar{srv: s, request: s.instance(), over: make(chan struct{})}
	s.wg.Go(func() { s.registrar.run(s.ctx, ch) })
}

// forDirectory is the configuration of the channel to the Directory.
func (c *config) forDirectory() *config {
	d := *c
	d.interceptors, d.direct, d.secure = nil, nil, c.secure.ofAny()
	for _, address := range c.directory {
		d.direct = append(d.direct, Endpoint{address, 1})
	}
	return &d
}

// instance is all that the server says of itself.
func (s *Server) instance() *directoryv1.RegisterRequest {
	r := &s.cfg.registration
	q := &directoryv1.RegisterRequest{
		Environment: s.cfg.environment, Application: s.cfg.application, Instance: s.cfg.instance, Incarnation: process.incarnation,
		Targets: []string{s.target}, DirectAddress: r.Address, Zone: r.Zone, Tags: r.Tags,
	}
	if q.DirectAddress == "" {
		q.DirectAddress = reachable(s.listeners)
	}
	if r.Weight != 0 {
		w := uint32(max(r.Weight, 0))
		q.Weight = &w
	}
	return q
}

// reachable is the first address that others can be told.
func reachable(listeners []net.Listener) string {
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
			return a.String()
		}
	}
	return ""
}

// run registers again and again until it is over.
func (r *registrar) run(ctx context.Context, ch *Channel) {
	defer close(r.over)
	defer ch.Close() //nolint:errcheck // it has no error
	for r.begin(ctx) {
		err := r.once(ctx, ch)
		wait, again := r.ended(err)
		if !again || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// begin waits until the server is attached, where it has a proxy. False: it stops.
func (r *registrar) begin(ctx context.Context) bool {
	s := r.srv
	if err := s.until(ctx, func() bool { return s.cfg.socket == "" || s.attached.Load() || s.stopping.Load() }); err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving {
		return false
	}
	r.state.Begin()
	return true
}

// once is one stream. nil: it is over.
func (r *registrar) once(ctx context.Context, ch *Channel) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := CallBidiStream[directoryv1.RegisterRequest, directoryv1.RegisterResponse](ctx, ch, &registerMethod, nil)
	if err != nil {
		return err
	}
	defer stream.Close()
	_ = stream.Send(r.request) // Receive says why, if it fails
	r.mu.Lock()
	leaving := r.leaving
	r.stream = stream
	r.mu.Unlock()
	if leaving {
		r.withdraw(stream)
	}
	for {
		m, err := stream.Receive()
		if err != nil {
			return err
		}
		if r.said(m) {
			return nil
		}
	}
}

// said books the Directory's word.
func (r *registrar) said(m *directoryv1.RegisterResponse) (over bool) {
	r.mu.Lock()
	before := r.status()
	r.err = nil
	over = r.state.Said(m.GetState(), m.GetReason())
	now := r.status()
	r.mu.Unlock()
	r.tell(before, now)
	return over
}

// ended books a stream's end, and returns when to come again.
func (r *registrar) ended(err error) (wait time.Duration, again bool) {
	r.mu.Lock()
	before := r.status()
	r.stream = nil
	if r.state.Over() || r.leaving {
		r.mu.Unlock()
		return 0, false
	}
	if errors.Is(err, io.EOF) {
		err = &Error{Code: Unavailable, Origin: OriginClientSDK, Disposition: DispositionProcessed, Message: "the Directory ended the registration's stream"}
	}
	e := wrapError(err)
	r.err = e
	wait = r.state.Ended(howEnded(e), e.RetryAfter, e.Message, rand.Float64())
	now := r.status()
	r.mu.Unlock()
	r.tell(before, now)
	return wait, true
}

// howEnded tells whether coming again soon makes sense.
func howEnded(e *Error) directory.Ended {
	switch {
	case e.Reason == ReasonProxyDraining:
		return directory.Moved
	case e.Code == Unavailable, e.Code == ResourceExhausted, e.Code == DeadlineExceeded, e.Code == Cancelled:
		return directory.Lost
	}
	return directory.Refused
}

// tell tells who wants to know of a change, and the log of a new trouble.
func (r *registrar) tell(before, now RegistrationStatus) {
	if before.Phase == now.Phase && before.Reason == now.Reason {
		return
	}
	if now.Err != nil && before.Err == nil {
		r.srv.cfg.log.Info("octomesh: the instance is not registered; trying on", "error", now.Err)
	}
	if f := r.srv.cfg.registration.Changed; f != nil {
		f(now)
	}
}

// leave withdraws the instance, and waits until the Directory has heard it: a second at most.
func (r *registrar) leave(ctx context.Context) {
	r.mu.Lock()
	stream, again := r.stream, r.leaving
	r.leaving = true
	r.mu.Unlock()
	if stream == nil || again {
		return
	}
	r.withdraw(stream)
	late := time.NewTimer(leaveTimeout)
	defer late.Stop()
	select {
	case <-r.over:
	case <-late.C:
	case <-ctx.Done():
	}
}

// withdraw says that the instance leaves. Receiving tells whether it was heard.
func (r *registrar) withdraw(stream *registerStream) {
	_ = stream.Send(&directoryv1.RegisterRequest{
		Environment: r.request.Environment, Application: r.request.Application, Instance: r.request.Instance,
		Incarnation: r.request.Incarnation, Targets: r.request.Targets, Deregister: true,
	})
	_ = stream.CloseSend()
}

// checkRegistration checks the options of registration.
func (c *config) checkRegistration() error {
	for _, address := range c.directory {
		if _, _, err := splitAddress(address); err != nil {
			return fmt.Errorf("of a Directory (from OCTO_DIRECTORY or WithDirectory): %w", err)
		}
	}
	if a := c.registration.Address; a != "" {
		if network, _, err := splitAddress(a); err != nil || network != "tcp" {
			return fmt.Errorf("octomesh: the address to register is %q: want host:port", a)
		}
	}
	return nil
}

// directories reads OCTO_DIRECTORY.
func directories() (all []string) {
	for _, a := range strings.Split(os.Getenv("OCTO_DIRECTORY"), ",") {
		if a = strings.TrimSpace(a); a != "" {
			all = append(all, a)
		}
	}
	return all
}
