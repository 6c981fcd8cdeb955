package register_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/proxy/register"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

const (
	published  = controlv1.RegistrationState_STATE_PUBLISHED
	pending    = controlv1.RegistrationState_STATE_PENDING
	superseded = controlv1.RegistrationState_STATE_SUPERSEDED
	withdrawn  = controlv1.RegistrationState_STATE_WITHDRAWN
	refused    = controlv1.RegistrationState_STATE_REFUSED
)

// pilot is one that publishes whatever it hears of, unless it is told to say something else.
type pilot struct {
	controlv1.UnimplementedNodeServer
	t    *testing.T
	conn *grpc.ClientConn
	stop func()

	mu      sync.Mutex
	there   map[string]*controlv1.Registration
	gone    map[string]controlv1.Withdrawal_Reason
	say     map[string]controlv1.RegistrationState_State // by instance
	others  []*controlv1.ConnectRequest
	streams int
	deaf    bool // to reports: they are not answered
	change  chan struct{}
}

func startPilot(t *testing.T) *pilot {
	t.Helper()
	p := &pilot{
		t: t, there: make(map[string]*controlv1.Registration), gone: make(map[string]controlv1.Withdrawal_Reason),
		say: make(map[string]controlv1.RegistrationState_State), change: make(chan struct{}),
	}
	g := grpc.NewServer()
	controlv1.RegisterNodeServer(g, p)
	l := bufconn.Listen(1 << 20)
	var err error
	p.conn, err = grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	p.stop = sync.OnceFunc(func() { g.Stop(); wg.Wait() })
	t.Cleanup(func() { _ = p.conn.Close(); p.stop() })
	return p
}

func (p *pilot) Connect(g grpc.BidiStreamingServer[controlv1.ConnectRequest, controlv1.ConnectResponse]) error {
	r, err := g.Recv()
	if err != nil {
		return err
	}
	if in := r.GetIntroduction(); in.GetEnvironment() != "test" || in.GetInstance() != "p1" || in.GetIncarnation() != 9 {
		p.t.Errorf("the introduction is %v", r)
	}
	if err := g.SendHeader(nil); err != nil {
		return err
	}
	p.mu.Lock()
	p.streams++
	p.mu.Unlock()
	for {
		r, err := g.Recv()
		if err != nil {
			return err
		}
		st := p.hear(r)
		if r.GetReport() != nil && !p.deaf {
			if err := g.Send(&controlv1.ConnectResponse{Word: &controlv1.ConnectResponse_Report{Report: &directoryv1.ReportResponse{IntervalMs: 60_000}}}); err != nil {
				return err
			}
		}
		if st != nil {
			if err := g.Send(&controlv1.ConnectResponse{Word: &controlv1.ConnectResponse_Registration{Registration: st}}); err != nil {
				return err
			}
		}
	}
}

func (p *pilot) hear(r *controlv1.ConnectRequest) *controlv1.RegistrationState {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { close(p.change); p.change = make(chan struct{}) }()
	if reg := r.GetRegister(); reg != nil {
		e := reg.Endpoint
		st := &controlv1.RegistrationState{Target: e.Target, Instance: e.Instance, Incarnation: e.Incarnation, State: published}
		if say := p.say[e.Instance]; say != 0 {
			st.State, st.Reason = say, "because"
			return st
		}
		p.there[e.Target+"/"+e.Instance] = reg
		return st
	}
	if w := r.GetWithdraw(); w != nil {
		key := w.Target + "/" + w.Instance
		if e := p.there[key].GetEndpoint(); e.GetIncarnation() == w.Incarnation && e.GetMeshAddress() == w.MeshAddress {
			delete(p.there, key)
		}
		p.gone[key] = w.Reason
		return &controlv1.RegistrationState{Target: w.Target, Instance: w.Instance, Incarnation: w.Incarnation, State: withdrawn}
	}
	p.others = append(p.others, r)
	return nil
}

