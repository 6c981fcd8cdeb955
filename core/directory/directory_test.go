package directory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/wire"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// known is targets that a test sets.
type known struct {
	mu       sync.Mutex
	views    map[string]*directory.View
	watchers map[*watcher]struct{}
}

type watcher struct {
	of      *known
	target  string
	changed func()
}

func (k *known) Follow(target string, changed func()) (directory.Followed, error) {
	if target == "nobody" {
		return nil, errors.New("too many targets are followed")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &watcher{k, target, changed}
	if k.watchers == nil {
		k.watchers = make(map[*watcher]struct{})
	}
	k.watchers[w] = struct{}{}
	return w, nil
}

func (k *known) set(target string, v *directory.View) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.views == nil {
		k.views = make(map[string]*directory.View)
	}
	k.views[target] = v
	for w := range k.watchers {
		w.changed()
	}
}

func (w *watcher) Look() *directory.View {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if v := w.of.views[w.target]; v != nil {
		return v
	}
	return directory.Unknown(time.Time{})
}

func (w *watcher) Close() {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	delete(w.of.watchers, w)
}

func endpoints(all ...string) directory.Resources {
	r := directory.Resources{Endpoints: make(map[string][]byte)}
	for _, name := range all {
		r.Endpoints[name] = directory.Encode(name, &resourcev1.Endpoint{DirectAddress: name + ":1"})
	}
	return r
}

