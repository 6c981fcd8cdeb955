// Package ratelimit counts calls for proxies that limit them together: it serves Envoy's rate limit protocol
// (envoy.service.ratelimit.v3) to our proxies and to stock Envoys, over counters in Redis or in memory.
//
// The figures of a limit come with the question, as the override that the protocol has for them: so our proxies ask, whose
// policies have them. For questions without, such as stock Envoys', a server has [Rules] of its own.
//
// A main mounts it on its gRPC server, beside any other service:
//
//	limits := ratelimit.New(ratelimit.Config{Store: ratelimit.NewRedis(ratelimit.RedisConfig{Address: "redis:6379"})})
//	limits.Register(server)
//	defer limits.Close()
//
// Several servers count as one if they have one Redis. With [Memory] each counts for itself.
package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Bounds of a question.
const (
	maxDescriptors = 1000
	maxEntries     = 64
	maxText        = 4096 // bytes of a key, a value and the domain, each
	maxHits        = 1_000_000_000

	// longest is how long a question may take whose asker does not say.
	longest = time.Second
	// logEvery is how often at most it is said that the store does not answer.
	logEvery = int64(10 * time.Second)
)

// Config is what a server is made of.
type Config struct {
	// Store has the counters. The server closes it.
	Store Store
	// Rules are limits of the server's own. Nil: none; see [Server.SetRules].
	Rules *Rules
	Log   *slog.Logger // nil: the default
}

// Server implements envoy.service.ratelimit.v3.RateLimitService.
//
// Each descriptor of a question is counted for itself, as the protocol has it. What is over its limit is not counted at all, and
// its status says in limit_remaining what would have been. If the store does not answer the question ends UNAVAILABLE, and whoever asked
// decides what becomes of calls.
type Server struct {
	rlsv3.UnimplementedRateLimitServiceServer
	cfg    Config
	rules  atomic.Pointer[Rules]
	logged atomic.Int64
	begun  time.Time
	counts struct{ questions, failed, granted, over, would, unlimited atomic.Uint64 }
}

// New returns a server.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Server{cfg: c, begun: time.Now()}
	s.logged.Store(-logEvery)
	s.rules.Store(c.Rules)
	return s
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) { rlsv3.RegisterRateLimitServiceServer(g, s) }

// SetRules replaces the server's own limits. Counters go on where the time of a limit stays.
func (s *Server) SetRules(r *Rules) { s.rules.Store(r) }

// Close closes the store. No question may be open.
func (s *Server) Close() error { return s.cfg.Store.Close() }

// Stats is what a server has done.
type Stats struct {
	// Questions were answered, Failed were not since the store did not answer.
	Questions, Failed uint64
	// Descriptors of questions: Granted, Over their limit, WouldBeOver but for a dry run, and Unlimited: no limit was found.
	Granted, Over, WouldBeOver, Unlimited uint64
}

// Stats returns what the server has done.
func (s *Server) Stats() Stats {
	c := &s.counts
	return Stats{c.questions.Load(), c.failed.Load(), c.granted.Load(), c.over.Load(), c.would.Load(), c.unlimited.Load()}
}

// ShouldRateLimit implements the service.
func (s *Server) ShouldRateLimit(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	if err := check(r); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	out := &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}
	rules := s.rules.Load()
	limits := make([]*rule, len(r.GetDescriptors()))
	var hits []Hit
	for i, d := range r.GetDescriptors() {
		out.Statuses = append(out.Statuses, &rlsv3.RateLimitResponse_DescriptorStatus{Code: rlsv3.RateLimitResponse_OK})
		if limits[i] = limit(rules, r.GetDomain(), d); limits[i] != nil {
			hits = append(hits, Hit{key(r.GetDomain(), d, limits[i].per), limits[i].limit, limits[i].per, addend(r, d)})
		}
	}
	s.counts.unlimited.Add(uint64(len(limits) - len(hits)))
	if len(hits) > 0 {
		results, err := s.cfg.Store.Take(ctx, hits)
		if err != nil {
			return nil, s.unavailable(ctx, err)
		}
		s.fill(out, limits, results)
	}
	s.counts.questions.Add(1)
	return out, nil
}

// fill writes results into the statuses of those descriptors that have a limit.
func (s *Server) fill(out *rlsv3.RateLimitResponse, limits []*rule, results []Result) {
	for i, l := range limits {
		if l == nil {
			continue
		}
		r, st := results[0], out.Statuses[i]
		results = results[1:]
		st.CurrentLimit = &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: uint32(l.limit), Unit: unitOf(l.per)}
		st.LimitRemaining = uint32(min(r.Remaining, math.MaxUint32))
		st.DurationUntilReset = durationpb.New(r.Reset)
		switch {
		case r.OK:
			s.counts.granted.Add(1)
		case l.dryRun:
			s.counts.would.Add(1)
		default:
			s.counts.over.Add(1)
			st.Code, out.OverallCode = rlsv3.RateLimitResponse_OVER_LIMIT, rlsv3.RateLimitResponse_OVER_LIMIT
		}
	}
}

