package push_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

var stock = resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "stock"}

// pilot is one that runs, with what it was told.
type pilot struct {
	*pilottest.Pilot
	t    testing.TB
	seen *seen
}

// seen is an observer that remembers.
type seen struct {
	mu   sync.Mutex
	all  []string
	news chan struct{}
}

func (s *seen) note(text string) {
	s.mu.Lock()
	s.all = append(s.all, text)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *seen) Applied(n push.Node, u snapshot.Update) {
	if len(u.Kept) > 0 {
		s.note(fmt.Sprintf("%s keeps %v", n.ID, u.Kept))
		return
	}
	s.note(n.ID + " applied " + names(u.Told))
}

func (s *seen) Refused(n push.Node, u snapshot.Update, why string) {
	s.note(n.ID + " refused " + names(u.Told) + ": " + why)
}

func (s *seen) await(t testing.TB, text string) {
	t.Helper()
	late := time.After(long)
	for {
		s.mu.Lock()
		found := slices.Contains(s.all, text)
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-s.news:
		case <-late:
			t.Fatalf("%q did not come, but %q", text, s.all)
		}
	}
}

func names(told []snapshot.Told) string {
	var all []string
	for _, r := range told {
		all = append(all, r.Topic.FullName(r.Resource.Name))
	}
	return strings.Join(all, " ")
}

func start(t testing.TB, cfg push.Config) *pilot {
	t.Helper()
	p := &pilot{t: t, seen: &seen{news: make(chan struct{}, 1)}}
	cfg.Observer = p.seen
	p.Pilot = pilottest.Start(t, "prod", cfg)
	return p
}

// client is one proxy's side of a stream.
type client struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	stop   context.CancelFunc
	node   *corev3.Node
	has    map[string]string // versions by full name
}

func (p *pilot) client(node string) *client { return p.clientOver(p.Conn, node) }

func (p *pilot) clientOver(conn *grpc.ClientConn, node string) *client {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cancel)
	return &client{p.t, stream, cancel, &corev3.Node{Id: node, Cluster: "prod"}, make(map[string]string)}
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if r.TypeUrl == "" {
		r.TypeUrl = resource.KindEndpoint.TypeURL()
	}
	r.Node, c.node = c.node, nil // in the first request only
	if err := c.stream.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

// receive takes a response without an answer.
func (c *client) receive() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	r, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, res := range r.Resources {
		c.has[res.Name] = res.Version
	}
	for _, name := range r.RemovedResources {
		delete(c.has, name)
	}
	return r
}

func (c *client) ack(r *discoveryv3.DeltaDiscoveryResponse) {
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
}

func (c *client) fails() error {
	c.t.Helper()
	_, err := c.stream.Recv()
	if err == nil {
		c.t.Fatal("the stream goes on")
	}
	return err
}

func subscribe(names ...string) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names}
}

func entry(t testing.TB, name string, port int) snapshot.Entry {
	t.Helper()
	return entryOf(t, stock, name, port)
}

func entryOf(t testing.TB, topic resource.Topic, name string, port int) snapshot.Entry {
	t.Helper()
	return pilottest.Entry(t, topic, name, &resourcev1.Endpoint{MeshAddress: fmt.Sprintf("10.0.0.1:%d", port)})
}

func told(r *discoveryv3.DeltaDiscoveryResponse) string {
	var all []string
	for _, res := range r.Resources {
		all = append(all, "+"+res.Name)
	}
	for _, name := range r.RemovedResources {
		all = append(all, "-"+name)
	}
	return strings.Join(all, " ")
}

func wants(t testing.TB, r *discoveryv3.DeltaDiscoveryResponse, want string) {
	t.Helper()
	if got := told(r); got != want {
		t.Fatalf("told %q, want %q", got, want)
	}
}

func TestOneResponseAtATimeAndTheNewestOfAll(t *testing.T) {
	p := start(t, push.Config{})
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": entry(t, "s1", 1)})
	c := p.client("n1")
	c.send(subscribe("prod/stock/*"))
	first := c.receive()
	wants(t, first, "+prod/stock/s1")
	for port := range 50 { // while it is not acknowledged
		p.Cache.Set(stock, "s1", entry(t, "s1", 2+port))
		p.Cache.Set(stock, "s2", entry(t, "s2", 2+port))
	}
	c.ack(first)
	second := c.receive()
	wants(t, second, "+prod/stock/s1 +prod/stock/s2")
	if v := entry(t, "s1", 51).Stable.Version; second.Resources[0].Version != v {
		t.Fatalf("version %q, the newest is %q", second.Resources[0].Version, v)
	}
	c.ack(second)
	p.seen.await(t, "n1 applied prod/stock/s1 prod/stock/s2")
	if s := p.Server.Stats(); s.Responses != 2 || s.Resources != 3 || s.Streams != 1 {
		t.Fatal(s)
	}
}

