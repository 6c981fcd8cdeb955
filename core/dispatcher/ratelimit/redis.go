package ratelimit

import (
	"context"
	"crypto/tls"
	_ "embed"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// script counts hits as window.take does, at once for all others and by Redis' own clock: servers may differ in theirs.
//
//go:embed take.lua
var script string

const (
	// redisDial is how long a connection to Redis may take, redisAnswer how long an answer.
	redisDial   = time.Second
	redisAnswer = time.Second
	// redisConnections is how many connections there are at most, redisWait how long a question waits for a free one.
	redisConnections = 32
	redisWait        = 100 * time.Millisecond
)

// RedisConfig says where Redis is.
type RedisConfig struct {
	// Address is "host:port" or "unix:/path". Several by commas are the nodes of a Redis Cluster, of which not all need be named.
	Address string
	// User and Password, if Redis wants them.
	User, Password string
	// TLS, if Redis speaks it.
	TLS *tls.Config
}

// Redis keeps counters in a Redis, from version 5 on, or in what speaks its protocol. Those of a domain are on one node of a
// cluster. It keeps nothing else and needs no persistence: a Redis that lost all begins new windows.
type Redis struct {
	client redis.UniversalClient
	script *redis.Script
}

// NewRedis returns a store. It connects when the first question comes.
func NewRedis(c RedisConfig) *Redis {
	o := &redis.UniversalOptions{
		Addrs: strings.Split(c.Address, ","), Username: c.User, Password: c.Password, TLSConfig: c.TLS, ClientName: "octo-ratelimit",
		DialTimeout: redisDial, ReadTimeout: redisAnswer, WriteTimeout: redisAnswer, ContextTimeoutEnabled: true,
		PoolSize: redisConnections, PoolTimeout: redisWait, DialerRetries: 1,
		// A question is not put again: it may have been counted. Whoever asked decides.
		MaxRetries: -1, MinRetryBackoff: -1, MaxRetryBackoff: -1,
	}
	if path, ok := strings.CutPrefix(c.Address, "unix:"); ok {
		o.Addrs = []string{path}
		o.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return &Redis{client: redis.NewUniversalClient(o), script: redis.NewScript(script)}
}

// Take implements [Store].
func (r *Redis) Take(ctx context.Context, hits []Hit) ([]Result, error) {
	keys, args := make([]string, len(hits)), make([]any, 0, 3*len(hits))
	for i, h := range hits {
		keys[i] = h.Key
		args = append(args, h.Limit, h.Per.Microseconds(), h.Hits)
	}
	said, err := r.script.Run(ctx, r.client, keys, args...).Int64Slice()
	if err != nil {
		return nil, err
	}
	if len(said) != 3*len(hits) {
		return nil, fmt.Errorf("redis said %d numbers of %d counters", len(said), len(hits))
	}
	out := make([]Result, len(hits))
	for i := range out {
		ok, remaining, reset := said[3*i], said[3*i+1], said[3*i+2]
		out[i] = Result{OK: ok == 1, Remaining: uint64(max(remaining, 0)), Reset: time.Duration(reset) * time.Microsecond}
	}
	return out, nil
}

// Close implements [Store].
func (r *Redis) Close() error { return r.client.Close() }