// await waits until something about the Pilot is so.
func (p *pilot) await(what string, so func() bool) {
	p.t.Helper()
	late := time.After(long)
	for {
		p.mu.Lock()
		ok, change := so(), p.change
		there := fmt.Sprint(p.there)
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-time.After(5 * time.Millisecond): // what the client knows changes, too
		case <-late:
			p.t.Fatalf("it never came to be that %s; the Pilot has %s", what, there)
		}
	}
}

// has waits until the Pilot has exactly these "target/instance incarnation mesh direct".
func (p *pilot) has(want ...string) {
	p.t.Helper()
	p.await(fmt.Sprint("it has ", want), func() bool {
		var got []string
		for key, r := range p.there {
			e := r.Endpoint
			got = append(got, strings.TrimSpace(fmt.Sprint(key, " ", e.Incarnation, " ", e.MeshAddress, " ", e.DirectAddress)))
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func client(t *testing.T, change func(*register.Config), pilots ...*pilot) *register.Client {
	t.Helper()
	cfg := register.Config{
		Environment: "test", Instance: "p1", Incarnation: 9, Zone: "z1", MeshAddress: "h:1", Identity: "spiffe://d/test/proxy/p1",
		Grace: 20 * time.Millisecond,
	}
	for _, p := range pilots {
		cfg.Pilots = append(cfg.Pilots, p.conn)
	}
	if change != nil {
		change(&cfg)
	}
	c := register.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func TestAttachedInstancesAreRegisteredUntilTheyGo(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	a := c.Attach("shop", "a", 1, []string{"cart", "stock"})
	b := c.Attach("shop", "b", 1, []string{"cart"})
	p.has("cart/a 1 h:1", "cart/b 1 h:1", "stock/a 1 h:1")
	p.mu.Lock()
	r := p.there["cart/a"]
	p.mu.Unlock()
	if e := r.Endpoint; r.Application != "shop" || e.Zone != "z1" || e.Identity != "spiffe://d/test/proxy/p1" {
		t.Errorf("it is registered as %v", r)
	}
	a(true)
	p.has("cart/b 1 h:1")
	b(false)
	p.has()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone["cart/a"] != controlv1.Withdrawal_REASON_LEFT || p.gone["cart/b"] != controlv1.Withdrawal_REASON_LOST {
		t.Errorf("they went for %v", p.gone)
	}
}

func TestAConnectionThatComesBackIsNoLoss(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, func(cfg *register.Config) { cfg.Grace = time.Second }, p)
	first := c.Attach("shop", "a", 1, []string{"cart"})
	second := c.Attach("shop", "a", 1, []string{"cart"}) // another connection of the same process
	p.has("cart/a 1 h:1")
	first(true)
	second(false)
	third := c.Attach("shop", "a", 1, []string{"cart"})
	c.Attach("shop", "mark", 1, []string{"cart"})
	p.has("cart/a 1 h:1", "cart/mark 1 h:1")
	time.Sleep(1500 * time.Millisecond) // longer than what is lost is waited for
	p.has("cart/a 1 h:1", "cart/mark 1 h:1")
	p.mu.Lock()
	if len(p.gone) > 0 {
		t.Errorf("it was withdrawn: %v", p.gone)
	}
	p.mu.Unlock()
	third(true)
	p.has("cart/mark 1 h:1")
}

func TestTheNewestIncarnationOfAnInstanceCounts(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	old := c.Attach("shop", "a", 1, []string{"cart", "stock"})
	p.has("cart/a 1 h:1", "stock/a 1 h:1")
	now := c.Attach("shop", "a", 2, []string{"cart"}) // a restart that overlaps, and serves less
	p.has("cart/a 2 h:1", "stock/a 1 h:1")
	now(false) // it crashes: the old one is still there
	p.has("cart/a 1 h:1", "stock/a 1 h:1")
	again := c.Attach("shop", "a", 3, []string{"cart"})
	p.has("cart/a 3 h:1", "stock/a 1 h:1")
	old(true)
	p.has("cart/a 3 h:1")
	again(true)
	p.has()
}

func TestAllIsSaidAgainToTheNextPilot(t *testing.T) {
	t.Parallel()
	one, two := startPilot(t), startPilot(t)
	c := client(t, nil, one, two)
	c.Attach("shop", "a", 1, []string{"cart"})
	b := c.Attach("shop", "b", 1, []string{"cart"})
	c.Applied(4, "hash")
	one.has("cart/a 1 h:1", "cart/b 1 h:1")
	one.stop()
	b(true) // nobody hears it, yet
	two.has("cart/a 1 h:1")
	two.await("the withdrawal, what the proxy goes by", func() bool {
		return two.gone["cart/b"] == controlv1.Withdrawal_REASON_LEFT && slices.ContainsFunc(two.others, func(r *controlv1.ConnectRequest) bool {
			return r.GetApplied().GetGeneration() == 4 && r.GetApplied().GetHash() == "hash"
		})
	})
}

func TestALeavingProxyWithdrawsAll(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	for i := range 20 {
		c.Attach("shop", fmt.Sprint("i", i), 1, []string{"cart"})
	}
	p.await("all are there", func() bool { return len(p.there) == 20 })
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	c.Leave(ctx)
	p.mu.Lock()
	if len(p.there) > 0 || ctx.Err() != nil {
		t.Errorf("it has left, and there are %v", p.there)
	}
	p.mu.Unlock()
	c.Attach("shop", "late", 1, []string{"cart"})
	if s := c.Status(); len(s.Registrations) > 0 {
		t.Errorf("a proxy that leaves registers %v", s)
	}
}

func TestWhatIsRefusedIsShownAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	p.say["bad"], p.say["old"], p.say["later"] = refused, superseded, pending
	c := client(t, nil, p)
	bad := c.Attach("shop", "bad", 1, []string{"cart"})
	old := c.Attach("shop", "old", 1, []string{"cart"})
	c.Attach("shop", "later", 1, []string{"cart"})
	c.Attach("shop", "good", 1, []string{"cart"})
	c.Attach("shop", "no name", 1, []string{"cart"})
	p.has("cart/good 1 h:1")
	want := map[string]string{"bad": "refused", "old": "superseded", "later": "pending", "good": "published"}
	p.await("the states are known", func() bool {
		s := c.Status()
		got := make(map[string]string)
		for _, r := range s.Registrations {
			if got[r.Instance] = r.State; r.State != "published" && r.Reason != "because" {
				return false
			}
		}
		return s.Connected && fmt.Sprint(got) == fmt.Sprint(want)
	})
	bad(true)
	old(true) // whoever has superseded it is not withdrawn
	if s := c.Status(); len(s.Registrations) != 2 {
		t.Errorf("there is %v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.gone) > 0 {
		t.Errorf("withdrawn: %v", p.gone)
	}
}

func TestASilentClientRegistersNothing(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, func(cfg *register.Config) { cfg.Silent = true }, p)
	c.Attach("shop", "a", 1, []string{"cart"})(true)
	if _, err := c.Register(register.Details{Instance: "a", Targets: []string{"cart"}}, func(register.Status) {}); err == nil {
		t.Error("it registers what an instance says")
	}
	c.Applied(1, "x")
	p.await("the Pilot hears what the proxy goes by", func() bool { return len(p.others) > 0 })
	p.has()
	var none *register.Client // a proxy without a control plane
	none.Attach("shop", "a", 1, []string{"cart"})(false)
	none.Anomaly("cart", "a", controlv1.Anomaly_KIND_EJECTED, "")
	none.Applied(1, "")
	none.Leave(t.Context())
	none.Run(t.Context())
	if s := none.Status(); s.Connected {
		t.Error(s)
	}
}

// states are what an instance is told.
type states struct {
	mu  sync.Mutex
	all map[string]register.Status
}

func (s *states) tell(st register.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]register.Status)
	}
	s.all[st.Target] = st
}

