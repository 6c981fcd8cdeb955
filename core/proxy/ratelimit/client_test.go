package ratelimit_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a rate limit service that answers as a test says.
type server struct {
	rlsv3.UnimplementedRateLimitServiceServer
	address string
	grpc    *grpc.Server
	asked   chan *rlsv3.RateLimitRequest // each request, if somebody wants to see it
	answer  func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error)
	count   atomic.Int64
}

func (s *server) ShouldRateLimit(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	s.count.Add(1)
	if s.asked != nil {
		s.asked <- r
	}
	return s.answer(ctx, r)
}

// serve starts a server.
func serve(t *testing.T, answer func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: l.Addr().String(), grpc: grpc.NewServer(), answer: answer}
	rlsv3.RegisterRateLimitServiceServer(s.grpc, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.grpc.Serve(l) }()
	t.Cleanup(func() { s.grpc.Stop(); <-done })
	return s
}

// answers says the same of each descriptor.
func answers(code rlsv3.RateLimitResponse_Code, limit, remaining uint32, reset time.Duration) func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	return func(_ context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		a := &rlsv3.RateLimitResponse{OverallCode: code}
		for range r.Descriptors {
			a.Statuses = append(a.Statuses, &rlsv3.RateLimitResponse_DescriptorStatus{
				Code: code, LimitRemaining: remaining, DurationUntilReset: durationpb.New(reset),
				CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: limit, Unit: rlsv3.RateLimitResponse_RateLimit_SECOND},
			})
		}
		return a, nil
	}
}

// world is a client that asks services, and a limit by whose policy calls come.
type world struct {
	t      *testing.T
	client *ratelimit.Client
	now    func() int64
}

func start(t *testing.T, addresses ...string) *world {
	t.Helper()
	cfg := ratelimit.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, a := range addresses {
		conn, err := grpc.NewClient("passthrough:///"+a, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		cfg.Services = append(cfg.Services, ratelimit.Service{Address: a, Conn: conn})
	}
	begun := time.Now()
	w := &world{t: t, client: ratelimit.New(cfg), now: func() int64 { return int64(time.Since(begun)) + 1 }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.client.Run(ctx, w.now) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// limit is a limit of 100 calls a second for each caller.
func (w *world) limit(timeout time.Duration) *policy.GlobalLimit {
	return policy.NewGlobalLimit(policy.GlobalRules{
		Name: "l", Domain: "octo", Calls: 100, Per: time.Second, Timeout: timeout, MaxCounters: 1000, Deny: true,
		Parts: []policy.Part{{Key: "target", From: "t"}, {Key: "caller", Property: policy.Caller}},
	}, w.client, &policy.Counters{})
}

// visit is a call that may wait.
type visit struct {
	w     *world
	limit *policy.GlobalLimit
	r     policy.Request
	done  chan policy.Decision
}

func (v *visit) Resume() {
	v.r.Now = v.w.now()
	d := v.limit.Check(v.r)
	if d.Verdict != policy.Park {
		v.done <- d
		return
	}
	if v.r.Since == 0 {
		v.r.Since = v.r.Now
	}
	d.Lot.Add(v)
	d.Arrange.Arrange()
}

// call makes a call; what was decided comes from the channel.
func (w *world) call(l *policy.GlobalLimit, caller string) <-chan policy.Decision {
	v := &visit{w, l, policy.Request{Head: &wire.RequestHead{}, Caller: []byte(caller)}, make(chan policy.Decision, 1)}
	v.Resume()
	return v.done
}

func (w *world) get(done <-chan policy.Decision) policy.Decision {
	w.t.Helper()
	select {
	case d := <-done:
		return d
	case <-time.After(10 * time.Second):
		w.t.Fatal("a call hangs")
		return policy.Decision{}
	}
}

func TestTheQuestionIsTheProtocols(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(rlsv3.RateLimitResponse_OK, 100, 99, time.Second))
	s.asked = make(chan *rlsv3.RateLimitRequest, 10)
	w := start(t, s.address)
	if d := w.get(w.call(w.limit(time.Second), "web")); d.Verdict != policy.Continue {
		t.Fatalf("%+v", d)
	}
	r := <-s.asked
	d := r.Descriptors[0]
	if r.Domain != "octo" || r.HitsAddend != 1 || len(r.Descriptors) != 1 || len(d.Entries) != 2 || d.Entries[0].Key != "target" ||
		d.Entries[0].Value != "t" || d.Entries[1].Key != "caller" || d.Entries[1].Value != "web" ||
		d.Limit.RequestsPerUnit != 100 || d.Limit.Unit != typev3.RateLimitUnit_SECOND || d.HitsAddend != nil {
		t.Errorf("asked %v", r)
	}
}

func TestOverTheLimitIsRefusedUntilItsReset(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(rlsv3.RateLimitResponse_OVER_LIMIT, 100, 0, time.Hour))
	w := start(t, s.address)
	l := w.limit(time.Second)
	for range 5 {
		d := w.get(w.call(l, "web"))
		if st := d.Status; d.Verdict != policy.Refuse || st.Reason != wire.ReasonRateLimited || st.RetryAfterMS < 3_500_000 {
			t.Fatalf("%+v", d)
		}
	}
	if n := s.count.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestCountersShareRequests holds the first request back: what is asked meanwhile goes together.
func TestCountersShareRequests(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := serve(t, nil)
	var most atomic.Int64
	s.answer = func(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		for n := int64(len(r.Descriptors)); ; {
			if was := most.Load(); n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		<-hold
		return answers(rlsv3.RateLimitResponse_OK, 100, 50, time.Minute)(ctx, r)
	}
	w := start(t, s.address)
	l := w.limit(time.Second)
	var waiting []<-chan policy.Decision
	for i := range ratelimit.DefaultWorkers { // each has a worker wait
		waiting = append(waiting, w.call(l, fmt.Sprint("early", i)))
	}
	for s.count.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	for i := range 300 {
		waiting = append(waiting, w.call(l, fmt.Sprint("late", i)), w.call(l, fmt.Sprint("late", i)))
	}
	close(hold)
	for _, done := range waiting {
		if d := w.get(done); d.Verdict != policy.Continue {
			t.Fatalf("%+v", d)
		}
	}
	if most.Load() < 10 || s.count.Load() > 100 {
		t.Errorf("%d counters at most in one of %d requests", most.Load(), s.count.Load())
	}
	if got := w.client.Status(); got.Requests != uint64(s.count.Load()) || got.Granted < 608 || got.Failed != 0 || !got.Answers {
		t.Errorf("status %+v of %d requests", got, s.count.Load())
	}
}

func TestTheNextServiceIsAsked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // nobody is there
	ill := serve(t, func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		return nil, status.Error(codes.Unavailable, "no store")
	})
	empty := serve(t, func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		return &rlsv3.RateLimitResponse{}, nil
	})
	well := serve(t, answers(rlsv3.RateLimitResponse_OK, 100, 1, time.Second))
	w := start(t, l.Addr().String(), ill.address, empty.address, well.address)
	limit := w.limit(5 * time.Second)
	for i := range 10 {
		if d := w.get(w.call(limit, fmt.Sprint(i))); d.Verdict != policy.Continue {
			t.Fatalf("%+v", d)
		}
	}
	if ill.count.Load() != 1 || empty.count.Load() != 1 || well.count.Load() < 10 {
		t.Errorf("asked %d, %d and %d times", ill.count.Load(), empty.count.Load(), well.count.Load())
	}
}

