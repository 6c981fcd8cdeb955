// Package callers says who may speak to a Pilot, for whom, and how much: a proxy proves by TLS that it is whom it says
// to be, and none of them can take what the others need.
package callers

import (
	"context"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/admission"
	"github.com/octomesh/octomesh/core/transport/identity"
)

// Domain and reasons of the errors' google.rpc.ErrorInfo.
const (
	Domain = "octomesh"
	// ReasonIdentity: the caller is not whom it says to be. Metadata: identity, environment, instance.
	ReasonIdentity = "IDENTITY"
	// ReasonStreams: it has as many streams as one may have. Metadata: limit.
	ReasonStreams = "STREAMS_PER_IDENTITY"
	// ReasonOpens: it has begun as many streams as one may begin in a time. Metadata: limit, a minute.
	ReasonOpens = "OPENS_PER_IDENTITY"
)

// Config has the limits. What is 0 takes its default.
type Config struct {
	// Prove wants an identity that TLS has proved, and that is the proxy's. Else everybody is whom it says to be.
	Prove bool
	// MaySpeakForAll tells whether an identity may speak for any proxy of its environment: the control plane's own.
	// nil: none may.
	MaySpeakForAll func(identity.ID) error
	// Streams that one identity may have open. 0: 8; a proxy has two, and as many again while it is replaced or while
	// lost ones have not been noticed.
	Streams int
	// OpensPerMinute is how many one identity may begin in a minute, and at once after a pause. 0: 120.
	OpensPerMinute int
	// Stock are those of stock xDS clients, which count apart. 0: 100, as gRPC has a stream for each target that it calls.
	Stock int
	// StockOpensPerMinute is how many of those one identity may begin in a minute. 0: 600.
	StockOpensPerMinute int
	// Now is the clock. nil: time.Now.
	Now func() time.Time
}

// Callers are those who have streams, or had a moment ago. Make it with [New].
type Callers struct {
	cfg Config

	mu      sync.Mutex
	known   map[string]*caller
	cleared int // how many were known after the last clearing
	stats   Stats
}

type caller struct {
	open int
	last time.Time
	rate *admission.Bucket
}

// Stats are counts.
type Stats struct {
	// Known callers, and streams that they have open.
	Known, Open int
	// Strangers are streams whose caller was not whom it said to be, Turned those of callers beyond a limit.
	Strangers, Turned uint64
}

// New makes one.
func New(cfg Config) *Callers {
	if cfg.Streams == 0 {
		cfg.Streams = 8
	}
	if cfg.OpensPerMinute == 0 {
		cfg.OpensPerMinute = 120
	}
	if cfg.Stock == 0 {
		cfg.Stock = 100
	}
	if cfg.StockOpensPerMinute == 0 {
		cfg.StockOpensPerMinute = 600
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Callers{cfg: cfg, known: make(map[string]*caller)}
}

// Stats returns the counts.
func (c *Callers) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Known = len(c.known)
	for _, k := range c.known {
		s.Open += k.open
	}
	return s
}

// Enter lets a stream in that says to be of an instance in an environment; leave must be called at its end. The error is
// a status, with an ErrorInfo, and where it is of use to come again with a RetryInfo.
func (c *Callers) Enter(ctx context.Context, environment, instance string) (leave func(), err error) {
	return c.enter(ctx, environment, instance, limits{"", c.cfg.Streams, c.cfg.OpensPerMinute})
}

// EnterStock is Enter for the streams of a stock xDS client.
func (c *Callers) EnterStock(ctx context.Context, environment, instance string) (leave func(), err error) {
	return c.enter(ctx, environment, instance, limits{" by stock xDS", c.cfg.Stock, c.cfg.StockOpensPerMinute})
}

// limits are those of one identity's streams of a sort.
type limits struct {
	sort                    string // behind the name
	streams, opensPerMinute int
}

