package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type peer struct{ address string }

func (p *peer) Address() string { return p.address }
func (p *peer) Ready() bool     { return true }
func (p *peer) Answers() bool   { return true }

// world is what a store told its proxy.
type world struct {
	made, released []string
	published      []uint64
}

func newStore(w *world) *store.Store {
	return store.New(store.Config{
		Environment: "prod",
		NewPeer:     func(at cluster.Place) cluster.Peer { w.made = append(w.made, at.Address); return &peer{at.Address} },
		Released: func(all []cluster.Place) {
			var now []string
			for _, at := range all {
				now = append(now, at.Address)
			}
			slices.Sort(now)
			w.released = append(w.released, now...)
		},
		Published: func(g *store.Generation, _ []string) { w.published = append(w.published, g.Number) },
	})
}

// snapshot has one target t with an instance for each address; instances are named by their address.
func snapshot(addresses ...string) *resourcev1.Snapshot {
	s := &resourcev1.Snapshot{Policies: []*resourcev1.ServicePolicy{{Target: "t"}}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, &resourcev1.Endpoint{Target: "t", Instance: strings.ReplaceAll(a, ":", "-"), MeshAddress: a})
	}
	return s
}

func toT() *wire.RequestHead { return &wire.RequestHead{Target: []byte("t")} }

func TestFirstGenerationIsEmpty(t *testing.T) {
	g := store.New(store.Config{}).Current()
	if _, known := g.Table.Match(toT(), nil); g.Number != 0 || known {
		t.Errorf("generation %d knows t: %v", g.Number, known)
	}
}

func TestApplyPublishes(t *testing.T) {
	w := &world{}
	s := newStore(w)
	if err := s.Apply("test", snapshot("h:1", "h:2")); err != nil {
		t.Fatal(err)
	}
	g := s.Current()
	d, known := g.Table.Match(toT(), nil)
	if g.Number != 1 || g.Source != "test" || g.Hash == "" || !known || len(d.Cluster.Endpoints) != 2 {
		t.Errorf("generation %+v", g)
	}
}

func TestSameContentIsNoNewGeneration(t *testing.T) {
	w := &world{}
	s := newStore(w)
	for range 3 {
		if err := s.Apply("test", snapshot("h:1")); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(w.published) != "[1]" {
		t.Errorf("published %v", w.published)
	}
}

func TestInvalidSnapshotKeepsTheLastGood(t *testing.T) {
	w := &world{}
	s := newStore(w)
	if err := s.Apply("test", snapshot("h:1")); err != nil {
		t.Fatal(err)
	}
	good := s.Current()
	bad := snapshot("h:1", "h:9", "h:9")
	bad.Policies[0].Routes = []*resourcev1.Route{{Name: "r"}}
	err := s.Apply("pilot", bad)
	var e *resource.Error
	if !errors.As(err, &e) || len(e.Problems) != 2 {
		t.Fatalf("error %v", err)
	}
	for _, text := range []string{"endpoints[2].instance (endpoint t/h-9)", "policies[0].routes[0].destinations (policy t)"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not name %s:\n%v", text, err)
		}
	}
	if s.Current() != good || fmt.Sprint(w.made) != "[h:1]" {
		t.Errorf("generation %d, peers made %v", s.Current().Number, w.made)
	}
	s.Refused("file x", errors.New("is not YAML"))
	h := s.History()
	if len(h) != 3 || h[0].Error != "is not YAML" || h[1].Source != "pilot" || h[1].Number != 0 || h[2].Number != 1 {
		t.Errorf("history %+v", h)
	}
	if applied, refused := s.Totals(); applied != 1 || refused != 2 {
		t.Errorf("applied %d, refused %d", applied, refused)
	}
}

func TestForeignEnvironmentIsRefused(t *testing.T) {
	s := newStore(&world{})
	foreign := snapshot("h:1")
	foreign.Environment = "test"
	if err := s.Apply("test", foreign); err == nil || !strings.Contains(err.Error(), `belong to "test", this proxy to "prod"`) {
		t.Errorf("error %v", err)
	}
}

func TestPeersAreMadeAndReleasedOnce(t *testing.T) {
	w := &world{}
	s := newStore(w)
	steps := []struct{ addresses, made, released string }{
		{"h:1 h:2", "h:1 h:2", ""},
		{"h:2 h:3", "h:1 h:2 h:3", "h:1"},
		{"h:3", "h:1 h:2 h:3", "h:1 h:2"},
		{"h:1 h:3", "h:1 h:2 h:3 h:1", "h:1 h:2"},
	}
	for _, step := range steps {
		if err := s.Apply("test", snapshot(strings.Fields(step.addresses)...)); err != nil {
			t.Fatal(err)
		}
		if made, released := strings.Join(w.made, " "), strings.Join(w.released, " "); made != step.made || released != step.released {
			t.Errorf("after %q: made %q, released %q", step.addresses, made, released)
		}
	}
	out := snapshot("h:1", "h:3")
	out.Endpoints[0].Disabled = true
	if err := s.Apply("test", out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.released, " "); got != "h:1 h:2 h:1" {
		t.Errorf("an address of a disabled endpoint must be released; released %q", got)
	}
}

