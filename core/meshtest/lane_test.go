package meshtest_test

import (
	"context"
	"testing"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/meshtest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// TestChainReturnsToItsLane has front call middle and middle call back, of which front and back have a lane.
func TestChainReturnsToItsLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	snap := func() *resourcev1.Snapshot {
		s := &resourcev1.Snapshot{}
		for _, e := range [][3]string{
			{"front", "front-base", ""}, {"front", "front-blue", "blue"}, {"middle", "middle-base", ""},
			{"back", "back-base", ""}, {"back", "back-blue", "blue"},
		} {
			r := &resourcev1.Endpoint{Target: e[0], Instance: e[1], MeshAddress: w.proxy(e[1]).Address}
			if e[2] != "" {
				r.Tags = map[string]string{"lane": e[2]}
			}
			s.Endpoints = append(s.Endpoints, r)
		}
		return s
	}
	for _, e := range snap().GetEndpoints() {
		name, next := e.GetInstance(), map[string]string{"front": "middle", "middle": "back"}[e.GetTarget()]
		s := octomesh.NewServer(e.GetTarget(), octomesh.WithApplication(e.GetTarget()), octomesh.WithEnvironment(meshtest.Environment), quiet,
			octomesh.WithMode("on"), octomesh.WithSocket(w.proxy(name).Socket))
		var on *octomesh.Channel
		if next != "" {
			on = w.dial(name, next)
		}
		s.RegisterService(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			if on == nil {
				return text(name), nil
			}
			rest, err := unary(ctx, on, do, m)
			if err != nil {
				return nil, err
			}
			return text(name + " " + string(rest.GetValue())), nil
		}}.desc())
		run(t, s)
	}
	caller := w.dial("caller", "front")
	for _, p := range w.proxies {
		if err := p.Publish(snap()); err != nil {
			t.Fatal(err)
		}
	}
	for lane, want := range map[string]string{
		"": "front-base middle-base back-base", "blue": "front-blue middle-base back-blue", "green": "front-base middle-base back-base",
	} {
		var opts []octomesh.CallOption
		if lane != "" {
			opts = append(opts, octomesh.WithBaggage("lane", lane))
		}
		for range 20 {
			got, err := unary(within(t, long), caller, do, text("x"), opts...)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.GetValue()) != want {
				t.Fatalf("lane %q went by %s, want %s", lane, got.GetValue(), want)
			}
		}
	}
}
