package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// pilot is one in the process, whose registry is the test.
type pilot struct {
	*pilottest.Pilot
	t       testing.TB
	proxies int         // that were started
	applied chan string // versions that the first proxy goes by, the caller's
}

func (p *pilot) Applied(n push.Node, u snapshot.Update) {
	if n.ID != p.instance(1) {
		return
	}
	for _, r := range u.Told {
		select {
		case p.applied <- r.Resource.Version:
		default:
		}
	}
}

func (p *pilot) Refused(n push.Node, _ snapshot.Update, why string) {
	p.t.Errorf("%s refuses what was pushed: %s", n.ID, why)
}

func startPilot(t testing.TB) *pilot {
	t.Helper()
	p := &pilot{t: t, applied: make(chan string, 1024)}
	p.Pilot = pilottest.Start(t, meshtest.Environment, push.Config{Observer: p})
	return p
}

// load makes a target known, with instances at addresses.
func (p *pilot) load(target string, addresses ...string) {
	p.t.Helper()
	entries := make(map[string]snapshot.Entry)
	for _, a := range addresses {
		entries[a] = pilottest.Entry(p.t, p.Topic(resource.KindEndpoint, target), a, &resourcev1.Endpoint{MeshAddress: a})
	}
	p.Load(target, entries)
}

// instance names the proxy that was started as the nth.
func (p *pilot) instance(n int) string { return fmt.Sprintf("%s-%d", p.t.Name(), n) }

// push pushes one resource and waits until the caller's proxy goes by it.
func (p *pilot) push(k resource.Kind, target, name string, m proto.Message) {
	p.t.Helper()
	version := p.Set(k, target, name, m)
	late := time.After(long)
	for {
		select {
		case v := <-p.applied:
			if v == version {
				return
			}
		case <-late:
			p.t.Fatalf("nobody goes by the new %v of %s", k, target)
		}
	}
}

// proxy starts one that follows the Pilot, with what it keeps in dir.
func (p *pilot) proxy(dir string) (_ *meshtest.Proxy, source *control.Client) {
	p.t.Helper()
	p.proxies++
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	source = control.New(control.Config{
		Environment: meshtest.Environment, Instance: p.instance(p.proxies), Pilots: []grpc.ClientConnInterface{p.Conn}, Dir: dir, Log: silent,
	})
	started, err := meshtest.StartProxy(p.t.TempDir(), proxy.Config{Source: source})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(started.Close)
	return started, source
}

// pushed is a caller behind one proxy and a server behind another, both told by a Pilot.
func pushed(t *testing.T, dir string) (p *pilot, caller *meshtest.Proxy, ch *octomesh.Channel) {
	p = startPilot(t)
	caller, _ = p.proxy(dir)
	server, _ := p.proxy("")
	s := octomesh.NewServer("thing", octomesh.WithApplication("thing"), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(server.Socket))
	s.RegisterService(thing{}.desc())
	run(t, s)
	p.load("thing", server.Address)
	return p, caller, dialThrough(t, caller, "thing")
}

func call(t *testing.T, ch *octomesh.Channel) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	_, err := octomesh.CallUnary[msg, msg](ctx, ch, do, text("x"), nil)
	return err
}

func isReason(err error, want octomesh.Reason) bool {
	var e *octomesh.Error
	return errors.As(err, &e) && e.Reason == want
}

func TestTheFirstCallToATargetWaitsForItsSubscription(t *testing.T) {
	p, caller, ch := pushed(t, "")
	if err := call(t, ch); err != nil {
		t.Fatal(err)
	}
	p.load("nothing")
	other := dialThrough(t, caller, "nothing")
	if err := call(t, other); !isReason(err, octomesh.ReasonUnknownTarget) && !isReason(err, octomesh.ReasonNoEndpoint) {
		t.Fatalf("a target of which there is nothing: %v", err)
	}
}

func TestRoutesLeadToTargetsThatNobodyHasCalled(t *testing.T) {
	p, caller, _ := pushed(t, "")
	p.load("front")
	p.Set(resource.KindServicePolicy, "front", "", &resourcev1.ServicePolicy{Routes: []*resourcev1.Route{
		{Name: "elsewhere", Destinations: []*resourcev1.Destination{{Target: "thing"}}},
	}})
	if err := call(t, dialThrough(t, caller, "front")); err != nil {
		t.Fatal(err)
	}
}

func TestPoliciesTakeEffectWhenTheyArePushed(t *testing.T) {
	p, _, ch := pushed(t, "")
	if err := call(t, ch); err != nil {
		t.Fatal(err)
	}
	p.push(resource.KindServicePolicy, "thing", "", &resourcev1.ServicePolicy{Faults: []*resourcev1.Fault{{Name: "outage", AbortPermille: 1000}}})
	if err := call(t, ch); !isReason(err, octomesh.ReasonFaultInjected) {
		t.Fatal(err)
	}
	p.push(resource.KindServicePolicy, "thing", "", &resourcev1.ServicePolicy{})
	if err := call(t, ch); err != nil {
		t.Fatal(err)
	}
}

func TestCallsGoOnWithoutAPilotAndAfterARestart(t *testing.T) {
	dir := t.TempDir()
	p, caller, ch := pushed(t, dir)
	if err := call(t, ch); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	for range 20 {
		if err := call(t, ch); err != nil {
			t.Fatal(err)
		}
	}
	caller.Close() // what it knows is on the disk by then
	again, source := p.proxy(dir)
	if err := call(t, dialThrough(t, again, "thing")); err != nil {
		t.Fatal(err)
	}
	if s := source.Status(); s.Connected {
		t.Fatal(s)
	}
}

// dialThrough makes a channel through a proxy.
func dialThrough(t *testing.T, p *meshtest.Proxy, target string) *octomesh.Channel {
	t.Helper()
	w := newWorld(t, true)
	w.proxies["caller"] = p
	return w.dial("caller", target)
}
