package meshtest_test

import (
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/octomesh/octomesh/core/dispatcher/ratelimit"
	"github.com/octomesh/octomesh/core/dispatcher/ratelimit/redistest"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	client "github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// limitService is the control plane's rate limit service on a Redis, at an address.
func limitService(t *testing.T, redis *redistest.Server) string {
	t.Helper()
	s := ratelimit.New(ratelimit.Config{
		Store: ratelimit.NewRedis(ratelimit.RedisConfig{Address: redis.Address()}), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	g := grpc.NewServer()
	s.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done; _ = s.Close() })
	return l.Addr().String()
}

// limitedMesh is proxies of callers, each with a policy of a global limit and a rate limit service of its own, and one server
// that counts who called in which second.
type limitedMesh struct {
	t       *testing.T
	proxies []*meshtest.Proxy
	mu      sync.Mutex
	served  map[string]map[int64]int // by caller and second
	refused atomic.Int64
	failed  atomic.Int64
}

func newLimitedMesh(t *testing.T, proxies int, redis *redistest.Server, limit string) *limitedMesh {
	t.Helper()
	m := &limitedMesh{t: t, served: map[string]map[int64]int{}}
	start := func(cfg proxy.Config) *meshtest.Proxy {
		dir, err := os.MkdirTemp("", "octo")
		if err != nil {
			t.Fatal(err)
		}
		p, err := meshtest.StartProxy(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close(); _ = os.RemoveAll(dir) })
		return p
	}
	server := start(proxy.Config{})
	r, err := meshtest.Dial("unix", server.Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: "stock", Targets: []string{"stock"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			var h wire.RequestHead
			if err := h.Parse(ev.Frame.Head); err != nil {
				t.Error(err)
			}
			m.count(string(h.Caller))
			r.Wire.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd})
		case wire.EventReset, wire.EventFailed:
			r.Wire.Release()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
	if err := server.Endpoints(map[string][]string{}); err != nil {
		t.Fatal(err)
	}
	policy := &resourcev1.Snapshot{}
	if _, err := resource.Parse("limit.yaml", []byte(strings.ReplaceAll(limit, "$server", server.Address)), policy); err != nil {
		t.Fatal(err)
	}
	for range proxies {
		conn, err := grpc.NewClient("passthrough:///"+limitService(t, redis), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		p := start(proxy.Config{Limiter: client.New(client.Config{
			Services: []client.Service{{Address: "redis", Conn: conn}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})})
		if err := p.Publish(policy); err != nil {
			t.Fatal(err)
		}
		m.proxies = append(m.proxies, p)
	}
	return m
}

func (m *limitedMesh) count(caller string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served[caller] == nil {
		m.served[caller] = make(map[int64]int)
	}
	m.served[caller][time.Now().Unix()]++
}

// load has an application call through every proxy, with pauses, until stop is closed.
func (m *limitedMesh) load(application string, pause time.Duration, stop <-chan struct{}) *sync.WaitGroup {
	var callers sync.WaitGroup
	for _, p := range m.proxies {
		c, err := meshtest.DialCaller("unix", p.Socket, wire.Hello{Kind: wire.PeerSDK, Environment: "test", Application: application})
		if err != nil {
			m.t.Fatal(err)
		}
		callers.Go(func() {
			defer func() { c.Close(); <-c.Done() }()
			for {
				select {
				case <-stop:
					return
				case <-time.After(pause):
				}
				got, err := c.Call(&wire.RequestHead{Target: []byte("stock"), Service: []byte("s.S"), Method: []byte("Do"), Kind: wire.KindUnary}, nil)
				if err != nil {
					m.t.Error(err)
					return
				}
				switch a := <-got; {
				case a.Status.Code == wire.OK:
				case a.Status.Reason == wire.ReasonRateLimited && a.Status.Origin == wire.OriginClientProxy && a.Status.RetryAfterMS > 0:
					m.refused.Add(1)
				default:
					m.failed.Add(1)
					m.t.Errorf("ended %+v", a.Status)
				}
			}
		})
	}
	return &callers
}

// until waits for a second on the clock.
func until(second int64) { time.Sleep(time.Until(time.Unix(second, 0))) }

const perCaller = `
endpoints: [{target: stock, instance: s1, mesh_address: "$server"}]
policies:
- target: stock
  rate_limits:
  - {name: each-caller, side: SIDE_CLIENT, calls: 100, per_caller: true, global: {timeout: 1s}}
`

// TestAGlobalLimitHoldsOverAllProxies: three proxies, two applications that each call through all of them, 100 calls a second for each.
func TestAGlobalLimitHoldsOverAllProxies(t *testing.T) {
	t.Parallel()
	m := newLimitedMesh(t, 3, redistest.Start(t), perCaller)
	stop := make(chan struct{})
	begin := time.Now().Unix()
	busy, calm := m.load("web", 4*time.Millisecond, stop), m.load("batch", 100*time.Millisecond, stop)
	const windows = 5
	until(begin + windows)
	close(stop)
	busy.Wait()
	calm.Wait()
	end := time.Now().Unix()
	for application, limits := range map[string]bool{"web": true, "batch": false} {
		sum, full := 0, 0
		for second, n := range m.served[application] {
			sum += n
			if second > begin && second < begin+windows {
				full += n
			}
		}
		most := 100 * int(end-begin+1)
		t.Logf("%s: %v, %d in all of at most %d", application, m.served[application], sum, most)
		if sum > most {
			t.Errorf("%s: %d calls in %d windows of 100", application, sum, end-begin+1)
		}
		// A window holds what is granted in it, but for what is on its way when it ends.
		if least := (windows - 1) * 60; limits && full < least {
			t.Errorf("%s: only %d calls in %d whole windows of 100, want %d", application, full, windows-1, least)
		}
		if !limits && full < (windows-1)*10 {
			t.Errorf("%s was held back: %d calls", application, full)
		}
	}
	if m.refused.Load() == 0 {
		t.Error("nothing was refused")
	}
}

// TestCallsGoOnWithoutRedisAndTheLimitComesBack kills Redis under load: with the default failure mode no call fails, and once it is back the
// limit holds.
func TestCallsGoOnWithoutRedisAndTheLimitComesBack(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	m := newLimitedMesh(t, 2, redis, perCaller)
	stop := make(chan struct{})
	load := m.load("web", 2*time.Millisecond, stop)
	waitRefused := func(more int64) {
		t.Helper()
		from := m.refused.Load()
		for late := time.Now().Add(long); m.refused.Load() < from+more; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("the limit does not hold")
			}
		}
	}
	waitRefused(20)
	redis.Kill()
	passed := func() (n uint64) {
		for _, p := range m.proxies {
			n += outcome(p, "unanswered_allowed")
		}
		return n
	}
	from := passed()
	for late := time.Now().Add(long); passed() < from+200; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("calls do not go on without Redis")
		}
	}
	redis.Restart()
	waitRefused(50)
	begin := time.Now().Unix() + 1
	until(begin + 3)
	close(stop)
	load.Wait()
	sum := 0
	for second := begin; second < begin+3; second++ {
		sum += m.served["web"][second]
	}
	if sum > 300+2 { // what was on its way when the first began
		t.Errorf("after Redis is back %d calls in 3 windows of 100", sum)
	}
	if n := m.failed.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// outcome is what a proxy's policies counted.
func outcome(p *meshtest.Proxy, name string) (n uint64) {
	for target := range p.Store().Current().Table.Targets() {
		for _, each := range target.Policies.Policies() {
			if c, ok := each.(interface {
				Counts(func(rule, outcome string, n uint64))
			}); ok {
				c.Counts(func(_, outcome string, count uint64) {
					if outcome == name {
						n += count
					}
				})
			}
		}
	}
	return n
}