func newService(t testing.TB, cfg directory.Config) (*directory.Service, *known) {
	t.Helper()
	k := &known{}
	cfg.Environment, cfg.Targets, cfg.Source = "prod", k, directoryv1.WatchResponse_SOURCE_CONTROL_PLANE
	s, err := directory.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

var shop = directory.Caller{Connection: 1, Application: "shop", Instance: "shop-1", Incarnation: 7}

// text is a snapshot in a line, as whoever receives it reads it.
func text(t testing.TB, sent *directoryv1.WatchResponse) string {
	t.Helper()
	b, err := proto.Marshal(sent)
	r := &directoryv1.WatchResponse{}
	if err = errors.Join(err, proto.Unmarshal(b, r)); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range r.Endpoints {
		one := fmt.Sprintf("%s=%s*%d", e.Instance, e.DirectAddress, e.Weight)
		if e.Disabled {
			one += "(disabled)"
		}
		all = append(all, one)
	}
	out := strings.TrimPrefix(r.State.String(), "STATE_") + " " + strings.Join(all, ",")
	if m := r.MeshSwitch; m != nil {
		out += fmt.Sprintf(" mesh %d", m.Permille)
	}
	if r.DirectForbidden {
		out += " forbidden"
	}
	if r.Stale {
		out += " stale"
	}
	return out
}

// watch runs a Watch whose snapshots come by the channel: whoever does not take one is slow.
func watch(ctx context.Context, s *directory.Service, c directory.Caller, r *directoryv1.WatchRequest) (<-chan *directoryv1.WatchResponse, <-chan error) {
	snapshots, ended := make(chan *directoryv1.WatchResponse), make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, c, r, func(m *directoryv1.WatchResponse) error {
			select {
			case snapshots <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return snapshots, ended
}

func TestAWatchBeginsWithASnapshotAndGoesOnWithTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newService(t, directory.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		snapshots, ended := watch(ctx, s, shop, &directoryv1.WatchRequest{Target: "stock"})
		next := func(want string) *directoryv1.WatchResponse {
			t.Helper()
			m := <-snapshots
			if got := text(t, m); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			return m
		}
		first := next("UNKNOWN ")
		if first.Target != "stock" || first.Environment != "prod" || first.Source != directoryv1.WatchResponse_SOURCE_CONTROL_PLANE {
			t.Fatal(first)
		}
		k.set("stock", directory.Of(endpoints("a"), 1))
		next("PRESENT a=a:1*100")
		synctest.Wait() // it waits for news
		k.set("stock", directory.Of(endpoints("a", "b"), 2))
		synctest.Wait() // it waits for its slow caller
		for i := range 1000 {
			k.set("stock", directory.Of(endpoints(fmt.Sprint("n", i)), uint64(3+i)))
		}
		next("PRESENT a=a:1*100,b=b:1*100")
		if m := next("PRESENT n999=n999:1*100"); m.EndpointsRevision != 1002 { // 999 of them were never composed
			t.Fatal(m.EndpointsRevision)
		}
		synctest.Wait()
		k.set("stock", directory.Of(endpoints("n999"), 1002)) // nothing new
		synctest.Wait()
		k.set("stock", directory.Of(directory.Resources{}, 1003))
		if m := next("DELETED "); m.DeletedReason == "" {
			t.Fatal("no reason")
		}
		cancel()
		if err := <-ended; directory.Status(err, 0).Code != wire.Cancelled {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Watches != 0 || st.Snapshots != 5 || len(k.watchers) != 0 {
			t.Fatal(st, k.watchers)
		}
	})
}

func TestASnapshotIsMadeForWhoAsks(t *testing.T) {
	t.Parallel()
	r := endpoints("a")
	r.Endpoints["a"] = directory.Encode("a", &resourcev1.Endpoint{DirectAddress: "a:1", Disabled: true, Weight: proto.Uint32(0)})
	r.Endpoints["g"] = directory.Encode("g", &resourcev1.Endpoint{DirectAddress: "g:1", DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC}) // which SDKs do not speak
	r.Switches = map[string]*resourcev1.MeshSwitch{
		"*": {Permille: 10, Revision: 4}, "cart": {Permille: 500, Nodes: []string{"n1"}, NodeShares: []*resourcev1.NodeShare{{Nodes: []string{"n3", "n4"}, Permille: 70}}, Revision: 5},
	}
	r.Policy = &resourcev1.ServicePolicy{DirectForbidden: true}
	for _, test := range []struct{ application, node, want string }{
		{"cart", "", "mesh 500 forbidden"},
		{"cart", "n1", "mesh 1000 forbidden"},
		{"cart", "n2", "mesh 500 forbidden"},
		{"cart", "n4", "mesh 70 forbidden"},
		{"mail", "n4", "mesh 10 forbidden"},
		{"", "n1", "mesh 10 forbidden"}, // shop, by its connection
		{"mail", "", "mesh 10 forbidden"},
	} {
		s, k := newService(t, directory.Config{})
		k.set("stock", directory.Of(r, 1))
		ctx, cancel := context.WithCancel(t.Context())
		snapshots, ended := watch(ctx, s, shop, &directoryv1.WatchRequest{Target: "stock", Application: test.application, Node: test.node})
		if got := text(t, <-snapshots); got != "PRESENT a=a:1*0(disabled),g=*100 "+test.want {
			t.Errorf("%+v: %s", test, got)
		}
		cancel()
		<-ended
	}
}

func TestOldKnowledgeIsSaidToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k := newService(t, directory.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		v := directory.Of(endpoints("a"), 1)
		v.Silent = time.Now()
		k.set("stock", v)
		time.Sleep(9 * time.Second)
		snapshots, ended := watch(ctx, s, shop, &directoryv1.WatchRequest{Target: "stock"})
		if m := <-snapshots; m.Stale || m.AgeMs != 9000 {
			t.Fatal(m)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		k.set("stock", v)
		if m := <-snapshots; !m.Stale || m.AgeMs != 10_000 {
			t.Fatal(m)
		}
		synctest.Wait()
		again := directory.Of(endpoints("a"), 1)
		k.set("stock", again)
		if m := <-snapshots; m.Stale || m.AgeMs != 0 {
			t.Fatal(m)
		}
		again.Degraded = true
		k.set("stock", again)
		if m := <-snapshots; !m.Stale {
			t.Fatal(m)
		}
		cancel()
		<-ended
	})
}

// ended runs a Watch that is refused.
func refusedWatch(t testing.TB, s *directory.Service, c directory.Caller, r *directoryv1.WatchRequest) wire.Status {
	t.Helper()
	err := s.Watch(t.Context(), c, r, func(*directoryv1.WatchResponse) error { return errors.New("it was answered") })
	return directory.Status(err, wire.OriginClientProxy)
}

func TestWatchersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := directory.Limits{StreamsPerSecond: 100, StreamsAtOnce: 500, Streams: 700, WatchesPerConnection: 5, StreamsPerIdentity: 3}
		s, k := newService(t, directory.Config{Limits: limits})
		k.set("stock", directory.Of(endpoints("a"), 1))
		ctx, cancel := context.WithCancel(t.Context())
		r := &directoryv1.WatchRequest{Target: "stock"}
		var open []<-chan error
		admitted := func(c directory.Caller) bool {
			snapshots, ended := watch(ctx, s, c, r)
			select {
			case <-snapshots:
				open = append(open, ended)
				return true
			case err := <-ended:
				if st := directory.Status(err, 0); st.Code != wire.ResourceExhausted || st.RetryAfterMS == 0 {
					t.Fatalf("turned away by %v", err)
				}
				return false
			}
		}
		// 1000 come at once: as many get in as the bucket has, the others are told when to come again.
		n := 0
		for i := range 1000 {
			if admitted(directory.Caller{Connection: i}) {
				n++
			}
		}
		if n != 500 || s.Stats().TurnedAway != 500 {
			t.Fatal(n, s.Stats())
		}
		time.Sleep(time.Second)
		for range 5 {
			if got := admitted(directory.Caller{Connection: "one"}); !got {
				t.Fatal("a connection may have five")
			}
		}
		if admitted(directory.Caller{Connection: "one"}) {
			t.Fatal("and no more")
		}
		who := "spiffe://example.org/prod/shop"
		for i := range 4 {
			if got := admitted(directory.Caller{Connection: 2000 + i, Identity: who}); got != (i < 3) {
				t.Fatalf("the %dth of an identity: %v", i, got)
			}
		}
		for i := range 300 {
			time.Sleep(10 * time.Millisecond)
			admitted(directory.Caller{Connection: 3000 + i})
		}
		if st := s.Stats(); st.Watches != 700 {
			t.Fatal(st)
		}
		cancel()
		for _, e := range open {
			<-e
		}
		time.Sleep(time.Second)
		ctx, cancel = context.WithCancel(t.Context())
		if open = nil; !admitted(directory.Caller{Connection: "one", Identity: who}) {
			t.Fatal("places were not given back")
		}
		cancel()
		<-open[0]
	})
}

func TestWhatCannotBeWatchedIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, directory.Config{})
	for _, test := range []struct {
		r    *directoryv1.WatchRequest
		code wire.Code
	}{
		{&directoryv1.WatchRequest{Target: "stock", Environment: "test"}, wire.InvalidArgument},
		{&directoryv1.WatchRequest{Environment: "prod"}, wire.InvalidArgument},
		{&directoryv1.WatchRequest{Target: "a b"}, wire.InvalidArgument},
		{&directoryv1.WatchRequest{Target: "nobody"}, wire.ResourceExhausted},
	} {
		if st := refusedWatch(t, s, shop, test.r); st.Code != test.code || st.Origin != wire.OriginClientProxy {
			t.Errorf("%v: %v %s", test.r, st.Code, st.Message)
		}
	}
	if s.Stats().Watches != 0 {
		t.Error("a refused watch is open")
	}
}

// registrar is one whose control plane is the test.
type registrar struct {
	mu     sync.Mutex
	log    []string
	told   func(register.Status)
	refuse error
}

func (r *registrar) note(format string, args ...any) {
	r.mu.Lock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
	r.mu.Unlock()
}

func (r *registrar) notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *registrar) Register(d register.Details, told func(register.Status)) (register.Held, error) {
	if r.refuse != nil {
		return nil, r.refuse
	}
	r.note("register %s %v %s", d.Instance, d.Targets, d.DirectAddress)
	r.told = told
	for _, t := range d.Targets {
		told(register.Status{Target: t, State: controlv1.RegistrationState_STATE_PENDING, Reason: "not sent yet"})
	}
	return &heldBy{r}, nil
}

