package dispatcher_test

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// publisher is a Pilot's stream of registrations.
type publisher struct {
	t *testing.T
	grpc.BidiStreamingClient[dispatchv1.PublishRequest, dispatchv1.PublishResponse]
	states []*controlv1.RegistrationState
}

func (w *world) publisher() *publisher {
	w.t.Helper()
	s, err := dispatchv1.NewDispatchClient(w.conn).Publish(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return &publisher{t: w.t, BidiStreamingClient: s}
}

func (p *publisher) say(r *dispatchv1.PublishRequest) {
	p.t.Helper()
	if err := p.Send(r); err != nil {
		p.t.Fatal(err)
	}
}

// await waits for the state of an instance.
func (p *publisher) await(instance string, want controlv1.RegistrationState_State) *controlv1.RegistrationState {
	p.t.Helper()
	for {
		for i, s := range p.states {
			if s.Instance == instance {
				if p.states = slices.Delete(p.states, i, i+1); s.State != want {
					p.t.Fatalf("%s is %v: %s", instance, s.State, s.Reason)
				}
				return s
			}
		}
		r, err := p.Recv()
		if err != nil {
			p.t.Fatal(err)
		}
		p.states = append(p.states, r.States...)
	}
}

func registration(instance, address string) *controlv1.Registration {
	return &controlv1.Registration{Application: "stock", Endpoint: &resourcev1.Endpoint{Target: "stock", Instance: instance, Incarnation: 1, MeshAddress: address}}
}

func TestWhatAPilotPublishesComesToProxies(t *testing.T) {
	w := start(t)
	proxy := w.proxy("p1", "stock")
	p := w.publisher()
	p.say(&dispatchv1.PublishRequest{Environment: "prod", Register: []*controlv1.Registration{registration("s1", "h:1"), registration("s2", "nowhere")}})
	p.await("s1", controlv1.RegistrationState_STATE_PUBLISHED)
	if s := p.await("s2", controlv1.RegistrationState_STATE_REFUSED); s.Reason == "" {
		t.Error("a refusal says no reason")
	}
	proxy.await(1, "prod/stock/s1")
	p.say(&dispatchv1.PublishRequest{Environment: "prod", Withdraw: []*controlv1.Withdrawal{{
		Target: "stock", Instance: "s1", Incarnation: 1, MeshAddress: "h:1", Reason: controlv1.Withdrawal_REASON_LOST,
	}}})
	p.await("s1", controlv1.RegistrationState_STATE_WITHDRAWN)
	proxy.await(0) // also the last one: its proxy knows that it is gone
}

func TestHeldInstancesAreShownAndConfirmed(t *testing.T) {
	w := start(t)
	proxy := w.proxy("p1", "stock")
	w.registry.Put(stock, endpoints(2)...)
	proxy.await(2)
	w.registry.Remove(stock, source.Unknown)
	c := dispatchv1.NewDispatchClient(w.conn)
	var troubled []*dispatchv1.KeyStatus
	for len(troubled) == 0 || len(troubled[0].Held) == 0 {
		r, err := c.Troubled(t.Context(), &dispatchv1.TroubledRequest{Environment: "prod"})
		if err != nil {
			t.Fatal(err)
		}
		troubled = r.Keys
	}
	if k := troubled[0]; k.Key.Target != "stock" || len(k.Held) != 2 || !k.Live || k.Endpoints != 2 {
		t.Errorf("%v", k)
	}
	if r, err := c.Troubled(t.Context(), &dispatchv1.TroubledRequest{Environment: "test"}); err != nil || len(r.Keys) != 0 {
		t.Errorf("another environment's: %v, %v", r, err)
	}
	key := &dispatchv1.Key{Environment: "prod", Target: "stock"}
	for _, bad := range []*dispatchv1.ConfirmRequest{{Key: key, Author: "ann"}, {Key: key, Reason: "gone"}, {Reason: "gone", Author: "ann"}} {
		if _, err := c.Confirm(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for i, instances := range [][]string{{"s00001", "other"}, nil} {
		r, err := c.Confirm(t.Context(), &dispatchv1.ConfirmRequest{Key: key, Instances: instances, Reason: "the rack burnt", Author: "ann"})
		if err != nil || r.Removed != 1 {
			t.Errorf("confirmation %d: %v, %v", i, r, err)
		}
	}
	proxy.await(0)
	if r, err := c.Troubled(context.Background(), &dispatchv1.TroubledRequest{}); err != nil || len(r.Keys) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}
