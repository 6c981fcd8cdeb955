package cached_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/directory/cached"
	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cache, what follows it, and how fresh the test says that it is.
type world struct {
	t         testing.TB
	cache     *snapshot.Cache
	knowledge *cached.Knowledge
	targets   directory.Targets

	mu       sync.Mutex
	silent   time.Time
	degraded bool
}

func (w *world) Silent() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent
}

func (w *world) Degraded(resource.Topic) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.degraded
}

func (w *world) say(silent time.Time, degraded bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent, w.degraded = silent, degraded
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, cache: snapshot.NewCache()}
	w.knowledge = cached.New(cached.Config{Cache: w.cache, Freshness: w, Node: "d1", MaxTargets: 100})
	w.targets = w.knowledge.In("prod")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.knowledge.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *world) topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: "prod", Target: target}
}

// load makes all about a target known; it has nothing.
func (w *world) load(target string) {
	for k := range resource.Kinds {
		w.cache.Load(w.topic(k, target), nil)
	}
}

func (w *world) set(k resource.Kind, target, name string, m proto.Message) {
	t := w.topic(k, target)
	w.cache.Set(t, name, pilottest.Entry(w.t, t, name, m))
}

func (w *world) remove(k resource.Kind, target, name string) {
	w.cache.Set(w.topic(k, target), name, snapshot.Entry{})
}

type follower struct {
	directory.Followed
	news chan struct{}
}

func (w *world) follow(target string) *follower {
	w.t.Helper()
	f := &follower{news: make(chan struct{}, 1)}
	var err error
	f.Followed, err = w.targets.Follow(target, func() {
		select {
		case f.news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// text is a view in a line.
func text(v *directory.View) string {
	r := &directoryv1.WatchResponse{}
	if err := proto.Unmarshal(v.Endpoints, r); err != nil {
		return err.Error()
	}
	var all []string
	for _, e := range r.Endpoints {
		all = append(all, e.Instance+"="+e.DirectAddress)
	}
	for _, application := range slices.Sorted(func(yield func(string) bool) {
		for a := range v.Switches {
			if !yield(a) {
				return
			}
		}
	}) {
		all = append(all, fmt.Sprintf("mesh(%s)=%d", application, v.Switches[application].Permille))
	}
	if v.DirectForbidden {
		all = append(all, "forbidden")
	}
	return strings.TrimPrefix(v.State.String(), "STATE_") + " " + strings.Join(all, " ")
}

func TestAViewShowsWhatTheCacheHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := w.follow("stock")
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := text(f.Look()); got != want {
				t.Fatalf("it shows %q, want %q", got, want)
			}
		}
		expect("UNKNOWN ")
		for k := range resource.KindMeshSwitch {
			w.cache.Load(w.topic(k, "stock"), nil)
		}
		expect("UNKNOWN ") // switches may come
		w.load("stock")
		expect("DELETED ")
		w.set(resource.KindAuthPolicy, "stock", "", &resourcev1.AuthPolicy{DryRun: true})
		expect("PRESENT ")
		w.set(resource.KindEndpoint, "stock", "s/1", &resourcev1.Endpoint{DirectAddress: "h:1"})
		w.set(resource.KindEndpoint, "stock", "s2", &resourcev1.Endpoint{MeshAddress: "h:2"})
		w.set(resource.KindMeshSwitch, "stock", "*", &resourcev1.MeshSwitch{Permille: 10})
		w.set(resource.KindMeshSwitch, "stock", "cart", &resourcev1.MeshSwitch{Permille: 500})
		w.set(resource.KindServicePolicy, "stock", "", &resourcev1.ServicePolicy{DirectForbidden: true})
		expect("PRESENT s/1=h:1 s2= mesh(*)=10 mesh(cart)=500 forbidden")
		before := f.Look().Revision
		w.remove(resource.KindMeshSwitch, "stock", "cart")
		w.remove(resource.KindServicePolicy, "stock", "")
		expect("PRESENT s/1=h:1 s2= mesh(*)=10")
		if f.Look().Revision != before {
			t.Fatal("the endpoints have not changed")
		}
		w.remove(resource.KindEndpoint, "stock", "s2")
		expect("PRESENT s/1=h:1 mesh(*)=10")
		if f.Look().Revision <= before {
			t.Fatal("the endpoints have changed")
		}
		w.load("stock")
		expect("DELETED ")
		f.Close()
	})
}

func TestATargetIsFollowedOnceWhoeverWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var all []*follower
		for range 1000 {
			all = append(all, w.follow("stock"))
		}
		if _, n := w.cache.Topics(); n != 4 {
			t.Fatalf("%d followings of the cache", n)
		}
		w.load("stock")
		w.set(resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{DirectAddress: "h:1"})
		synctest.Wait()
		first := all[0].Look()
		for _, f := range all {
			select {
			case <-f.news:
			default:
				t.Fatal("one was not told")
			}
			if v := f.Look(); &v.Endpoints[0] != &first.Endpoints[0] {
				t.Fatal("the endpoints were encoded more than once")
			}
			f.Close()
		}
		if _, n := w.cache.Topics(); n != 0 || w.knowledge.Targets() != 0 {
			t.Fatalf("%d followings are left", n)
		}
		for i := range 100 {
			w.follow(fmt.Sprint("t", i))
		}
		if _, err := w.targets.Follow("one more", func() {}); err == nil {
			t.Fatal("there is no bound")
		}
	})
}

func TestStalenessIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := w.follow("stock")
		w.load("stock")
		time.Sleep(2 * time.Second)
		told := func() bool {
			synctest.Wait()
			select {
			case <-f.news:
				return true
			default:
				return false
			}
		}
		told()
		lost := time.Now()
		w.say(lost, false)
		time.Sleep(2 * time.Second)
		if !told() || f.Look().Silent != lost {
			t.Fatal("nobody was told of the silence")
		}
		time.Sleep(5 * time.Second)
		if told() {
			t.Fatal("nothing has changed")
		}
		time.Sleep(5 * time.Second)
		if !told() {
			t.Fatal("nobody was told that it is stale")
		}
		w.say(time.Time{}, true)
		time.Sleep(2 * time.Second)
		if v := f.Look(); !told() || !v.Silent.IsZero() || !v.Degraded {
			t.Fatal(v)
		}
		f.Close()
	})
}

func TestTheLastStateIsSeenWhateverHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.load("stock")
	var changing, watching sync.WaitGroup
	for g := range 4 {
		changing.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for i := range 2000 {
				name := fmt.Sprintf("g%d-%d", g, rnd.IntN(20))
				if rnd.IntN(3) == 0 {
					w.remove(resource.KindEndpoint, "stock", name)
				} else {
					w.set(resource.KindEndpoint, "stock", name, &resourcev1.Endpoint{DirectAddress: fmt.Sprint("h:", i)})
				}
			}
		})
	}
	for range 8 {
		watching.Go(func() {
			for range 200 { // they come and go
				f := w.follow("stock")
				f.Look()
				runtime.Gosched()
				f.Close()
			}
		})
	}
	last := w.follow("stock")
	changing.Wait()
	watching.Wait()
	entries, _ := w.cache.Get(w.topic(resource.KindEndpoint, "stock"))
	want := make(map[string]*resourcev1.Endpoint)
	for name, e := range entries {
		m := &resourcev1.Endpoint{}
		if err := proto.Unmarshal(e.Stable.Value(), m); err != nil {
			t.Fatal(err)
		}
		want[name] = m
	}
	for late := time.After(20 * time.Second); ; {
		if same(t, last.Look(), want) {
			return
		}
		select {
		case <-last.news:
		case <-late:
			t.Fatalf("it shows %s, and the cache has %d", text(last.Look()), len(want))
		}
	}
}

func same(t testing.TB, v *directory.View, want map[string]*resourcev1.Endpoint) bool {
	r := &directoryv1.WatchResponse{}
	if err := proto.Unmarshal(v.Endpoints, r); err != nil {
		t.Fatal(err)
	}
	if len(r.Endpoints) != len(want) {
		return false
	}
	for _, e := range r.Endpoints {
		if m := want[e.Instance]; m == nil || m.DirectAddress != e.DirectAddress {
			return false
		}
	}
	return true
}
