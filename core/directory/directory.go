// Package directory is octo.directory.v1.Directory, by which SDKs learn where instances are, make their own known, and say
// what they measured. It is free of transport: a proxy serves it to the applications beside it, and the control plane over
// TCP to those without a proxy, so that both answer alike. What they differ in are the parts of [Config]: where knowledge
// comes from, who registers, and who takes reports.
//
// A call goes by what its connection proves of its caller, [Caller], and not by what its messages say: nobody registers, or
// reports for, somebody else.
package directory

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/admission"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/report"
	"github.com/octomesh/octomesh/core/wire"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Target is the target by which the service is called.
const Target = "octo.directory"

// Config is a service's. There is one for each environment.
type Config struct {
	Environment string
	// Source is what snapshots say that they are from.
	Source directoryv1.WatchResponse_Source
	// Targets is what is known. Required.
	Targets Targets
	// Registrar makes instances known. nil: nobody can register here, and is told so.
	Registrar register.Registrar
	// Serves tells which targets a caller's process is attached with, and registers; the channel closes when that may
	// have changed. nil: any targets.
	Serves func(Caller) (targets []string, changed <-chan struct{})
	// Book adds up what SDKs measured. nil: one of the service's own, which has no windows and is in its metrics.
	Book *report.Book
	// Presence is told who watches. nil: nobody is.
	Presence *fleet.Presence
	// Reports takes what SDKs measured, beside the book. nil: nobody.
	Reports Reports
	// Interval is how often SDKs report while the load is low. 0: 10 s.
	Interval time.Duration
	// ReportsPerSecond is how many reports are taken; intervals grow so that no more come. 0: 2000.
	ReportsPerSecond int
	Limits           Limits
	Log              *slog.Logger
}

// Limits bound what callers hold open and how fast they come. Zeros mean the defaults.
type Limits struct {
	// StreamsPerSecond is how many streams may begin, StreamsAtOnce how many after a pause; others are refused
	// RESOURCE_EXHAUSTED with a time after which to come again. 0: 2000 and 4000.
	StreamsPerSecond, StreamsAtOnce int
	// Streams that are open. 0: 60,000.
	Streams int
	// Watches and registrations that are open by one connection. 0: 200 and 20.
	WatchesPerConnection, RegistrationsPerConnection int
	// Streams that are open by one verified identity. 0: 10,000.
	StreamsPerIdentity int
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.StreamsPerSecond, 2000)
	set(&l.StreamsAtOnce, 2*l.StreamsPerSecond)
	set(&l.Streams, 60_000)
	set(&l.WatchesPerConnection, 200)
	set(&l.RegistrationsPerConnection, 20)
	set(&l.StreamsPerIdentity, 10_000)
	return l
}

// Caller is who calls, as far as the connection shows it.
type Caller struct {
	// Connection names the connection, by which is counted what one caller holds open. It is comparable.
	Connection any
	// Application, Instance and Incarnation are those of the connection's HELLO. Incarnation 0: not known.
	Application, Instance string
	Incarnation           uint64
	// SDK and SDKVersion are of the HELLO too. Empty: not known.
	SDK, SDKVersion string
	// Identity is a SPIFFE id that TLS has proved. Empty: none.
	Identity string
}

// Process is the caller, for whoever asks who is here.
func (c Caller) Process() *controlv1.Process {
	return &controlv1.Process{
		Application: c.Application, Instance: c.Instance, Incarnation: c.Incarnation, Sdk: c.SDK, SdkVersion: c.SDKVersion,
	}
}

