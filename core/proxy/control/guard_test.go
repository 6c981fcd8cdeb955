package control_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// load makes endpoints s0, s1, … all that a target has, and of others says that they have left.
func (p *pilot) load(t testing.TB, target string, n int, left ...string) {
	entries := make(map[string]snapshot.Entry)
	topic := p.Topic(resource.KindEndpoint, target)
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		entries[name] = pilottest.Entry(t, topic, name, &resourcev1.Endpoint{MeshAddress: fmt.Sprintf("h:%d", i+1)})
	}
	for _, name := range left {
		entries[name] = pilottest.Entry(t, topic, name, &resourcev1.Endpoint{Standing: resourcev1.Standing_STANDING_LEFT})
	}
	p.Load(target, entries)
}

// names are the first n instances from one on.
func names(from, n int) (out []string) {
	for i := from; i < n; i++ {
		out = append(out, fmt.Sprintf("s%d", i))
	}
	return out
}

// marks counts what was said to see that all before it has come.
var marks atomic.Int64

// rotation is what the proxy has of stock, after the Pilot has said something else that the proxy goes by.
func (p *proxy) rotation(t testing.TB, pilot *pilot) (instances, held []string) {
	t.Helper()
	mark := fmt.Sprintf("h:%d", 1000+marks.Add(1))
	pilot.endpoint("cart", "mark", mark)
	p.awaitHas(t, "cart/mark="+mark)
	p.mu.Lock()
	for _, e := range p.current.GetEndpoints() {
		if e.Target != "stock" {
			continue
		}
		instances = append(instances, e.Instance)
		if e.Standing == resourcev1.Standing_STANDING_HELD {
			held = append(held, e.Instance)
		}
	}
	p.mu.Unlock()
	var told []string
	for _, h := range p.Held() {
		told = append(told, h.Instance)
	}
	if !slices.Equal(told, held) {
		t.Fatalf("held are %v, and said to be %v", held, told)
	}
	return instances, held
}

func (p *proxy) awaitHas(t testing.TB, part string) {
	t.Helper()
	ctx := within(t)
	for !strings.Contains(p.text(), part) {
		select {
		case <-p.applied:
		case <-ctx.Done():
			t.Fatalf("it has %q, want %q in it", p.text(), part)
		}
	}
}

func TestEndpointsThatGoWithoutAWordAreHeldIfTheyAreMany(t *testing.T) {
	for _, c := range []struct {
		what       string
		n, stay    int
		left       []string
		want, held int
	}{
		{"the only one", 1, 0, nil, 1, 1},
		{"the only one, which left", 1, 0, []string{"s0"}, 0, 0},
		{"two of three", 3, 1, nil, 1, 0},
		{"half of four", 4, 2, nil, 2, 0},
		{"three of four", 4, 1, nil, 4, 3},
		{"three of four, which left", 4, 1, names(1, 4), 1, 0},
		{"all of ten", 10, 0, nil, 10, 10},
		{"all of ten, which left", 10, 0, names(0, 10), 0, 0},
		{"six of ten, of which five left", 10, 4, names(4, 9), 4, 0},
		{"all of ten, of which two left", 10, 0, names(0, 2), 8, 8},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			pilot := startPilot(t)
			pilot.load(t, "stock", c.n)
			p := startProxy(t, "", nil, pilot.Conn)
			for _, target := range []string{"stock", "cart"} {
				if err := p.Await(within(t), target); err != nil {
					t.Fatal(err)
				}
			}
			pilot.load(t, "stock", c.stay, c.left...)
			if all, held := p.rotation(t, pilot); len(all) != c.want || len(held) != c.held {
				t.Fatalf("%v are in rotation, %v of them held", all, held)
			}
		})
	}
}

func TestWhatIsHeldEnds(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	pilot.load(t, "stock", 6)
	p := startProxy(t, dir, nil, pilot.Conn)
	for _, target := range []string{"stock", "cart"} {
		if err := p.Await(within(t), target); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, all, held []string) {
		t.Helper()
		ctx := within(t)
		for a, h := p.rotation(t, pilot); !slices.Equal(a, all) || !slices.Equal(h, held); a, h = p.rotation(t, pilot) {
			if ctx.Err() != nil { // after a reconnection the mark may come before the rest
				t.Fatalf("%s: %v are in rotation, %v of them held", what, a, h)
			}
		}
	}
	pilot.load(t, "stock", 0)
	check("all are gone", names(0, 6), names(0, 6))
	p.stop()
	p = startProxy(t, dir, nil, pilot.Conn)
	if err := p.Await(within(t), "cart"); err != nil {
		t.Fatal(err)
	}
	check("after a restart", names(0, 6), names(0, 6))
	pilot.load(t, "stock", 1)
	check("one is there again", names(0, 6), names(1, 6))
	pilot.load(t, "stock", 1, "s1")
	check("of one it is said that it left", []string{"s0", "s2", "s3", "s4", "s5"}, names(2, 6))
	if n := p.Drop("stock", "test", "s2", "s0", "other"); n != 1 {
		t.Fatalf("%d dropped", n)
	}
	check("one is dropped, and one that is not held is not", []string{"s0", "s3", "s4", "s5"}, names(3, 6))
	if n := p.Drop("stock", "test"); n != 3 {
		t.Fatalf("%d dropped", n)
	}
	check("all that are held are dropped", []string{"s0"}, nil)
	if n := p.Drop("stock", "test"); n != 0 {
		t.Fatalf("%d dropped", n)
	}
}
