package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
)

const ms = int64(time.Millisecond)

// counting is a rate limit service with one fixed window after the other, as the stock one has. What is over the limit counts too.
type counting struct {
	limit, per int64
	hits       map[string]int64 // by values and window
	asked      int
}

func (s *counting) answer(c *policy.Counter, hits, now int64) policy.Answer {
	s.asked++
	key := fmt.Sprint(c.Values, now/s.per)
	s.hits[key] += hits
	a := policy.Answer{Limit: s.limit, Until: (now/s.per + 1) * s.per, Remaining: max(s.limit-s.hits[key], 0)}
	a.Over = s.hits[key] > s.limit
	return a
}

// node is one proxy with a global limit and calls that come to it.
type node struct {
	t       *testing.T
	limit   *policy.GlobalLimit
	queue   []*policy.Counter
	flying  []flight
	service *counting
	now     int64
	latency int64 // each way

	down, probe bool
	passed      map[int64]int64 // by window
	refused     int64
	delays      []int64
}

// flight is a question that is under way.
type flight struct {
	counter *policy.Counter
	hits    int64
	sent    int64
	there   bool
	answer  policy.Answer
}

func newNode(t *testing.T, rules policy.GlobalRules, s *counting) *node {
	n := &node{t: t, service: s, latency: ms / 2, passed: make(map[int64]int64)}
	if rules.Timeout == 0 {
		rules.Timeout = 50 * time.Millisecond
	}
	if rules.MaxCounters == 0 {
		rules.MaxCounters = 100
	}
	rules.Name, rules.Domain = "l", "octo"
	n.limit = policy.NewGlobalLimit(rules, n, &policy.Counters{})
	return n
}

func (n *node) Ask(c *policy.Counter) {
	if c.Queue() {
		n.queue = append(n.queue, c)
	}
}

func (n *node) Down(int64) (down, probe bool) {
	probe, n.probe = n.probe, false
	return n.down, probe
}

// visitor is a call that waits.
type visitor struct {
	n       *node
	r       policy.Request
	arrived int64
	lot     *policy.Bounded
}

func (v *visitor) Resume() { v.check() }

// check asks the policy, and does with the call what the data path does.
func (v *visitor) check() {
	v.r.Now = v.n.now
	switch d := v.n.limit.Check(v.r); d.Verdict {
	case policy.Continue:
		v.n.passed[v.n.now/v.n.service.per]++
		v.n.delays = append(v.n.delays, v.n.now-v.arrived)
	case policy.Refuse:
		v.n.refused++
	default:
		if v.r.Since == 0 {
			v.r.Since = v.n.now
		}
		if v.lot = d.Lot; !d.Lot.Add(v) {
			v.n.t.Fatal("a call found no room")
		}
		d.Arrange.Arrange()
	}
}

func (n *node) arrive(r policy.Request) *visitor {
	v := &visitor{n: n, r: r, arrived: n.now}
	v.check()
	return v
}

// step lets questions leave, arrive and be answered until a time.
func (n *node) step(now int64) {
	n.now = now
	for len(n.queue) > 0 {
		c := n.queue[0]
		n.queue = n.queue[1:]
		if hits := c.Begin(now, 0); hits > 0 {
			n.flying = append(n.flying, flight{counter: c, hits: hits, sent: now})
		} else if c.End() {
			n.queue = append(n.queue, c)
		}
	}
	var rest []flight
	due := n.flying
	n.flying = nil
	for _, f := range due {
		if !f.there && now >= f.sent+n.latency {
			f.there, f.answer = true, n.service.answer(f.counter, f.hits, now)
			f.answer.Until -= now - f.sent // the client's cautious way to know when the window ends
		}
		if !f.there || now < f.sent+2*n.latency {
			rest = append(rest, f)
			continue
		}
		if again := f.counter.Granted(f.answer, now); f.counter.End() || again && f.counter.Queue() {
			n.queue = append(n.queue, f.counter)
		}
	}
	n.flying = append(n.flying, rest...)
}

// TestProxiesTogetherStayWithinTheLimitAndUseIt simulates proxies with one limit: in no window may more calls pass than it says, and
// where there are enough calls few less.
func TestProxiesTogetherStayWithinTheLimitAndUseIt(t *testing.T) {
	t.Parallel()
	const (
		seconds  = 4
		maxAsked = 110 // questions a second and proxy
	)
	for _, c := range []struct {
		name  string
		limit uint32
		rates []float64 // calls a second that come to each proxy
		least float64   // share of min(limit, what comes) that must pass from the second window on
	}{
		{"one proxy under the limit", 1000, []float64{500}, 1},
		{"one proxy over the limit", 100, []float64{1000}, 1},
		{"three over the limit", 100, []float64{100, 100, 100}, 0.99},
		{"three with uneven load", 1000, []float64{2000, 50, 5}, 0.99},
		{"thirty over the limit", 1000, rates(30, 100), 0.99},
		{"thirty under the limit", 10_000, rates(30, 100), 0.999},
		{"fast", 7000, []float64{5000, 5000, 5000}, 0.99},
		{"few calls", 10, []float64{20, 20, 20}, 0.99},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &counting{limit: int64(c.limit), per: int64(time.Second), hits: map[string]int64{}}
			random := rand.New(rand.NewPCG(1, 2))
			var nodes []*node
			offered := 0.0
			for _, r := range c.rates {
				nodes = append(nodes, newNode(t, policy.GlobalRules{Calls: c.limit, Per: time.Second}, s))
				offered += r
			}
			const tick = ms / 10
			for now := s.per; now < (seconds+1)*s.per; now += tick {
				for i, n := range nodes {
					n.step(now)
					for come := c.rates[i] * float64(tick) / 1e9; come > 0; come-- {
						if random.Float64() < come {
							n.arrive(call("a", "Get", now))
						}
					}
				}
			}
			for w := int64(1); w <= seconds; w++ {
				var sum int64
				for _, n := range nodes {
					sum += n.passed[w]
				}
				want := min(offered*0.9, float64(c.limit)) * c.least // arrivals are random
				if sum > int64(c.limit) || w > 1 && float64(sum) < want {
					t.Errorf("window %d: %d passed of a limit of %d; %.0f come a second, %.0f should pass", w, sum, c.limit, offered, want)
				}
			}
			if most := maxAsked * seconds * len(nodes); s.asked > most {
				t.Errorf("%d questions, want at most %d", s.asked, most)
			}
			slow, all := 0, 0
			for _, n := range nodes {
				for _, d := range n.delays {
					if all++; d > 0 {
						slow++
					}
				}
			}
			t.Logf("%d questions a second and proxy, %.1f %% of %d calls that passed had waited", s.asked/seconds/len(nodes), 100*float64(slow)/float64(all), all)
		})
	}
}

func rates(n int, each float64) (all []float64) {
	for range n {
		all = append(all, each)
	}
	return all
}
