package plane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/dispatcher/ratelimit"
)

// RateLimits says how the Dispatcher counts rate limits for proxies.
type RateLimits struct {
	// Redis is where counters are: "host:port" or "unix:/path"; several by commas are a cluster's. Empty: with an embedded etcd, where
	// this is the only process, they are in memory; otherwise the Dispatcher counts nothing.
	Redis string
	// User and Password, if Redis wants them.
	User, Password string
	// Authorities are those of Redis' certificate (PEM file). Empty: no TLS.
	Authorities string
	// File has limits of the service's own, octo.resource.v1.RateLimitTable in YAML. It is read again on SIGHUP. Empty: none.
	File string
}

// limits starts the rate limit service; nil: none is asked for.
func (p *Plane) limits() (*ratelimit.Server, error) {
	l := p.cfg.RateLimits
	switch {
	case l.Redis == "" && (l.User != "" || l.Authorities != ""):
		return nil, usage("--redis-user and --redis-authorities are for --redis: give that too")
	case l.Redis == "" && p.cfg.Store.Data == "" && l.File != "":
		return nil, usage("--rate-limits needs --redis, where several processes count together")
	case l.Redis == "" && p.cfg.Store.Data == "":
		return nil, nil
	}
	c := ratelimit.Config{Log: p.cfg.Log}
	if l.File != "" {
		var err error
		if c.Rules, err = ratelimit.ReadRules(l.File); err != nil {
			return nil, usage("--rate-limits: %v", err)
		}
	}
	c.Store = ratelimit.NewMemory(nil)
	if l.Redis != "" {
		secure, err := redisTLS(l.Authorities)
		if err != nil {
			return nil, err
		}
		redis.SetLogger(redisLog{p.cfg.Log}) // the service says itself, and less often, that Redis does not answer
		c.Store = ratelimit.NewRedis(ratelimit.RedisConfig{Address: l.Redis, User: l.User, Password: l.Password, TLS: secure})
	}
	return ratelimit.New(c), nil
}

func redisTLS(authorities string) (*tls.Config, error) {
	if authorities == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(authorities)
	if err != nil {
		return nil, usage("--redis-authorities: %v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, usage("--redis-authorities: %s has no certificate", authorities)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// addLimits puts the service into a role.
func (p *Plane) addLimits(r *role, s *ratelimit.Server) {
	register, closing := r.register, r.close
	r.register = func(g grpc.ServiceRegistrar) { register(g); s.Register(g) }
	r.close = func() { closing(); _ = s.Close() }
	r.metrics = append(r.metrics, limitMetrics(s))
	if p.cfg.RateLimits.File != "" {
		r.run = func(ctx context.Context) { p.followLimits(ctx, s) }
	}
}

// followLimits reads the service's own limits again on SIGHUP, until ctx is done.
func (p *Plane) followLimits(ctx context.Context, s *ratelimit.Server) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
		}
		rules, err := ratelimit.ReadRules(p.cfg.RateLimits.File)
		if err != nil {
			p.cfg.Log.Error("the rate limits were not read again; the last good ones stay", "error", err)
			continue
		}
		s.SetRules(rules)
		p.cfg.Log.Info("rate limits read again", "file", p.cfg.RateLimits.File)
	}
}

// redisLog takes what the Redis client says of its connections.
type redisLog struct{ *slog.Logger }

// Printf implements the client's logging.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.DebugContext(ctx, fmt.Sprintf(format, args...))
}

func limitMetrics(s *ratelimit.Server) prometheus.Collector {
	_, counter := named[ratelimit.Stats, uint64]("octo_ratelimit_")
	return family[ratelimit.Stats]{s.Stats, []value[ratelimit.Stats]{
		counter("questions", "Questions about rate limits that were answered.", func(s ratelimit.Stats) uint64 { return s.Questions }),
		counter("questions_failed", "Questions that were not, since the store did not answer.", func(s ratelimit.Stats) uint64 { return s.Failed }),
		counter("granted", "Descriptors of questions that were within their limit.", func(s ratelimit.Stats) uint64 { return s.Granted }),
		counter("over", "Descriptors that were over their limit.", func(s ratelimit.Stats) uint64 { return s.Over }),
		counter("would_be_over", "Descriptors that were over a limit in a dry run.", func(s ratelimit.Stats) uint64 { return s.WouldBeOver }),
		counter("unlimited", "Descriptors for which there was no limit.", func(s ratelimit.Stats) uint64 { return s.Unlimited }),
	}}
}