type heldBy struct{ r *registrar }

func (h *heldBy) Update(d register.Details) error {
	h.r.note("update %s", d.DirectAddress)
	return nil
}
func (h *heldBy) Withdraw() { h.r.note("withdraw") }
func (h *heldBy) Release()  { h.r.note("release") }

// stream is a Register call that the test holds the other end of.
type stream struct {
	ctx      context.Context
	cancel   context.CancelFunc
	requests chan *directoryv1.RegisterRequest
	states   chan *directoryv1.RegisterResponse
	ended    chan error
}

func (s *stream) Receive() (*directoryv1.RegisterRequest, error) {
	select {
	case r, ok := <-s.requests:
		if !ok {
			return nil, io.EOF
		}
		return r, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *stream) Send(r *directoryv1.RegisterResponse) error {
	select {
	case s.states <- r:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *stream) next() string {
	r := <-s.states
	return strings.TrimSpace(strings.TrimPrefix(r.State.String(), "STATE_") + " " + r.Reason)
}

func registering(t *testing.T, s *directory.Service, c directory.Caller) *stream {
	st := &stream{requests: make(chan *directoryv1.RegisterRequest), states: make(chan *directoryv1.RegisterResponse), ended: make(chan error, 1)}
	st.ctx, st.cancel = context.WithCancel(t.Context())
	go func() {
		err := s.Register(st.ctx, c, st)
		st.cancel() // as a transport does when a handler has returned
		st.ended <- err
	}()
	return st
}

func wants(targets ...string) *directoryv1.RegisterRequest {
	return &directoryv1.RegisterRequest{
		Environment: "prod", Application: "shop", Instance: "shop-1", Incarnation: 7, Targets: targets, DirectAddress: "h:1",
	}
}

func TestAnInstanceIsRegisteredForAsLongAsItsStreamStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registrar{}
		s, _ := newService(t, directory.Config{Registrar: r})
		defer s.Wait()
		st := registering(t, s, shop)
		expect := func(want string) {
			t.Helper()
			if got := st.next(); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		st.requests <- wants("stock", "cart")
		expect("PENDING cart: not sent yet")
		r.told(register.Status{Target: "cart", State: controlv1.RegistrationState_STATE_PUBLISHED})
		expect("PENDING stock: not sent yet")
		r.told(register.Status{Target: "stock", State: controlv1.RegistrationState_STATE_PUBLISHED})
		expect("PUBLISHED")
		changed := wants("stock", "cart")
		changed.DirectAddress = "h:2"
		st.requests <- changed
		synctest.Wait()
		st.cancel()
		if err := <-st.ended; directory.Status(err, 0).Code != wire.Cancelled {
			t.Fatal(err)
		}
		if got := r.notes(); !slices.Equal(got, []string{"register shop-1 [stock cart] h:1", "update h:2", "release"}) {
			t.Fatal(got)
		}
		if s.Stats().Registrations != 0 {
			t.Fatal("it is still open")
		}
	})
}

