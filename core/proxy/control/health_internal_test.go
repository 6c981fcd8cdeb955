package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// known makes a client know a target with one endpoint, as if a Pilot had said so.
func (c *Client) knows(t *testing.T, target string, p *resourcev1.ServicePolicy) {
	t.Helper()
	if !c.Follow(target) {
		t.Fatalf("%s cannot be followed", target)
	}
	e := newChange(resource.KindEndpoint)
	topic := c.state.topic(resource.KindEndpoint, target)
	m := &resourcev1.Endpoint{Target: target, Instance: "one", MeshAddress: "h:1"}
	value, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c.state.set(e, topic, topic.FullName("one"), item{version: "1", value: value, message: m})
	changes := []*change{e}
	if p != nil {
		policy := newChange(resource.KindServicePolicy)
		topic := c.state.topic(resource.KindServicePolicy, target)
		value, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		c.state.set(policy, topic, topic.FullName(""), item{version: "1", value: value, message: p})
		changes = append(changes, policy)
	}
	for _, k := range kinds {
		c.state.answered[c.state.topic(k, target)] = true
	}
	if err := c.put(changes...); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsThatNobodyCallsAreLeft(t *testing.T) {
	dir := t.TempDir()
	s := store.New(store.Config{Environment: "prod"})
	start := func() *Client {
		c := New(Config{Environment: "prod", Dir: dir, Targets: []string{"listed"}, Log: silent})
		c.sink = func(u store.Update) error {
			if u.Snapshot != nil {
				return s.Apply("test", u.Snapshot)
			}
			return s.Change("test", u.Change)
		}
		c.begin()
		return c
	}
	calls := map[string]uint64{"called": 1}
	uses := func(target string) (uint64, bool) {
		calls["called"]++
		return calls[target], target == "attached"
	}
	c := start()
	c.Uses(uses)
	for _, target := range []string{"listed", "called", "attached", "idle", "led"} {
		c.knows(t, target, nil)
	}
	c.knows(t, "leads", &resourcev1.ServicePolicy{Target: "leads", Routes: []*resourcev1.Route{
		{Name: "r", Destinations: []*resourcev1.Destination{{Target: "led"}}},
	}})
	calls["leads"] = 5
	c.unfollowIdle(time.Hour)
	for range 22 {
		calls["leads"]++
		c.unfollowIdle(time.Hour)
	}
	c.save(true)
	c = start() // the time counts on
	c.Uses(uses)
	if !c.Known("idle") || s.Current().Table.Endpoint("idle", "one") == nil {
		t.Fatal("it is left too early")
	}
	calls["leads"]++
	c.unfollowIdle(time.Hour)
	if got := c.Status().Targets; !slices.Equal(got, []string{"attached", "called", "leads", "led", "listed"}) {
		t.Fatalf("followed are %v", got)
	}
	if c.Known("idle") || s.Current().Table.Endpoint("idle", "one") != nil {
		t.Fatal("what was left is to be forgotten")
	}
	if !c.Follow("idle") || c.Known("idle") {
		t.Fatal("it is to be followed again, and waited for")
	}
}

func TestBeingAloneIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	c := New(Config{Environment: "prod", Log: slog.New(slog.NewTextHandler(&log, nil))})
	begun := c.health.since
	for _, at := range []struct {
		after    time.Duration
		degraded bool
		said     int
	}{{59 * time.Second, false, 0}, {time.Minute, true, 1}, {time.Hour, true, 1}, {24 * 365 * time.Hour, true, 1}} {
		c.settle(begun.Add(at.after))
		if got := strings.Count(log.String(), "the control plane is gone"); c.health.degraded(begun.Add(at.after)) != at.degraded || got != at.said {
			t.Errorf("after %v: said %d times", at.after, got)
		}
	}
	c.health.heard(begun.Add(2 * time.Hour))
	if c.health.degraded(begun.Add(100 * time.Hour)) {
		t.Error("while a Pilot is there nothing is old")
	}
	c.health.lost(begun.Add(200 * time.Hour))
	c.settle(begun.Add(201 * time.Hour))
	if strings.Count(log.String(), "the control plane is gone") != 2 {
		t.Error("when it is gone again, that is to be said again")
	}
}

// TestClocksMayJump is row 24 of the table of faults: the one thing that the host's clock says is when a state was written.
func TestClocksMayJump(t *testing.T) {
	for jump, old := range map[time.Duration]bool{
		0: false, -time.Minute: false, time.Hour: false, -6 * 24 * time.Hour: false, -8 * 24 * time.Hour: true,
		10 * 365 * 24 * time.Hour: true, -10 * 365 * 24 * time.Hour: true, 90 * time.Minute: true,
	} {
		dir := t.TempDir()
		s := newState("prod")
		s.followed["stock"] = true
		topic := s.topic(resource.KindEndpoint, "stock")
		value, err := proto.Marshal(&resourcev1.Endpoint{MeshAddress: "h:1"})
		if err != nil {
			t.Fatal(err)
		}
		s.put(topic, topic.FullName("one"), item{version: "1", value: value, message: &resourcev1.Endpoint{}})
		d := disk{dir: dir}
		if err := d.save(s.save(time.Now().Add(jump).UnixMilli())); err != nil {
			t.Fatal(err)
		}
		c := New(Config{Environment: "prod", Dir: dir, Log: silent})
		if st := c.Status(); st.Resources != 1 || st.Old != old {
			t.Errorf("written %v from now: %+v", jump, st)
		}
	}
}

// TestADiskThatFailsRecovers is row 22 of the table of faults, with a directory that is none for a while.
func TestADiskThatFailsRecovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := New(Config{Environment: "prod", Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	taken := 0
	c.sink = func(store.Update) error { taken++; return nil }
	for i := range 5 {
		c.quarantine.begin([]*resourcev1.Tried{{TypeUrl: resource.KindServicePolicy.TypeURL(), Name: fmt.Sprint("prod/", i), Version: "1"}}, time.Now())
		c.knows(t, fmt.Sprint("t", i), nil)
		c.health.tried = time.Time{} // as if it were time to try again
		c.save(false)
		c.settle(time.Now())
	}
	if s := c.Status(); s.Disk == "" || !s.Unsaved || taken != 5 {
		t.Fatalf("%+v, %d taken", s, taken)
	}
	if n := strings.Count(log.String(), "cannot be kept on disk"); n != 1 {
		t.Fatalf("it is said %d times:\n%s", n, log.String())
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	c.save(false) // too early: it is left alone for a while
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a disk that failed is to be left alone for a while")
	}
	c.health.tried = time.Time{}
	c.settle(time.Now()) // what is on trial is written, too, and what could not be before
	c.save(false)
	c.settle(time.Now())
	if s := c.Status(); s.Disk != "" || s.Unsaved {
		t.Fatalf("%+v", s)
	}
	if got := readTrial(filepath.Join(dir, trialFile)); len(got) != 6 || got[4].Versions[0].Name != "prod/4" {
		t.Fatalf("on trial are %v", got)
	}
	if again := New(Config{Environment: "prod", Dir: dir, Log: silent}).Status(); len(again.Targets) != 5 {
		t.Fatalf("%+v", again)
	}
}
