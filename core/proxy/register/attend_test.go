package register_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/octomesh/octomesh/core/proxy/register"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// roster is who is there by a Pilot's words. The lock is held.
func (p *pilot) roster() map[string]*controlv1.Process {
	here := make(map[string]*controlv1.Process)
	for _, w := range p.others {
		for _, g := range w.GetAttendance().GetGone() {
			delete(here, g.GetInstance())
		}
		for _, h := range w.GetAttendance().GetHere() {
			here[h.GetInstance()] = h
		}
	}
	return here
}

func TestWhoIsBesideTheProxyIsToldAndToldAnewToTheNextPilot(t *testing.T) {
	t.Parallel()
	a, b := startPilot(t), startPilot(t)
	c := client(t, nil, a, b)
	a.await("a stream stands", func() bool { return a.streams == 1 })
	for i := range 250 {
		c.Attend(&controlv1.Process{Application: "web", Instance: fmt.Sprint("web-", i), Incarnation: 1, Node: "n1"}, true)
	}
	c.Attend(&controlv1.Process{Application: "web", Instance: "web-7", Incarnation: 1}, false)
	a.await("there are 249", func() bool {
		h := a.roster()
		return len(h) == 249 && h["web-7"] == nil && h["web-8"].GetNode() == "n1"
	})
	a.mu.Lock()
	for _, w := range a.others {
		if n := len(w.GetAttendance().GetHere()) + len(w.GetAttendance().GetGone()); n > 100 {
			t.Errorf("a word tells of %d", n)
		}
	}
	a.mu.Unlock()
	c.Attend(&controlv1.Process{Application: "web", Instance: "web-8", Incarnation: 1, Node: "n2"}, true)
	a.await("the change comes", func() bool { return a.roster()["web-8"].GetNode() == "n2" })
	a.stop()
	b.await("all of it comes", func() bool { h := b.roster(); return len(h) == 249 && h["web-8"].GetNode() == "n2" })
}

func TestHowTheProxyFaresIsToldWhenItChanges(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	var degraded atomic.Bool
	c := client(t, func(cfg *register.Config) {
		cfg.Condition = func() (bool, uint32) { return degraded.Load(), 2 }
	}, p)
	fares := func() (last *controlv1.Condition) {
		for _, w := range p.others {
			if f := w.GetCondition(); f != nil {
				last = f
			}
		}
		return last
	}
	p.await("it hears what is refused", func() bool { return fares().GetQuarantined() == 2 && !fares().GetDegraded() })
	degraded.Store(true)
	p.await("it hears that it is old", func() bool { return fares().GetDegraded() })
	c.Leave(t.Context())
	p.await("it hears that it leaves", func() bool { return fares().GetDraining() })
}

func measured(application, target string, calls uint64) *directoryv1.ReportRequest {
	return &directoryv1.ReportRequest{Environment: "test", Application: application, Instance: "i", Incarnation: 3, Paths: []*directoryv1.PathReport{{
		Target: target, Path: directoryv1.PathReport_PATH_MESH, Calls: calls, LatencyBuckets: []uint64{0, calls},
	}}}
}

// reported is how many calls a Pilot has heard of, by application, in how many words. The lock is held.
func (p *pilot) reported() (calls map[string]uint64, words int) {
	calls = make(map[string]uint64)
	for _, w := range p.others {
		if r := w.GetReport(); r != nil {
			words++
			for _, path := range r.GetPaths() {
				calls[r.GetApplication()] += path.GetCalls()
			}
		}
	}
	return calls, words
}

// TestReportsArePassedOnAddedUp: one word for each application, when the proxy leaves at the latest.
func TestReportsArePassedOnAddedUp(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	p.await("a stream stands", func() bool { return p.streams == 1 && c.Status().Connected })
	for i := range 1000 {
		c.Report(measured("web", fmt.Sprint("t", i%5), 2))
		c.Report(measured("batch", "t0", 1))
	}
	p.mu.Lock()
	if _, n := p.reported(); n != 0 {
		t.Errorf("%d words before the first interval is over", n)
	}
	p.mu.Unlock()
	c.Leave(t.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	calls, words := p.reported()
	if calls["web"] != 2000 || calls["batch"] != 1000 || words != 2 {
		t.Fatalf("%v in %d words", calls, words)
	}
	for _, w := range p.others {
		if r := w.GetReport(); r != nil && (r.GetInstance() != "" || r.GetEnvironment() != "test") {
			t.Errorf("it speaks for %v", r)
		}
	}
}

func TestWhatAPilotDoesNotAnswerTheNextOneIsTold(t *testing.T) {
	t.Parallel()
	deaf, p := startPilot(t), startPilot(t)
	deaf.deaf = true
	c := client(t, nil, deaf, p)
	deaf.await("a stream stands", func() bool { return deaf.streams == 1 && c.Status().Connected })
	c.Report(measured("web", "t", 7))
	var leaving sync.WaitGroup
	leaving.Go(func() { c.Leave(t.Context()) })
	defer leaving.Wait()
	deaf.await("it hears the report", func() bool { calls, _ := deaf.reported(); return calls["web"] == 7 })
	c.Report(measured("web", "t", 2))
	deaf.stop()
	p.await("it hears all of it", func() bool { calls, words := p.reported(); return calls["web"] == 9 && words == 1 })
}

// TestWhoGivesWayToASuccessorSaysWhatWasMeasured: and nothing else, and ends its stream then.
func TestWhoGivesWayToASuccessorSaysWhatWasMeasured(t *testing.T) {
	t.Parallel()
	p := startPilot(t)
	c := client(t, nil, p)
	p.await("a stream stands", func() bool { return p.streams == 1 && c.Status().Connected })
	c.Report(measured("web", "t", 7))
	c.Yield()
	p.await("it hears the report", func() bool { calls, _ := p.reported(); return calls["web"] == 7 })
	p.await("the stream ends", func() bool { return !c.Status().Connected })
}