// Error is how a call ends that is not answered.
type Error struct {
	Code    wire.Code
	Message string
	// RetryAfter is when to come again; 0: nothing is said.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Message }

func errorf(code wire.Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Status is the status with which a call ends that err has ended, as origin says it; nil is OK.
func Status(err error, origin wire.Origin) wire.Status {
	if err == nil {
		return wire.Status{}
	}
	st := wire.Status{Code: wire.Unknown, Origin: origin, Disposition: wire.DispositionProcessed, Message: []byte(err.Error())}
	var e *Error
	if errors.As(err, &e) {
		st.Code, st.Message = e.Code, []byte(e.Message)
		st.RetryAfterMS = uint32(min(e.RetryAfter.Milliseconds(), 1<<32-1))
	}
	return st
}

// Service is a Directory. Its methods are safe for concurrent use.
type Service struct {
	cfg       Config
	admission *admission.Bucket
	pace      *report.Pace
	ownBook   bool
	stats     counters
	receivers sync.WaitGroup

	mu           sync.Mutex
	streams      int
	byConnection map[any]held
	byIdentity   map[string]int
}

// held counts what one connection holds open.
type held struct{ watches, registrations int }

type counters struct {
	watches, registrations                atomic.Int64
	snapshots, reports, turnedAway, wrong atomic.Uint64
}

// Stats are counts of a service.
type Stats struct {
	// Watches and Registrations are streams that are open.
	Watches, Registrations int64
	// Snapshots that were sent, Reports that were taken, and calls that were TurnedAway by a limit or Refused for what they
	// ask, since the service was made.
	Snapshots, Reports, TurnedAway, Refused uint64
}

// New makes a service. It has no goroutines of its own.
func New(cfg Config) (*Service, error) {
	if cfg.Targets == nil || cfg.Environment == "" {
		return nil, errors.New("directory: it needs an environment and a source of knowledge")
	}
	if cfg.Interval == 0 {
		cfg.Interval = report.DefaultInterval
	}
	if cfg.ReportsPerSecond == 0 {
		cfg.ReportsPerSecond = report.DefaultPerSecond
	}
	ownBook := cfg.Book == nil
	if ownBook {
		cfg.Book = report.NewBook(report.Config{})
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return &Service{
		cfg: cfg, admission: admission.NewBucket(float64(cfg.Limits.StreamsPerSecond), float64(cfg.Limits.StreamsAtOnce)),
		byConnection: make(map[any]held), byIdentity: make(map[string]int),
		pace: report.NewPace(cfg.Interval, cfg.ReportsPerSecond), ownBook: ownBook,
	}, nil
}

// Stats returns the counts.
func (s *Service) Stats() Stats {
	c := &s.stats
	return Stats{
		Watches: c.watches.Load(), Registrations: c.registrations.Load(), Snapshots: c.snapshots.Load(),
		Reports: c.reports.Load(), TurnedAway: c.turnedAway.Load(), Refused: c.wrong.Load(),
	}
}

// refuse counts a refusal for what was asked.
func (s *Service) refuse(code wire.Code, format string, args ...any) *Error {
	s.stats.wrong.Add(1)
	return errorf(code, format, args...)
}

// checkEnvironment refuses what is of another environment.
func (s *Service) checkEnvironment(asked string) *Error {
	if asked != "" && asked != s.cfg.Environment {
		return s.refuse(wire.InvalidArgument, "environment %q is asked for, and this is a Directory of %q", asked, s.cfg.Environment)
	}
	return nil
}

// checkIdentity refuses who speaks for somebody else than the connection belongs to.
func (s *Service) checkIdentity(c Caller, application, instance string, incarnation uint64) *Error {
	switch {
	case application != c.Application:
		return s.refuse(wire.PermissionDenied, "application %q is named, and the connection is of %q", application, c.Application)
	case instance != c.Instance:
		return s.refuse(wire.PermissionDenied, "instance %q is named, and the connection is of %q", instance, c.Instance)
	case c.Incarnation != 0 && incarnation != c.Incarnation:
		return s.refuse(wire.PermissionDenied, "incarnation %d is named, and the connection is of %d", incarnation, c.Incarnation)
	case c.Identity != "" && !identityOf(c.Identity, application):
		return s.refuse(wire.PermissionDenied, "application %q is named, and the certificate is of %s", application, c.Identity)
	}
	return nil
}