// unavailable is the answer where the store gave none.
func (s *Server) unavailable(ctx context.Context, err error) error {
	s.counts.failed.Add(1)
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	now := int64(time.Since(s.begun))
	if last := s.logged.Load(); now-last >= logEvery && s.logged.CompareAndSwap(last, now) {
		s.cfg.Log.Error("the store of rate limits does not answer: proxies do as their limits' failure mode says", "error", err)
	}
	return status.Errorf(codes.Unavailable, "the store of rate limits does not answer: %v", err)
}

// check refuses questions that ask nothing, or too much.
func check(r *rlsv3.RateLimitRequest) error {
	switch n := len(r.GetDescriptors()); {
	case r.GetDomain() == "":
		return errors.New("the domain is missing")
	case len(r.GetDomain()) > maxText:
		return errors.New("the domain is longer than 4096 bytes")
	case n == 0:
		return errors.New("there is no descriptor")
	case n > maxDescriptors:
		return errors.New("there are more than 1000 descriptors")
	case r.GetHitsAddend() > maxHits:
		return errors.New("hits_addend is more than 1000000000")
	}
	for _, d := range r.GetDescriptors() {
		if len(d.GetEntries()) == 0 || len(d.GetEntries()) > maxEntries {
			return errors.New("a descriptor needs 1 to 64 entries")
		}
		for _, e := range d.GetEntries() {
			if e.GetKey() == "" || len(e.GetKey()) > maxText || len(e.GetValue()) > maxText {
				return errors.New("an entry needs a key, and neither key nor value may be longer than 4096 bytes")
			}
		}
		if d.GetHitsAddend().GetValue() > maxHits {
			return errors.New("a descriptor's hits_addend is more than 1000000000")
		}
		if l := d.GetLimit(); l != nil && unit(l.GetUnit()) == 0 {
			return errors.New("a descriptor's limit has no unit")
		}
	}
	return nil
}

// limit is the limit of a descriptor: what it brings, or the server's own. Nil: it is not limited.
func limit(rules *Rules, domain string, d *commonv3.RateLimitDescriptor) *rule {
	if l := d.GetLimit(); l != nil {
		per := unit(l.GetUnit()) * time.Duration(min(max(l.GetUnitMultiplier().GetValue(), 1), 1000))
		return &rule{limit: uint64(l.GetRequestsPerUnit()), per: per}
	}
	if found := rules.of(domain, d); found != nil && !found.unlimited {
		return found
	}
	return nil
}

// addend is how many hits a descriptor brings.
func addend(r *rlsv3.RateLimitRequest, d *commonv3.RateLimitDescriptor) int64 {
	n := max(int64(r.GetHitsAddend()), 1)
	if own := d.GetHitsAddend(); own != nil {
		n = int64(own.GetValue())
	}
	if d.GetIsNegativeHits() {
		n = -n
	}
	return n
}

// key names a counter in the store. Its length does not grow with what it is of. A Redis Cluster has what stands in braces on one
// node, so that one script may count all of a question.
func key(domain string, d *commonv3.RateLimitDescriptor, per time.Duration) string {
	of := sha256.Sum256([]byte(domain))
	h := sha256.New()
	var b []byte
	text := func(s string) { b = append(binary.AppendUvarint(b[:0], uint64(len(s))), s...); h.Write(b) }
	text(domain)
	text(per.String())
	for _, e := range d.GetEntries() {
		text(e.GetKey())
		text(e.GetValue())
	}
	return "octo:limit:{" + hex.EncodeToString(of[:6]) + "}:" + hex.EncodeToString(h.Sum(b[:0])[:16])
}

// unit is a time of the protocol; 0: none.
func unit(u typev3.RateLimitUnit) time.Duration {
	const day = 24 * time.Hour
	switch u {
	case typev3.RateLimitUnit_SECOND:
		return time.Second
	case typev3.RateLimitUnit_MINUTE:
		return time.Minute
	case typev3.RateLimitUnit_HOUR:
		return time.Hour
	case typev3.RateLimitUnit_DAY:
		return day
	case typev3.RateLimitUnit_MONTH:
		return 30 * day
	case typev3.RateLimitUnit_YEAR:
		return 365 * day
	}
	return 0
}

// unitOf is how the protocol says a time.
func unitOf(per time.Duration) rlsv3.RateLimitResponse_RateLimit_Unit {
	for _, u := range []typev3.RateLimitUnit{
		typev3.RateLimitUnit_SECOND, typev3.RateLimitUnit_MINUTE, typev3.RateLimitUnit_HOUR, typev3.RateLimitUnit_DAY, typev3.RateLimitUnit_MONTH, typev3.RateLimitUnit_YEAR,
	} {
		if unit(u) == per {
			return rlsv3.RateLimitResponse_RateLimit_Unit(u)
		}
	}
	return rlsv3.RateLimitResponse_RateLimit_UNKNOWN
}
