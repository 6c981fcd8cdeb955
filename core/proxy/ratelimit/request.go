package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/octomesh/octomesh/core/proxy/policy"
)

// noWindow is how long what was granted holds if the service does not say when its window ends.
const noWindow = 100 * time.Millisecond

// errSilent is an answer that says nothing.
var errSilent = errors.New("the answer has no code")

// units are the times of limits that the protocol knows.
var units = map[time.Duration]typev3.RateLimitUnit{
	time.Second: typev3.RateLimitUnit_SECOND, time.Minute: typev3.RateLimitUnit_MINUTE,
	time.Hour: typev3.RateLimitUnit_HOUR, 24 * time.Hour: typev3.RateLimitUnit_DAY,
}

// request asks about counters and gives them the answer.
func (c *Client) request(ctx context.Context, batch []question) {
	r := &rlsv3.RateLimitRequest{Domain: batch[0].counter.Domain, HitsAddend: uint32(min(batch[0].hits, math.MaxUint32))}
	var timeout time.Duration
	for _, q := range batch {
		r.Descriptors = append(r.Descriptors, descriptor(&q.counter.Descriptor))
		timeout = max(timeout, q.counter.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sent := c.now()
	answer, err := c.ask(ctx, r)
	now := c.now()
	if err != nil {
		c.failed(ctx, batch, err, now)
		return
	}
	c.counts.requests.Add(1)
	if c.health.answered() {
		c.cfg.Log.Info("the rate limit service answers again")
	}
	for i, q := range batch {
		a := read(answer, i, len(batch), sent, now)
		c.counts.answered(a.Over, q.hits)
		c.end(q.counter, q.counter.Granted(a, now))
	}
}

// descriptor is how the protocol says what is asked about.
func descriptor(d *policy.Descriptor) *commonv3.RateLimitDescriptor {
	out := &commonv3.RateLimitDescriptor{}
	for i, key := range d.Keys {
		out.Entries = append(out.Entries, &commonv3.RateLimitDescriptor_Entry{Key: key, Value: d.Values[i]})
	}
	if d.Calls > 0 {
		out.Limit = &commonv3.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: d.Calls, Unit: units[d.Per]}
	}
	return out
}

// ask asks one service, or if it does not answer the next one, while there is time.
func (c *Client) ask(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	n := int32(len(c.services))
	first := c.current.Load()
	var errs []error
	for i := range n {
		at := (first + i) % n
		answer, err := c.services[at].ShouldRateLimit(ctx, r)
		if err == nil && answer.GetOverallCode() == rlsv3.RateLimitResponse_UNKNOWN {
			err = errSilent
		}
		if err == nil {
			return answer, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", c.cfg.Services[at].Address, err))
		c.current.CompareAndSwap(at, (at+1)%n)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// read takes what an answer says of one of its counters. What was asked for is granted only until the window ends in which
// that was counted: by the time when it was asked for, so that it never goes on for longer.
func read(answer *rlsv3.RateLimitResponse, i, of int, sent, now int64) policy.Answer {
	a := policy.Answer{Over: answer.GetOverallCode() == rlsv3.RateLimitResponse_OVER_LIMIT, Until: now + int64(noWindow)}
	if len(answer.GetStatuses()) != of {
		return a
	}
	st := answer.GetStatuses()[i]
	a.Over = a.Over && st.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT
	a.Remaining, a.Limit = int64(st.GetLimitRemaining()), int64(st.GetCurrentLimit().GetRequestsPerUnit())
	if reset := st.GetDurationUntilReset(); reset != nil {
		a.Until = sent + int64(reset.AsDuration())
	}
	return a
}

// failed tells counters that there was no answer.
func (c *Client) failed(ctx context.Context, batch []question, err error, now int64) {
	stopped := errors.Is(context.Cause(ctx), context.Canceled)
	c.counts.failed.Add(1)
	if !stopped && c.health.failed(now) {
		c.cfg.Log.Warn("the rate limit service does not answer: calls do as their limits' failure_mode says", "error", err)
	}
	for _, q := range batch {
		q.counter.Failed(now)
		c.end(q.counter, false)
	}
}