func TestHowARegistrationEnds(t *testing.T) {
	const withdrawn = controlv1.RegistrationState_STATE_WITHDRAWN
	for name, test := range map[string]struct {
		act  func(*registrar, *stream)
		said string
		code wire.Code
		log  string
	}{
		"it leaves": {func(_ *registrar, st *stream) {
			q := wants("stock")
			q.Deregister = true
			st.requests <- q
		}, "WITHDRAWN", wire.OK, "withdraw"},
		"it closes its side": {func(_ *registrar, st *stream) { close(st.requests) }, "", wire.OK, "release"},
		"a newer one comes": {func(r *registrar, _ *stream) {
			r.told(register.Status{Target: "stock", State: controlv1.RegistrationState_STATE_SUPERSEDED, Reason: "8"})
		}, "SUPERSEDED stock: 8", wire.OK, "release"},
		"it is withdrawn": {func(r *registrar, _ *stream) {
			r.told(register.Status{Target: "stock", State: withdrawn, Reason: "by an operator"})
		}, "WITHDRAWN stock: by an operator", wire.OK, "release"},
		"it is refused": {func(r *registrar, _ *stream) {
			r.told(register.Status{Target: "stock", State: controlv1.RegistrationState_STATE_REFUSED, Reason: "bad address"})
		}, "", wire.FailedPrecondition, "release"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &registrar{}
				s, _ := newService(t, directory.Config{Registrar: r})
				defer s.Wait()
				st := registering(t, s, shop)
				st.requests <- wants("stock")
				st.next()
				synctest.Wait()
				test.act(r, st)
				if test.said != "" {
					if got := st.next(); got != test.said {
						t.Fatalf("it was told %q", got)
					}
				}
				if err := <-st.ended; directory.Status(err, 0).Code != test.code {
					t.Fatal(err)
				}
				if log := r.notes(); len(log) != 2 || log[1] != test.log {
					t.Fatal(log)
				}
			})
		})
	}
}

func TestNobodyRegistersSomebodyElse(t *testing.T) {
	change := func(f func(*directoryv1.RegisterRequest)) *directoryv1.RegisterRequest {
		r := wants("stock")
		f(r)
		return r
	}
	certified := shop
	certified.Identity = "spiffe://example.org/prod/mail"
	for name, test := range map[string]struct {
		caller directory.Caller
		r      *directoryv1.RegisterRequest
		refuse error
		code   wire.Code
	}{
		"another application": {shop, change(func(r *directoryv1.RegisterRequest) { r.Application = "mail" }), nil, wire.PermissionDenied},
		"another instance":    {shop, change(func(r *directoryv1.RegisterRequest) { r.Instance = "shop-2" }), nil, wire.PermissionDenied},
		"another incarnation": {shop, change(func(r *directoryv1.RegisterRequest) { r.Incarnation = 8 }), nil, wire.PermissionDenied},
		"another environment": {shop, change(func(r *directoryv1.RegisterRequest) { r.Environment = "test" }), nil, wire.InvalidArgument},
		"another certificate": {certified, wants("stock"), nil, wire.PermissionDenied},
		"no target":           {shop, wants(), nil, wire.InvalidArgument},
		"many targets":        {shop, wants(slices.Repeat([]string{"t"}, 101)...), nil, wire.InvalidArgument},
		"wrong details":       {shop, wants("stock"), errors.New("no such address"), wire.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &registrar{refuse: test.refuse}
				s, _ := newService(t, directory.Config{Registrar: r})
				defer s.Wait()
				st := registering(t, s, test.caller)
				st.requests <- test.r
				if err := <-st.ended; directory.Status(err, 0).Code != test.code {
					t.Fatal(err)
				}
				if len(r.notes()) != 0 {
					t.Fatal(r.notes())
				}
			})
		})
	}
	s, _ := newService(t, directory.Config{})
	if err := s.Register(t.Context(), shop, nil); directory.Status(err, 0).Code != wire.FailedPrecondition {
		t.Fatal(err)
	}
}

func TestARegistrationWaitsForItsProcessToAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		attached, changed := []string{"cart"}, make(chan struct{})
		r := &registrar{}
		s, _ := newService(t, directory.Config{Registrar: r, Serves: func(c directory.Caller) ([]string, <-chan struct{}) {
			if c != shop {
				t.Error(c)
			}
			mu.Lock()
			defer mu.Unlock()
			return attached, changed
		}})
		defer s.Wait()
		st := registering(t, s, shop)
		st.requests <- wants("stock")
		if got := st.next(); !strings.HasPrefix(got, "PENDING the process is not attached") {
			t.Fatal(got)
		}
		synctest.Wait()
		mu.Lock()
		attached = []string{"cart", "stock"}
		close(changed)
		mu.Unlock()
		if got := st.next(); got != "PENDING stock: not sent yet" {
			t.Fatal(got)
		}
		st.cancel()
		<-st.ended
	})
}

// value is that of the only metric of a family, which must have these values of labels.
func value(t testing.TB, g prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name || len(f.Metric) != 1 {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(f.Metric[0].String(), `value:"`+want+`"`) {
				t.Errorf("%s has no label %s", name, want)
			}
		}
		return f.Metric[0].GetCounter().GetValue()
	}
	t.Fatalf("no single metric %s", name)
	return 0
}

func TestReportsAreAddedUpWithinBounds(t *testing.T) {
	t.Parallel()
	s, _ := newService(t, directory.Config{Reports: nil})
	report := func(target string, calls uint64) *directoryv1.ReportRequest {
		return &directoryv1.ReportRequest{Application: "shop", Instance: "shop-1", Incarnation: 7, Paths: []*directoryv1.PathReport{{
			Target: target, Path: directoryv1.PathReport_PATH_MESH, Calls: calls, SavedByFallback: 1,
			Errors:         []*directoryv1.ErrorCount{{Code: 14, Origin: 4, Count: 2}},
			LatencyBuckets: append(make([]uint64, 10), calls-1, 1),
		}}}
	}
	for range 3 {
		if _, err := s.Report(shop, report("stock", 10)); err != nil {
			t.Fatal(err)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	if got := value(t, registry, "octo_reported_calls_total"); got != 30 {
		t.Error(got)
	}
	if got := value(t, registry, "octo_reported_errors_total", "UNAVAILABLE", "CLIENT_PROXY"); got != 6 {
		t.Error(got)
	}
	for i := range 21_000 {
		if _, err := s.Report(shop, report(fmt.Sprint("t", i), 5)); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.Metric); n > 20_000 {
			t.Errorf("%s has %d series", f.GetName(), n)
		}
		if f.GetName() == "octo_reported_dropped_calls_total" && f.Metric[0].Counter.GetValue() != 5*1001 {
			t.Error(f)
		}
	}
	if _, err := s.Report(directory.Caller{Application: "mail"}, report("stock", 1)); directory.Status(err, 0).Code != wire.PermissionDenied {
		t.Error(err)
	}
	many := report("stock", 1)
	many.Paths = slices.Repeat(many.Paths, 2001)
	if _, err := s.Report(shop, many); directory.Status(err, 0).Code != wire.InvalidArgument {
		t.Error(err)
	}
}

func TestReportsBecomeRarerUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, directory.Config{Interval: 10 * time.Second, ReportsPerSecond: 10})
		report := func() time.Duration {
			r, err := s.Report(shop, &directoryv1.ReportRequest{Application: "shop", Instance: "shop-1", Incarnation: 7})
			if err != nil {
				t.Fatal(err)
			}
			return time.Duration(r.IntervalMs) * time.Millisecond
		}
		if d := report(); d < 9*time.Second || d > 11*time.Second {
			t.Fatal(d)
		}
		// 1000 SDKs that report every 10 s are ten times as many as are wanted.
		var last time.Duration
		for range 600 {
			last = report()
			time.Sleep(10 * time.Millisecond)
		}
		if last < 80*time.Second || last > 120*time.Second {
			t.Fatal(last)
		}
		for range 60 { // all but 60 have gone: one a second, at 100 s, would be 100 of them
			last = report()
			time.Sleep(20 * time.Second)
		}
		if last > 11*time.Second {
			t.Fatal(last)
		}
	})
}
