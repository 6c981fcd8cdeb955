package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// chance makes resources, of few names so that they meet.
type chance struct{ *rand.Rand }

func (c chance) target() string { return fmt.Sprintf("t%d", c.IntN(7)) }

func (c chance) one(out ...string) string { return out[c.IntN(len(out))] }

func (c chance) endpoint(target, instance string) *resourcev1.Endpoint {
	e := &resourcev1.Endpoint{
		Target: target, Instance: instance, Incarnation: c.Uint64N(2), MeshAddress: fmt.Sprintf("h:%d", 1+c.IntN(9)),
		Zone: c.one("", "z1", "z2"), Disabled: c.IntN(8) == 0, Backup: c.IntN(6) == 0,
		Tags: map[string]string{"v": c.one("1", "2"), cluster.LaneTag: c.one("", "blue")}, Identity: c.one("", "", "spiffe://x/y"),
	}
	if c.IntN(2) == 0 {
		e.Weight = proto.Uint32(c.Uint32N(4) * 50)
	}
	if c.IntN(3) == 0 {
		e.DirectAddress = fmt.Sprintf("d:%d", 1+c.IntN(4))
		if c.IntN(4) == 0 {
			e.MeshAddress = ""
		}
	}
	if c.IntN(20) == 0 {
		e.MeshAddress = "nowhere" // and so is refused
	}
	return e
}

func (c chance) destination(own string) *resourcev1.Destination {
	d := &resourcev1.Destination{Target: c.one("", own, c.target()), Weight: proto.Uint32(1 + c.Uint32N(9))}
	if c.IntN(2) == 0 {
		d.Subset = map[string]string{"v": c.one("1", "2", "3")}
	}
	return d
}

func (c chance) policy(target string) *resourcev1.ServicePolicy {
	p := &resourcev1.ServicePolicy{Target: target}
	for i := range c.IntN(3) {
		r := &resourcev1.Route{Name: fmt.Sprintf("r%d", i), Timeout: durationpb.New(1e9 * 3)}
		r.Match = &resourcev1.Match{Method: c.one("", "A", "B")}
		for range 1 + c.IntN(2) {
			r.Destinations = append(r.Destinations, c.destination(target))
		}
		if c.IntN(3) == 0 {
			d := &resourcev1.Destination{Target: c.target()}
			r.Mirror = &resourcev1.Mirror{Destination: d, Permille: 10}
		}
		p.Routes = append(p.Routes, r)
	}
	if c.IntN(2) == 0 {
		p.Balancing = &resourcev1.Balancing{Balancer: resourcev1.Balancer(c.IntN(4)), LocalityFirst: c.IntN(2) == 0}
	}
	if c.IntN(2) == 0 {
		p.OutlierEjection = &resourcev1.OutlierEjection{MaxEjectedPercent: proto.Uint32(c.Uint32N(110))}
	}
	if c.IntN(3) == 0 {
		p.Identities = []string{"spiffe://x/" + c.one("a", "b")}
	}
	p.DirectForbidden = c.IntN(4) == 0
	return p
}

// change is of one resource or a few.
func (c chance) change() *resource.Change {
	ch := &resource.Change{}
	for range 1 + c.IntN(3) {
		target := c.target()
		switch n := c.IntN(10); {
		case n < 4:
			instance := fmt.Sprintf("i%d", c.IntN(6))
			ch.SetEndpoint(target, instance, c.endpoint(target, instance))
		case n < 6:
			ch.SetEndpoint(target, fmt.Sprintf("i%d", c.IntN(6)), nil)
		case n < 8:
			ch.SetPolicy(target, c.policy(target))
		case n < 9:
			ch.SetPolicy(target, nil)
		default:
			var p *resourcev1.AuthPolicy
			if c.IntN(2) == 0 {
				p = &resourcev1.AuthPolicy{Target: target, Allow: []*resourcev1.AccessRule{{Name: "a", Callers: []string{c.one("x", "y")}}}}
			}
			ch.SetAuthPolicy(target, p)
		}
	}
	return ch
}

