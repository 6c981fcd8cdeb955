package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

var (
	fine = wire.Status{Origin: wire.OriginApplication}
	lost = wire.Refuse(wire.ReasonConnectionLost, wire.OriginClientProxy, "")
)

func application(c wire.Code) wire.Status {
	return wire.Status{Code: c, Origin: wire.OriginApplication, Disposition: wire.DispositionProcessed}
}

func TestWhatCountsAsFailure(t *testing.T) {
	also := policy.CodesOf([]uint32{13, 14, 0, 99})
	for _, c := range []struct {
		status wire.Status
		also   policy.Codes
		want   policy.Result
	}{
		{fine, 0, policy.Success},
		{fine, also, policy.Success},
		{application(wire.Internal), 0, policy.Success},
		{application(wire.Internal), also, policy.Failure},
		{application(wire.NotFound), also, policy.Success},
		{wire.Status{Code: 99, Origin: wire.OriginApplication}, also, policy.Success},
		{lost, 0, policy.Failure},
		{wire.Refuse(wire.ReasonDeadline, wire.OriginClientProxy, ""), 0, policy.Failure},
		{wire.Refuse(wire.ReasonProxyUnready, wire.OriginServerProxy, ""), 0, policy.Failure},
		{wire.Refuse(wire.ReasonHandlerCrashed, wire.OriginServerSDK, ""), 0, policy.Failure},
		{wire.Refuse(wire.ReasonOverloaded, wire.OriginServerProxy, ""), 0, policy.Failure},
		{wire.Refuse(wire.ReasonRateLimited, wire.OriginServerProxy, ""), 0, policy.Unsaid},
		{wire.Refuse(wire.ReasonAuthDenied, wire.OriginServerProxy, ""), 0, policy.Unsaid},
		{wire.Refuse(wire.ReasonFaultInjected, wire.OriginClientProxy, ""), also, policy.Unsaid},
		{wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, ""), 0, policy.Unsaid},
		{wire.Refuse(wire.ReasonUnknownMethod, wire.OriginServerSDK, ""), 0, policy.Unsaid},
		{wire.Refuse(wire.ReasonProxyDraining, wire.OriginServerProxy, ""), 0, policy.Unsaid},
	} {
		if got := policy.Judge(&c.status, c.also); got != c.want {
			t.Errorf("%v %v of %v with %b: %d, want %d", c.status.Code, c.status.Reason, c.status.Origin, c.also, got, c.want)
		}
	}
}

const second = int64(time.Second)

func ejecting(n int) policy.OutlierRules {
	return policy.OutlierRules{InARow: 3, Window: 10 * second, Base: 10 * second, Cap: 60 * second, MaxPercent: n}
}

func members(n int) (all []*cluster.Endpoint) {
	for i := range n {
		all = append(all, &cluster.Endpoint{Instance: fmt.Sprint(i), State: &cluster.State{}})
	}
	return all
}

// fail has an endpoint fail n times.
func fail(o *policy.Outlier, e *cluster.Endpoint, n int, now int64) {
	for range n {
		o.Done(e, &lost, now)
	}
}

func TestFailuresInARowEject(t *testing.T) {
	all := members(2)
	e := all[0]
	o := policy.NewOutlier(ejecting(50), all, &policy.Ejections{})
	fail(o, e, 2, second)
	o.Done(e, &fine, second)
	fail(o, e, 2, second)
	if e.Ejected(second) {
		t.Fatal("ejected although a call succeeded in between")
	}
	fail(o, e, 1, second)
	if !e.Ejected(second) || !e.Ejected(11*second-1) || e.Ejected(11*second) || o.Total() != 1 {
		t.Error("three in a row must eject for 10 s")
	}
}

func TestEjectionsDoubleUpToTheirCapAndForget(t *testing.T) {
	all := members(2)
	o := policy.NewOutlier(ejecting(50), all, &policy.Ejections{})
	now := second
	for i, want := range []int64{10, 20, 40, 60, 60} {
		fail(o, all[0], 3, now)
		if end := now + want*second; !all[0].Ejected(end-1) || all[0].Ejected(end) {
			t.Fatalf("ejection %d did not last %d s", i, want)
		}
		now += want*second + second // it served for a second
	}
	now += 60 * second // it served well for as long as its last ejection was
	fail(o, all[0], 3, now)
	if end := now + 10*second; all[0].Ejected(end) {
		t.Error("an endpoint that served well must begin anew")
	}
}

func TestShareOfFailuresEjects(t *testing.T) {
	rules := ejecting(50)
	rules.InARow, rules.Permille, rules.MinCalls = 0, 300, 10
	all := members(2)
	o := policy.NewOutlier(rules, all, &policy.Ejections{})
	for i := range 9 {
		o.Done(all[0], []*wire.Status{&lost, &fine}[i%2], second)
	}
	if all[0].Ejected(second) {
		t.Fatal("nine calls are too few")
	}
	fail(o, all[0], 1, second)
	if !all[0].Ejected(second) {
		t.Error("6 failures of 10 calls must eject")
	}
	for i := range 100 { // every fifth fails
		st := &fine
		if i%5 == 4 {
			st = &lost
		}
		o.Done(all[1], st, second)
	}
	fail(o, all[1], 9, 20*second) // another window
	if all[1].Ejected(20 * second) {
		t.Error("20 % in one window and too few calls in the next must not eject")
	}
}

func TestAtMostAShareIsEjected(t *testing.T) {
	for _, c := range []struct{ n, percent, want int }{{1, 50, 0}, {2, 50, 1}, {3, 50, 1}, {10, 30, 3}, {10, 100, 10}, {3, 10, 0}, {4, 0, 0}} {
		all := members(c.n)
		o := policy.NewOutlier(ejecting(c.percent), all, &policy.Ejections{})
		for _, e := range all {
			fail(o, e, 5, second)
		}
		if got := o.Ejected(second); got != c.want {
			t.Errorf("%d endpoints, %d %%: %d are ejected, want %d", c.n, c.percent, got, c.want)
		}
	}
}

func TestAPlaceThatGetsFreeIsTakenByTheNextFailure(t *testing.T) {
	all := members(2)
	o := policy.NewOutlier(ejecting(50), all, &policy.Ejections{})
	fail(o, all[0], 3, second)
	fail(o, all[1], 3, 2*second)
	fail(o, all[1], 1, 11*second)
	if all[0].Ejected(11*second) || !all[1].Ejected(11*second) {
		t.Error("the second one must be ejected once the first is back")
	}
}

func TestOutlierDoesNotAllocate(t *testing.T) {
	all := members(4)
	o := policy.NewOutlier(ejecting(50), all, &policy.Ejections{})
	now := second
	if n := testing.AllocsPerRun(1000, func() {
		fail(o, all[0], 3, now)
		o.Done(all[1], &fine, now)
		now += 20 * second
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
