// Package ratelimit asks a rate limit service, in Envoy's protocol (envoy.service.ratelimit.v3), about the counters of global
// limits. What a counter asks for and what an answer means to calls is in package policy; here is who is asked, how many
// questions go into one request, and what happens when nobody answers.
package ratelimit

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/proxy/policy"
)

const (
	// DefaultWorkers is how many requests are under way at once at most.
	DefaultWorkers = 8
	// maxBatch is how many counters one request asks about at most.
	maxBatch = 64
	// failuresToBreak is how many requests in a row must fail so that calls do not wait any more.
	failuresToBreak = 3
	// minRest and maxRest bound for how long the service is left alone then; it doubles with each request that fails.
	minRest = 250 * time.Millisecond
	maxRest = 5 * time.Second
)

// Service is one server.
type Service struct {
	// Address is for people.
	Address string
	Conn    grpc.ClientConnInterface
}

// Config says who is asked.
type Config struct {
	// Services count in one store. The first that answers is asked until it does not answer any more. At least one.
	Services []Service
	// Workers is how many requests are under way at once at most. 0: [DefaultWorkers].
	Workers int
	Log     *slog.Logger // nil: the default
}

// Client asks. It implements [policy.Asker].
type Client struct {
	cfg      Config
	services []rlsv3.RateLimitServiceClient
	now      func() int64
	current  atomic.Int32 // index of the service that is asked first

	mu      sync.Mutex
	wake    sync.Cond // of mu
	queue   []*policy.Counter
	ready   [][]question
	stopped bool

	health health
	counts counts
}

// New returns a client, which asks nobody before Run.
func New(cfg Config) *Client {
	if cfg.Workers == 0 {
		cfg.Workers = DefaultWorkers
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Client{cfg: cfg}
	c.wake.L = &c.mu
	for _, s := range cfg.Services {
		c.services = append(c.services, rlsv3.NewRateLimitServiceClient(s.Conn))
	}
	return c
}

// Run asks until ctx ends. Now is the clock of the calls.
func (c *Client) Run(ctx context.Context, now func() int64) {
	c.now = now
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.stopped = true
		c.mu.Unlock()
		c.wake.Broadcast()
	})
	defer stop()
	var workers sync.WaitGroup
	for range c.cfg.Workers {
		workers.Go(func() { c.work(ctx) })
	}
	workers.Wait()
}

// Ask implements [policy.Asker].
func (c *Client) Ask(counter *policy.Counter) {
	if counter.Queue() {
		c.put(counter)
	}
}

// put queues a counter that is marked as queued.
func (c *Client) put(counter *policy.Counter) {
	c.mu.Lock()
	c.queue = append(c.queue, counter)
	c.mu.Unlock()
	c.wake.Signal()
}

// Down implements [policy.Asker].
func (c *Client) Down(now int64) (down, probe bool) { return c.health.down(now) }

// question is a counter of a request.
type question struct {
	counter *policy.Counter
	hits    int64
}

// work makes requests until the client stops.
func (c *Client) work(ctx context.Context) {
	var asked []*policy.Counter
	for {
		var batch []question
		if asked, batch = c.next(asked[:0]); len(asked)+len(batch) == 0 {
			return // stopped
		}
		if len(batch) == 0 {
			batch = c.begin(asked)
		}
		if len(batch) > 0 {
			c.request(ctx, batch)
		}
	}
}

// next waits for counters that somebody asked about, and takes some of them, or a request that is ready to go. Neither: the
// client stops.
func (c *Client) next(asked []*policy.Counter) ([]*policy.Counter, []question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue)+len(c.ready) == 0 && !c.stopped {
		c.wake.Wait()
	}
	if c.stopped {
		return nil, nil
	}
	if n := len(c.ready); n > 0 {
		batch := c.ready[n-1]
		c.ready[n-1] = nil
		c.ready = c.ready[:n-1]
		return nil, batch
	}
	n := min(len(c.queue), maxBatch)
	asked = append(asked, c.queue[:n]...)
	c.queue = slices.Delete(c.queue, 0, n)
	return asked, nil
}

// begin makes requests of counters: a request has those of one domain for which as many hits are asked, as it has one number
// of hits, and servers need not know those of single descriptors. It returns the first request; other workers make the
// others.
func (c *Client) begin(asked []*policy.Counter) []question {
	now := c.now()
	var groups [][]question
	for _, q := range asked {
		hits := q.Begin(now, c.health.least())
		if hits == 0 {
			c.end(q, false)
			continue
		}
		i := slices.IndexFunc(groups, func(g []question) bool { return g[0].hits == hits && g[0].counter.Domain == q.Domain })
		if i < 0 {
			groups = append(groups, []question{{q, hits}})
		} else {
			groups[i] = append(groups[i], question{q, hits})
		}
	}
	if len(groups) == 0 {
		return nil
	}
	if others := groups[1:]; len(others) > 0 {
		c.mu.Lock()
		c.ready = append(c.ready, others...)
		c.mu.Unlock()
		c.wake.Broadcast()
	}
	return groups[0]
}

// end ends the question about a counter. It is asked about again if somebody wants that.
func (c *Client) end(q *policy.Counter, again bool) {
	if q.End() || again && q.Queue() {
		c.put(q)
	}
}