func TestARefusalIsToldAndTheNextVersionComes(t *testing.T) {
	p := start(t, push.Config{})
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": entry(t, "s1", 1)})
	c := p.client("n1")
	c.send(subscribe("prod/stock/*"))
	r := c.receive()
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: r.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no such zone"}})
	p.seen.await(t, "n1 refused prod/stock/s1: no such zone")
	p.Cache.Set(stock, "s1", entry(t, "s1", 2))
	wants(t, c.receive(), "+prod/stock/s1")
	if s := p.Server.Stats(); s.Refusals != 1 {
		t.Fatal(s)
	}
}

func TestSubscriptionsCountWhateverTheNonce(t *testing.T) {
	p := start(t, push.Config{})
	other := resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "other"}
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": entry(t, "s1", 1)})
	p.Cache.Load(other, map[string]snapshot.Entry{"o1": entryOf(t, other, "o1", 1)})
	c := p.client("n1")
	c.send(subscribe("prod/stock/*"))
	r := c.receive()
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: "of another day", ResourceNamesSubscribe: []string{"prod/other/*"}})
	c.ack(r) // only now may the next one come
	wants(t, c.receive(), "+prod/other/o1")
}

func TestAReturningProxyIsToldTheDifference(t *testing.T) {
	p := start(t, push.Config{})
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": entry(t, "s1", 1), "s2": entry(t, "s2", 1)})
	c := p.client("n1")
	r := subscribe("prod/stock/*")
	r.InitialResourceVersions = map[string]string{
		"prod/stock/s1": entry(t, "s1", 1).Stable.Version, "prod/stock/s2": "older", "prod/stock/s3": "gone",
	}
	c.send(r)
	wants(t, c.receive(), "+prod/stock/s2 -prod/stock/s3")
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	p := start(t, push.Config{})
	policy := resource.Topic{Kind: resource.KindServicePolicy, Environment: "prod", Target: "stock"}
	p.Cache.Load(policy, nil)
	c := p.client("n1")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.KindServicePolicy.TypeURL(), ResourceNamesSubscribe: []string{"prod/stock"}})
	wants(t, c.receive(), "-prod/stock")
}

func TestBadStreamsEndWithAReason(t *testing.T) {
	p := start(t, push.Config{})
	for name, c := range map[string]struct {
		r    *discoveryv3.DeltaDiscoveryRequest
		code codes.Code
	}{
		"type":        {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"}, codes.InvalidArgument},
		"name":        {subscribe("stock"), codes.InvalidArgument},
		"environment": {subscribe("test/stock/*"), codes.PermissionDenied},
	} {
		s := p.client("n1")
		s.send(c.r)
		if err := s.fails(); status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := p.client("")
	s.send(subscribe("prod/stock/*"))
	if err := s.fails(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no node: %v", err)
	}
	if topics, followings := p.Cache.Topics(); followings != 0 {
		t.Errorf("%d topics, %d followings are left", topics, followings)
	}
}

func TestTooManyStreamsAreToldWhenToComeAgain(t *testing.T) {
	p := start(t, push.Config{StreamsPerSecond: 1, StreamsAtOnce: 2})
	p.Cache.Load(stock, nil)
	for range 2 {
		c := p.client("n1")
		c.send(subscribe("prod/stock/*"))
		c.receive() // it is in
	}
	last := time.Duration(0)
	for range 3 {
		err := p.client("n1").fails()
		s := status.Convert(err)
		if s.Code() != codes.Unavailable || len(s.Details()) != 1 {
			t.Fatal(err)
		}
		wait := s.Details()[0].(*errdetails.RetryInfo).RetryDelay.AsDuration()
		if wait <= last {
			t.Fatalf("come again after %v, the one before after %v", wait, last)
		}
		last = wait
	}
}

func TestAProxyThatDoesNotAnswerIsGivenUp(t *testing.T) {
	p := start(t, push.Config{AckWithin: time.Second})
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": entry(t, "s1", 1)})
	c := p.client("n1")
	c.send(subscribe("prod/stock/*"))
	c.receive()
	if err := c.fails(); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	if _, followings := p.Cache.Topics(); followings != 0 && p.Server.Stats().Overdue != 1 {
		t.Fatal(followings)
	}
}

// run is a proxy that follows a topic with interruptions until it is told to stop, and then until it has what is
// wanted.
func (p *pilot) run(node string, rnd *rand.Rand, done <-chan struct{}, wanted func() map[string]string) error {
	has := make(map[string]string)
	for {
		c := p.client(node)
		c.has = has
		r := subscribe("prod/stock/*")
		r.InitialResourceVersions = maps.Clone(has)
		c.send(r)
		for n := rnd.IntN(30); ; n-- {
			select {
			case <-done:
				if want := wanted(); maps.Equal(has, want) {
					c.stop()
					return nil
				}
			default:
				if n < 0 {
					c.stop()
				}
			}
			res, err := c.stream.Recv()
			if err != nil {
				break
			}
			for _, one := range res.Resources {
				has[one.Name] = one.Version
			}
			for _, name := range res.RemovedResources {
				delete(has, name)
			}
			if c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce}) != nil {
				break
			}
		}
	}
}