// behaviour is what a table does, as text.
func behaviour(t *route.Table) string {
	var b strings.Builder
	clusterOf := func(c *cluster.Cluster) {
		fmt.Fprintf(&b, " %s known=%d:", c.Name, c.Known)
		for _, e := range c.Endpoints {
			fmt.Fprintf(&b, " %s/%s@%s,%s w%d %s %v", e.Target, e.Instance, e.MeshAddress, e.DirectAddress, e.Weight, e.Zone, e.Identities)
		}
		for _, lane := range []string{"", "blue"} {
			for _, g := range c.Groups([]byte(lane)) {
				fmt.Fprintf(&b, " group%s%d%v", lane, len(g.Endpoints), g.Plain())
			}
		}
	}
	for i := range 8 {
		name := fmt.Sprintf("t%d", i)
		for _, d := range []route.Direction{route.Outbound, route.Inbound} {
			target := t.Target(d, name)
			if target == nil {
				fmt.Fprintf(&b, "%v %s is not known\n", d, name)
				continue
			}
			fmt.Fprintf(&b, "%v %s outlier=%v rules=%+v", d, name, target.Outlier != nil, target.Rules)
			for _, p := range target.Policies.Policies() {
				fmt.Fprintf(&b, " %s", p.Name())
			}
			for _, method := range []string{"A", "B", "C"} {
				h := &wire.RequestHead{Target: []byte(name), Method: []byte(method)}
				match := t.Match
				if d == route.Inbound {
					match = t.Inbound
				}
				made, _ := match(h, nil)
				fmt.Fprintf(&b, " [%s %s %v", method, made.Route.Name, made.Timeout)
			}
			for _, r := range target.Routes {
				fmt.Fprintf(&b, "\n  %s", r.Name)
				for _, to := range r.Destinations {
					fmt.Fprintf(&b, " %d %T %v", to.Weight, to.Balancer, to.Outlier != nil)
					clusterOf(to.Cluster)
				}
				if r.Mirror != nil {
					clusterOf(r.Mirror.Cluster)
				}
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// dangles tells whether all that is wrong is that something leads to a target of which there is nothing: if that comes of
// the target's end, nobody is to be refused for it.
func dangles(err error) bool {
	for _, p := range err.(*resource.Error).Problems {
		if !strings.Contains(p.Text, "is unknown") {
			return false
		}
	}
	return true
}

func texts(problems []resource.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Resource+" "+p.Text)
	}
	slices.Sort(out)
	return out
}

func TestChangesMakeWhatTheWholeWouldMake(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c := chance{rand.New(rand.NewPCG(seed, 1))}
			peers := make(map[cluster.Place]bool)
			s := store.New(store.Config{
				Environment: "prod", Zone: "z1", NewPeer: func(at cluster.Place) cluster.Peer { peers[at] = true; return &peer{at.Address} },
				Released: func(all []cluster.Place) {
					for _, at := range all {
						delete(peers, at)
					}
				},
			})
			if err := s.Apply("test", &resourcev1.Snapshot{Environment: "prod"}); err != nil {
				t.Fatal(err)
			}
			applied := 0
			for range 120 {
				ch, before := c.change(), s.Current()
				if err := s.Change("test", ch); err != nil {
					if s.Current() != before {
						t.Fatal("what is refused must change nothing")
					}
					rest := ch.Without(err.(*resource.Error).Problems)
					if len(rest.Targets()) > 0 && s.Change("test", rest) != nil {
						continue // it led to what was refused
					}
					continue
				}
				applied++
				now := s.Current()
				whole := now.Snapshot()
				if err := resource.Errors(resource.Validate(whole, "prod")); err != nil && !dangles(err) {
					t.Fatalf("a change was let pass that is not sound: %v", err)
				}
				if now.Hash != resource.Hash(whole) {
					t.Fatal("the hash is not that of the content")
				}
				scratch := route.Compile(proto.CloneOf(whole), nil, route.Options{Zone: "z1"})
				if got, want := behaviour(now.Table), behaviour(scratch); got != want {
					t.Fatalf("after %v:\n%s\nfrom scratch:\n%s", ch, got, want)
				}
				var odd []resource.Problem
				for _, name := range scratch.Names() {
					odd = append(odd, resource.TargetWarnings(scratch.View(), name)...)
				}
				if got, want := texts(now.Warnings()), texts(odd); !slices.Equal(got, want) {
					t.Fatalf("warnings %q, from scratch %q", got, want)
				}
				wants := make(map[cluster.Place]bool)
				for e := range now.Table.Endpoints() {
					for at := range e.Places {
						if !e.InRotation() {
							break
						}
						wants[at] = true
						if at.Direct && e.Direct == nil || !at.Direct && (e.Peer == nil || !s.Expects(at, "spiffe://x/a") && e.Expects("spiffe://x/a")) {
							t.Fatalf("%s/%s: peers %v, %v", e.Target, e.Instance, e.Peer, e.Direct)
						}
					}
				}
				if !maps.Equal(peers, wants) {
					t.Fatalf("peers %v, in use %v", peers, wants)
				}
			}
			if applied < 30 {
				t.Fatalf("only %d changes were applied", applied)
			}
		})
	}
}