func TestInstancesShareAnAddress(t *testing.T) {
	w := &world{}
	s := newStore(w)
	two := snapshot("h:1")
	two.Endpoints = append(two.Endpoints, &resourcev1.Endpoint{Target: "u", Instance: "x", MeshAddress: "h:1"})
	if err := s.Apply("test", two); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(w.made) != "[h:1]" {
		t.Errorf("made %v", w.made)
	}
	if err := s.Apply("test", snapshot("h:1")); err != nil || len(w.released) != 0 {
		t.Errorf("released %v, error %v", w.released, err)
	}
}

// TestReadersNeverSeeAHalf publishes generations in which every endpoint carries the generation's mark, and
// looks for a reader that finds two marks, or goes back.
func TestReadersNeverSeeAHalf(t *testing.T) {
	s := store.New(store.Config{})
	marked := func(n int) *resourcev1.Snapshot {
		weight := uint32(n)
		p := snapshot("h:1", "h:2", "h:3")
		for _, e := range p.Endpoints {
			e.Weight = &weight
		}
		p.Policies[0].Routes = []*resourcev1.Route{{
			Name: fmt.Sprintf("r%d", n), Destinations: []*resourcev1.Destination{{}, {Target: "t"}},
		}}
		return p
	}
	if err := s.Apply("test", marked(1)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			var last uint64
			for {
				select {
				case <-done:
					return
				default:
				}
				g := s.Current()
				d, known := g.Table.Match(toT(), nil)
				if !known || g.Number < last || d.Route.Name != fmt.Sprintf("r%d", g.Number) {
					t.Errorf("generation %d after %d has route %s", g.Number, last, d.Route.Name)
					return
				}
				last = g.Number
				e := d.Pick(&wire.RequestHead{}, 1, nil)
				e.Open.Add(1)
				for _, other := range d.Cluster.Endpoints {
					if uint64(other.Weight) != g.Number {
						t.Errorf("generation %d has an endpoint of %d", g.Number, other.Weight)
						return
					}
				}
				d.Route.Calls.Begin()
				d.Route.Calls.End(0, time.Microsecond)
				e.Open.Add(-1)
				e.Calls.Add(1)
			}
		})
	}
	for n := 2; n <= 300; n++ {
		if err := s.Apply("test", marked(n)); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	for e := range s.Current().Table.Endpoints() {
		if e.Open.Load() != 0 || e.Calls.Load() == 0 {
			t.Errorf("%s: %d open, %d calls", e.Instance, e.Open.Load(), e.Calls.Load())
		}
	}
}

// stream is a source that pushes what the test gives it.
type stream struct{ pushes chan *resourcev1.Snapshot }

func (s *stream) Name() string { return "stream" }

func (s *stream) Run(ctx context.Context, apply func(store.Update) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p, open := <-s.pushes:
			if !open {
				return errors.New("the stream broke")
			}
			if err := apply(store.Whole(p)); err != nil {
				return fmt.Errorf("nack: %w", err)
			}
		}
	}
}

func TestRunAppliesWhatTheSourceBrings(t *testing.T) {
	s, src := store.New(store.Config{}), &stream{make(chan *resourcev1.Snapshot, 2)}
	src.pushes <- snapshot("h:1")
	src.pushes <- snapshot("h:1", "bad")
	err := s.Run(context.Background(), src)
	if err == nil || !strings.Contains(err.Error(), `nack: endpoints[1].mesh_address (endpoint t/bad): "bad" is not host:port`) {
		t.Errorf("error %v", err)
	}
	if g := s.Current(); g.Number != 1 || g.Source != "stream" {
		t.Errorf("generation %d from %s", g.Number, g.Source)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx, src); err != nil {
		t.Errorf("a source that was asked to end: %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			s := store.New(store.Config{})
			var all []string
			for i := range n {
				all = append(all, fmt.Sprintf("h:%d", i+1))
			}
			for i := 0; b.Loop(); i++ {
				p := snapshot(all...)
				p.Endpoints[0].Weight = new(uint32)
				*p.Endpoints[0].Weight = uint32(i%7 + 1)
				if err := s.Apply("bench", p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