func (s *states) of(target string) controlv1.RegistrationState_State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[target].State
}

func TestWhatAnInstanceSaysOfItselfIsAdded(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	var told states
	d := register.Details{
		Application: "shop", Instance: "a", Incarnation: 1, Targets: []string{"cart"}, DirectAddress: "h:9", Weight: proto.Uint32(7), Zone: "z2",
		Tags: map[string]string{"lane": "blue"},
	}
	held, err := c.Register(d, told.tell)
	if err != nil {
		t.Fatal(err)
	}
	p.has("cart/a 1  h:9") // it can be called directly alone
	detach := c.Attach("shop", "a", 1, []string{"cart"})
	p.has("cart/a 1 h:1 h:9")
	p.mu.Lock()
	if e := p.there["cart/a"].Endpoint; e.GetWeight() != 7 || e.Zone != "z2" || e.Tags["lane"] != "blue" {
		t.Errorf("it is registered as %v", e)
	}
	p.mu.Unlock()
	p.await("it is told", func() bool { return told.of("cart") == published })
	d.DirectAddress, d.Targets = "h:10", []string{"cart", "stock"}
	if err := held.Update(d); err != nil {
		t.Fatal(err)
	}
	p.has("cart/a 1 h:1 h:10", "stock/a 1  h:10")
	d.Incarnation = 2
	if err := held.Update(d); err == nil {
		t.Error("another incarnation is an update")
	}
	c.Attach("shop", "a", 2, []string{"cart"})
	p.has("cart/a 2 h:1", "stock/a 1  h:10")
	p.await("it is told of the newer one", func() bool { return told.of("cart") == superseded })
	detach(true)
	held.Withdraw()
	held.Withdraw()
	held.Release()
	p.has("cart/a 2 h:1")
}