func (c *Callers) enter(ctx context.Context, environment, instance string, l limits) (leave func(), err error) {
	name, err := c.name(ctx, environment, instance)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats.Strangers++
		return nil, err
	}
	now := c.cfg.Now()
	name += l.sort
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[name]
	if k == nil {
		c.clear(now)
		k = &caller{rate: admission.NewBucket(float64(l.opensPerMinute)/60, float64(l.opensPerMinute))}
		c.known[name] = k
	}
	k.last = now
	if k.open >= l.streams {
		c.stats.Turned++
		return nil, limited(ReasonStreams, l.streams, comeAgain, "%s has %d streams open here, which is as many as one may have: end others first", name, k.open)
	}
	if wait := k.rate.Take(now); wait > 0 {
		c.stats.Turned++
		return nil, limited(ReasonOpens, l.opensPerMinute, wait, "%s may begin %d streams a minute: come again later", name, l.opensPerMinute)
	}
	k.open++
	return sync.OnceFunc(func() { c.leave(k) }), nil
}

// comeAgain is when one who has too many streams may try again: by then some may have been found dead.
const comeAgain = 10 * time.Second

func (c *Callers) leave(k *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.open--
	k.last = c.cfg.Now()
}

// clear forgets those whose limits are whole again, when there are twice as many as after the last time.
func (c *Callers) clear(now time.Time) {
	if len(c.known) < max(1024, 2*c.cleared) {
		return
	}
	for name, k := range c.known {
		if k.open == 0 && now.Sub(k.last) > time.Minute {
			delete(c.known, name)
		}
	}
	c.cleared = len(c.known)
}

// name is whose limits count: the proved identity, or without TLS what it says to be.
func (c *Callers) name(ctx context.Context, environment, instance string) (string, error) {
	if !c.cfg.Prove || trusted(ctx) {
		return environment + "/" + instance, nil
	}
	id, err := Of(ctx)
	if err != nil {
		return "", stranger(codes.Unauthenticated, err, identity.ID{}, environment, instance)
	}
	err = identity.SpeaksFor(id, environment, instance)
	if err != nil && id.Environment == environment && c.cfg.MaySpeakForAll != nil && c.cfg.MaySpeakForAll(id) == nil {
		return id.String() + " for " + instance, nil
	}
	if err != nil {
		return "", stranger(codes.PermissionDenied, err, id, environment, instance)
	}
	return id.String(), nil
}

type ownKey struct{}

// Own marks a call that comes from this very process: it needs to prove nothing.
func Own(ctx context.Context) context.Context { return context.WithValue(ctx, ownKey{}, true) }

func trusted(ctx context.Context) bool {
	own, _ := ctx.Value(ownKey{}).(bool)
	return own
}

// Of is the identity that TLS has proved of a call's peer.
func Of(ctx context.Context) (identity.ID, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			return identity.PeerOf(info.State)
		}
	}
	return identity.ID{}, errNoTLS
}

type noTLS struct{}

func (noTLS) Error() string { return "the connection is not encrypted: nobody is proved by it" }

var errNoTLS = noTLS{}

func stranger(code codes.Code, why error, id identity.ID, environment, instance string) error {
	about := map[string]string{"environment": environment, "instance": instance}
	if id != (identity.ID{}) {
		about["identity"] = id.String()
	}
	return detailed(status.New(code, why.Error()), &errdetails.ErrorInfo{Reason: ReasonIdentity, Domain: Domain, Metadata: about}, 0)
}

func limited(reason string, limit int, wait time.Duration, format string, args ...any) error {
	return detailed(status.Newf(codes.ResourceExhausted, format, args...), &errdetails.ErrorInfo{
		Reason: reason, Domain: Domain, Metadata: map[string]string{"limit": strconv.Itoa(limit)},
	}, wait)
}

func detailed(s *status.Status, info *errdetails.ErrorInfo, wait time.Duration) error {
	with, err := s.WithDetails(info)
	if err == nil && wait > 0 {
		with, err = with.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	if err != nil {
		return s.Err()
	}
	return with.Err()
}