func TestAChangeSharesWhatItDoesNotTouch(t *testing.T) {
	s := store.New(store.Config{})
	if err := s.Apply("test", &resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{
		{Target: "a", Instance: "1", MeshAddress: "h:1"}, {Target: "b", Instance: "1", MeshAddress: "h:2"},
	}, Policies: []*resourcev1.ServicePolicy{
		{Target: "front", Routes: []*resourcev1.Route{{Name: "r", Destinations: []*resourcev1.Destination{{Target: "b"}}}}},
	}}); err != nil {
		t.Fatal(err)
	}
	before := s.Current().Table
	ch := &resource.Change{}
	ch.SetEndpoint("b", "2", &resourcev1.Endpoint{Target: "b", Instance: "2", MeshAddress: "h:3"})
	if err := s.Change("test", ch); err != nil {
		t.Fatal(err)
	}
	now := s.Current().Table
	if now.Target(route.Outbound, "a") != before.Target(route.Outbound, "a") {
		t.Error("a target that was not touched is to be shared")
	}
	if now.Target(route.Outbound, "front") == before.Target(route.Outbound, "front") {
		t.Error("a target that leads to a touched one leads to its new endpoints")
	}
	if now.Endpoint("b", "1") != before.Endpoint("b", "1") {
		t.Error("an endpoint that was not touched is to be shared")
	}
	if d, _ := before.Match(toT(), nil); before.Endpoint("b", "2") != nil || d.Target != nil {
		t.Error("the table before is not to change")
	}
}

// BenchmarkChange is a push of one changed endpoint.
func BenchmarkChange(b *testing.B) {
	for _, of := range []struct{ targets, endpoints int }{{1, 100}, {1, 10_000}, {100, 100}, {20_000, 5}} {
		b.Run(fmt.Sprintf("targets=%d/endpoints=%d", of.targets, of.endpoints), func(b *testing.B) {
			s := store.New(store.Config{NewPeer: func(at cluster.Place) cluster.Peer { return &peer{at.Address} }})
			whole := &resourcev1.Snapshot{}
			for t := range of.targets {
				target := fmt.Sprintf("t%d", t)
				whole.Policies = append(whole.Policies, &resourcev1.ServicePolicy{Target: target})
				for i := range of.endpoints {
					e := &resourcev1.Endpoint{Target: target, Instance: fmt.Sprintf("i%d", i), MeshAddress: fmt.Sprintf("h%d:%d", t, i+1)}
					whole.Endpoints = append(whole.Endpoints, e)
				}
			}
			if err := s.Apply("bench", whole); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ch := &resource.Change{}
				ch.SetEndpoint("t0", "i0", &resourcev1.Endpoint{Target: "t0", Instance: "i0", MeshAddress: "h0:1", Weight: proto.Uint32(uint32(i%7 + 1))})
				if err := s.Change("bench", ch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