func TestDetailsThatCannotBeAreRefusedWithTheField(t *testing.T) {
	t.Parallel()
	c := client(t, nil, startPilot(t))
	for field, d := range map[string]register.Details{
		"targets":        {Instance: "a"},
		"instance":       {Instance: "a b", Targets: []string{"cart"}},
		"direct_address": {Instance: "a", Targets: []string{"cart"}, DirectAddress: "nowhere"},
		"weight":         {Instance: "a", Targets: []string{"cart"}, Weight: proto.Uint32(1e9)},
		"zone":           {Instance: "a", Targets: []string{"cart"}, Zone: "a b"},
		"target":         {Instance: "a", Targets: []string{"car t"}},
	} {
		if _, err := c.Register(d, func(register.Status) {}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestAnomaliesOfOneEndpointAreGathered(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	for range 1000 {
		c.Anomaly("cart", "a", controlv1.Anomaly_KIND_UNREACHABLE, "connection refused")
		c.Anomaly("cart", "a", controlv1.Anomaly_KIND_EJECTED, strings.Repeat("x", 10_000))
		c.Anomaly("cart", "b", controlv1.Anomaly_KIND_UNREACHABLE, "connection refused")
	}
	words, count := make(map[string]int), make(map[string]uint64)
	p.await("all are counted", func() bool {
		clear(words)
		clear(count)
		for _, r := range p.others {
			a := r.GetAnomaly()
			key := fmt.Sprint(a.GetInstance(), a.GetKind())
			words[key]++
			count[key] += a.GetCount()
			if len(a.GetText()) > 1000 || a.GetText() == "" {
				t.Errorf("the text has %d bytes", len(a.GetText()))
			}
		}
		return len(count) == 3 && count["aKIND_UNREACHABLE"] == 1000 && count["aKIND_EJECTED"] == 1000 && count["bKIND_UNREACHABLE"] == 1000
	})
	for key, n := range words {
		if n > 3 { // the first, what came until it went, and what came after it
			t.Errorf("of %s there are %d words", key, n)
		}
	}
}

func TestASuccessorGoesOnWithoutAGap(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	old := client(t, nil, p)
	detach := old.Attach("shop", "a", 1, []string{"cart"})
	p.has("cart/a 1 h:1")
	next := client(t, func(cfg *register.Config) { cfg.MeshAddress = "" }, p)
	next.Reached("h:1")
	old.Yield()
	old.Yield()
	detach(true) // it moves to the successor
	old.Leave(t.Context())
	next.Attach("shop", "a", 1, []string{"cart"})
	next.Attach("shop", "b", 1, []string{"cart"})
	p.has("cart/a 1 h:1", "cart/b 1 h:1")
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.gone) > 0 {
		t.Errorf("withdrawn: %v", p.gone)
	}
}