func TestFinalStatesSurviveReconnects(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := start(t, push.Config{})
	p.Cache.Load(stock, nil)
	rnd := rand.New(rand.NewPCG(seed, 0))
	done := make(chan struct{})
	final := make(map[string]string)
	errs := make(chan error, 8)
	for n := range cap(errs) {
		go func() {
			errs <- p.run(fmt.Sprint("n", n), rand.New(rand.NewPCG(seed, uint64(n+1))), done, func() map[string]string { return final })
		}()
	}
	for range 2000 {
		name := fmt.Sprint("s", rnd.IntN(10))
		if rnd.IntN(4) == 0 {
			p.Cache.Set(stock, name, snapshot.Entry{})
			delete(final, "prod/stock/"+name)
		} else {
			e := entry(t, name, rnd.IntN(60000)+1)
			p.Cache.Set(stock, name, e)
			final["prod/stock/"+name] = e.Stable.Version
		}
	}
	e := entry(t, "last", 1) // so that everyone has something to hear
	final["prod/stock/last"] = e.Stable.Version
	p.Cache.Set(stock, "last", e)
	close(done)
	for range cap(errs) {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(long):
			t.Fatalf("proxies do not get what is there now: %v", final)
		}
	}
}

func TestWhoHasTheCandidateAlreadyIsSaid(t *testing.T) {
	p := start(t, push.Config{})
	candidate := entry(t, "s1", 2).Stable
	p.Cache.Load(stock, map[string]snapshot.Entry{"s1": {
		Stable: entry(t, "s1", 1).Stable, Candidate: candidate, Wave: &snapshot.Wave{Permille: 1000},
	}})
	c := p.client("n1")
	r := subscribe("prod/stock/*")
	r.InitialResourceVersions = map[string]string{"prod/stock/s1": candidate.Version}
	c.send(r)
	p.seen.await(t, fmt.Sprintf("n1 keeps %v", []snapshot.Kept{{Topic: stock, Name: "s1", Version: candidate.Version}}))
}

func TestAStreamMayFollowSoManyTopics(t *testing.T) {
	p := start(t, push.Config{Topics: 2})
	c := p.client("a")
	c.send(subscribe("prod/stock/*", "prod/cart/*", "prod/mail/*"))
	err := c.fails()
	reason := ""
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			reason = info.Reason + " " + info.Metadata["limit"]
		}
	}
	if status.Code(err) != codes.ResourceExhausted || reason != push.ReasonTopics+" 2" || !strings.Contains(err.Error(), "2 topics") {
		t.Fatal(err, reason)
	}
}

func TestWhoIsNotAdmittedLearnsWhyAndWhoIsLeaves(t *testing.T) {
	left := make(chan push.Node, 1)
	p := start(t, push.Config{Admit: func(_ context.Context, n push.Node, _ bool) (func(), error) {
		if n.ID == "stranger" {
			return nil, status.Error(codes.PermissionDenied, "who are you?")
		}
		return func() { left <- n }, nil
	}})
	stranger := p.client("stranger")
	stranger.send(subscribe("prod/stock/*"))
	if err := stranger.fails(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "who are you?") {
		t.Fatal(err)
	}
	p.Cache.Load(stock, nil)
	a := p.client("a")
	a.send(subscribe("prod/stock/*"))
	a.receive()
	a.stop()
	select {
	case n := <-left:
		if n != (push.Node{ID: "a", Environment: "prod"}) {
			t.Fatal(n)
		}
	case <-time.After(long):
		t.Fatal("it never left")
	}
	if s := p.Server.Stats(); s.TurnedAway != 1 {
		t.Fatalf("%+v", s)
	}
}
