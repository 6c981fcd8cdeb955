package ingest_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

// dispatcher is one that the test speaks for.
type dispatcher struct {
	dispatchv1.UnimplementedDispatchServer
	asked chan *dispatchv1.WatchRequest
	say   chan *dispatchv1.WatchResponse
}

func (d *dispatcher) Watch(s grpc.BidiStreamingServer[dispatchv1.WatchRequest, dispatchv1.WatchResponse]) error {
	ended := make(chan error, 1)
	go func() {
		for {
			r, err := s.Recv()
			if err != nil {
				ended <- err
				return
			}
			d.asked <- r
		}
	}()
	for {
		select {
		case err := <-ended:
			return err
		case r := <-d.say:
			if r == nil {
				return io.ErrUnexpectedEOF // the stream breaks
			}
			if err := s.Send(r); err != nil {
				return err
			}
		}
	}
}

type world struct {
	*dispatcher
	t     *testing.T
	cache *snapshot.Cache
	*ingest.Ingest
}

func start(t *testing.T, linger time.Duration) *world {
	t.Helper()
	return startWith(t, ingest.Config{Linger: linger})
}

func startWith(t *testing.T, cfg ingest.Config) *world {
	t.Helper()
	w := &world{t: t, cache: snapshot.NewCache(), dispatcher: &dispatcher{
		asked: make(chan *dispatchv1.WatchRequest, 100), say: make(chan *dispatchv1.WatchResponse),
	}}
	g := grpc.NewServer()
	dispatchv1.RegisterDispatchServer(g, w.dispatcher)
	l := bufconn.Listen(1 << 20)
	conn, err := grpc.NewClient("passthrough:dispatcher", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cache, cfg.Dispatchers, cfg.Log = w.cache, []grpc.ClientConnInterface{conn}, slog.New(slog.DiscardHandler)
	w.Ingest = ingest.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	wg.Go(func() { w.Run(ctx) })
	t.Cleanup(func() { cancel(); _ = conn.Close(); g.Stop(); wg.Wait() })
	return w
}

func (w *world) wantsAsked(follow, unfollow string) {
	w.t.Helper()
	select {
	case r := <-w.asked:
		if len(r.Follow) > 0 != (follow != "") || len(r.Unfollow) > 0 != (unfollow != "") ||
			follow != "" && r.Follow[0].Target != follow || unfollow != "" && r.Unfollow[0].Target != unfollow {
			w.t.Fatalf("asked %v, want to follow %q and not %q", r, follow, unfollow)
		}
	case <-time.After(long):
		w.t.Fatalf("nothing was asked; want to follow %q and not %q", follow, unfollow)
	}
}

// follower is a proxy's, with what it was told.
type follower struct {
	*snapshot.Follower
	t    *testing.T
	wake chan struct{}
	has  map[string]bool
}

func (w *world) follow(topic resource.Topic) *follower {
	f := &follower{t: w.t, wake: make(chan struct{}, 1), has: make(map[string]bool)}
	f.Follower = w.cache.Follow("p1", func() {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	f.Subscribe(topic, nil)
	return f
}

func (f *follower) await(names ...string) {
	f.t.Helper()
	late := time.After(long)
	for {
		for u, ok := f.Take(1 << 20); ok; u, ok = f.Take(1 << 20) {
			for _, told := range u.Told {
				f.has[told.Topic.FullName(told.Resource.Name)] = true
			}
			for _, name := range u.Removed {
				delete(f.has, name)
			}
		}
		same := len(f.has) == len(names)
		for _, n := range names {
			same = same && f.has[n]
		}
		if same {
			return
		}
		select {
		case <-f.wake:
		case <-late:
			f.t.Fatalf("it has %v, want %v", f.has, names)
		}
	}
}

var stock = resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "stock"}

func endpoints(instances ...string) []*resourcev1.Endpoint {
	var all []*resourcev1.Endpoint
	for _, i := range instances {
		all = append(all, &resourcev1.Endpoint{Target: "stock", Instance: i, MeshAddress: "h:1"})
	}
	return all
}

func key(target string) *dispatchv1.Key { return &dispatchv1.Key{Environment: "prod", Target: target} }

func TestOnlyWhatProxiesFollowIsFollowed(t *testing.T) {
	w := start(t, time.Hour)
	f := w.follow(stock)
	w.wantsAsked("stock", "")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1", "s2")}
	f.await("prod/stock/s1", "prod/stock/s2")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Endpoints: endpoints("s3"), Removed: []string{"s1"}}
	f.await("prod/stock/s2", "prod/stock/s3")
	w.say <- &dispatchv1.WatchResponse{Key: key("other"), Full: true, Endpoints: endpoints("o1")} // nobody asked
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s4")}
	f.await("prod/stock/s4")
	if entries, loaded := w.cache.Get(resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "other"}); loaded || len(entries) > 0 {
		t.Error("what nobody follows is kept")
	}
}

func TestPartsAreAppliedTogether(t *testing.T) {
	w := start(t, time.Hour)
	f := w.follow(stock)
	w.wantsAsked("stock", "")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1"), More: true}
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s2"), More: true}
	if _, loaded := w.cache.Get(stock); loaded {
		t.Fatal("a part was applied")
	}
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s3")}
	f.await("prod/stock/s1", "prod/stock/s2", "prod/stock/s3")
}

func TestABrokenStreamKeepsWhatIsKnown(t *testing.T) {
	w := start(t, time.Hour)
	f := w.follow(stock)
	w.wantsAsked("stock", "")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1")}
	f.await("prod/stock/s1")
	w.say <- nil
	w.wantsAsked("stock", "") // on the next one
	f.await("prod/stock/s1")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s2")}
	f.await("prod/stock/s2")
}

func TestTargetsThatNobodyFollowsAreGivenUpAfterAWhile(t *testing.T) {
	w := start(t, 20*time.Millisecond)
	f := w.follow(stock)
	w.wantsAsked("stock", "")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1")}
	f.await("prod/stock/s1")
	f.Close()
	w.wantsAsked("", "stock")
	if topics, _ := w.cache.Topics(); topics != 0 || w.Followed() != 0 {
		t.Fatal(topics, w.Followed())
	}
}

func TestBadEndpointsAndRefusalsHarmNobody(t *testing.T) {
	w := start(t, time.Hour)
	f := w.follow(stock)
	w.wantsAsked("stock", "")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: append(endpoints("s1", "a b", ""), &resourcev1.Endpoint{Target: "cart", Instance: "c1"})}
	f.await("prod/stock/s1")
	w.say <- &dispatchv1.WatchResponse{Key: key("stock"), Refused: "no registry has it"}
	f.await()
}