func TestCallsDoNotWaitForADeadServiceForLong(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	s := serve(t, nil)
	s.answer = func(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
		if !well.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return answers(rlsv3.RateLimitResponse_OK, 100, 50, time.Minute)(ctx, r)
	}
	w := start(t, s.address)
	l := w.limit(20 * time.Millisecond)
	for i := 0; w.client.Status().Answers; i++ { // fresh counters: each call waits
		if d := w.get(w.call(l, fmt.Sprint("caller", i))); d.Verdict != policy.Refuse {
			t.Fatalf("%+v", d)
		}
		if i > 50 {
			t.Fatal("it is still waited for")
		}
	}
	asked := s.count.Load()
	for i := range 500 {
		select {
		case d := <-w.call(l, fmt.Sprint("other", i)):
			if d.Status.Reason != wire.ReasonRateLimited {
				t.Fatalf("%+v", d)
			}
		default:
			t.Fatal("a call waits")
		}
	}
	if n := s.count.Load() - asked; n > 5 {
		t.Errorf("%d questions to a service that does not answer", n)
	}
	well.Store(true)
	for end := time.Now().Add(20 * time.Second); !w.client.Status().Answers; time.Sleep(5 * time.Millisecond) {
		w.call(l, "probe")
		if time.Now().After(end) {
			t.Fatal("nobody finds out that it answers again")
		}
	}
	if d := w.get(w.call(w.limit(10*time.Second), "new")); d.Verdict != policy.Continue {
		t.Errorf("%+v", d)
	}
}

func TestServersThatSayLittle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer *rlsv3.RateLimitResponse
		want   policy.Verdict
	}{
		"only ok":        {&rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK}, policy.Continue},
		"only over":      {&rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT}, policy.Refuse},
		"unlimited":      {&rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK, Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OK}}}, policy.Continue},
		"a dry run":      {&rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK, Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OVER_LIMIT}}}, policy.Continue},
		"another is out": {&rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT, Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OK}}}, policy.Continue},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(context.Context, *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) { return c.answer, nil })
			w := start(t, s.address)
			l := w.limit(time.Second)
			for range 20 {
				if d := w.get(w.call(l, "web")); d.Verdict != c.want {
					t.Fatalf("%+v", d)
				}
			}
		})
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, answers(rlsv3.RateLimitResponse_OK, 1<<30, 1<<29, time.Second))
	w := start(t, s.address)
	l := w.limit(time.Second)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				w.get(w.call(l, fmt.Sprint(i, j%20)))
			}
		})
	}
	wg.Wait()
	if n := w.client.Status(); n.Failed != 0 || n.Granted < 1600 {
		t.Errorf("%+v", n)
	}
}
