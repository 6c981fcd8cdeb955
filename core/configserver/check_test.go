package configserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/report"
)

// fleetOf is a Config Server whose Pilots and Directories the test fills.
type fleetOf struct {
	configserver.Mesh
	t     *testing.T
	who   *fleet.Roster
	parts []configserver.Part
}

func startFleet(t *testing.T) *fleetOf {
	t.Helper()
	f := &fleetOf{t: t, who: fleet.NewRoster()}
	g, l := grpc.NewServer(), bufconn.Listen(1<<20)
	(&fleet.Service{Who: f.who, Book: report.NewBook(report.Config{Windows: true})}).Register(g)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	f.add("pilot", "p1", func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
	f.Mesh = configserver.Mesh{Service: configserver.New(configserver.Config{
		Store: store.NewMemory(100), Log: slog.New(slog.DiscardHandler),
		Fleet: func(context.Context) ([]configserver.Part, error) { return f.parts, nil },
	})}
	return f
}

func (f *fleetOf) add(role, name string, dial func(context.Context, string) (net.Conn, error)) {
	c, err := grpc.NewClient("passthrough:"+name, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	f.parts = append(f.parts, configserver.Part{Role: role, Name: name, Address: name + ":1", Conn: c})
}

// set says what a Set finds: the lacks of each node, as "node: lack, lack"; or its error.
func (f *fleetOf) set(r *configv1.SetRequest) ([]string, error) {
	r.Environment, r.Why = "prod", &configv1.Why{Author: "alice", Reason: "a test"}
	if len(r.Targets) == 0 {
		r.Targets = []string{"stock"}
	}
	res, err := f.Set(f.t.Context(), r)
	found := res.GetCheck()
	for _, d := range status.Convert(err).Details() {
		found, _ = d.(*configv1.Check)
	}
	var out []string
	for _, c := range found.GetChecked() {
		var all []string
		for _, l := range c.GetLacks() {
			if l.GetText() == "" || l.GetRemedy() == "" {
				f.t.Errorf("%v does not say what is missing, and what to do", l)
			}
			all = append(all, strings.TrimPrefix(l.GetKind().String(), "KIND_"))
		}
		out = append(out, strings.TrimSpace(c.GetNode()+": "+strings.Join(all, ",")))
	}
	slices.Sort(out)
	for _, l := range found.GetLacks() {
		out = append(out, strings.TrimPrefix(l.GetKind().String(), "KIND_"))
	}
	return out, err
}

func (f *fleetOf) expect(r *configv1.SetRequest, code codes.Code, want ...string) {
	f.t.Helper()
	got, err := f.set(r)
	if status.Code(err) != code || !slices.Equal(got, want) {
		f.t.Errorf("%v: %v, found %q, want %q", r, err, got, want)
	}
}

// capable is a process that may go through the mesh.
func capable(node string, change ...func(*controlv1.Process)) *controlv1.Process {
	p := &controlv1.Process{
		Application: "web", Instance: "web-" + node, Incarnation: 1, Node: node, Sdk: "go", SdkVersion: "0.1.0", Runtime: "go1.26.1",
		Features: []string{"fallback", "report", "switch"}, Targets: []string{"stock"},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func sidecar(name string) *controlv1.Proxy {
	return &controlv1.Proxy{Instance: name, SoftwareVersion: "0.1.0"}
}

func TestWhatANodeLacksIsSaid(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	at := f.who.Open("prod", sidecar("good"))
	for _, p := range []*controlv1.Process{
		capable("fit"), capable("sdk", func(p *controlv1.Process) { p.SdkVersion = "0.0.9" }),
		capable("runtime", func(p *controlv1.Process) { p.Runtime = "go1.25.7" }),
		capable("old", func(p *controlv1.Process) { p.Features, p.Runtime = nil, "" }),
		capable("foreign", func(p *controlv1.Process) { p.Sdk, p.SdkVersion, p.Runtime = "cobol", "0.0.1", "z/OS 2" }),
		capable("server", func(p *controlv1.Process) { p.Features, p.Targets, p.Serves = nil, nil, true }),
	} {
		at.Tell(p, true)
	}
	f.who.Open("prod", nil).Tell(capable("alone"), true)
	for name, c := range map[string]*controlv1.Condition{"draining": {Draining: true}, "degraded": {Degraded: true}, "crashed": {Quarantined: 2}} {
		s := f.who.Open("prod", sidecar(name))
		s.Tell(capable(name), true)
		s.Fares(c)
	}
	f.who.Open("prod", &controlv1.Proxy{Instance: "x", SoftwareVersion: "0.0.7"}).Tell(capable("oldproxy"), true)
	f.who.Open("test", nil).Tell(capable("elsewhere"), true)
	all := []string{
		"alone: NO_PROXY", "crashed: PROXY_HEALTH", "degraded: PROXY_HEALTH", "draining: PROXY_HEALTH", "fit:", "foreign:",
		"old: FEATURE,FEATURE,FEATURE", "oldproxy: PROXY_VERSION", "runtime: RUNTIME", "sdk: SDK",
	}
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10}, codes.FailedPrecondition, all...)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10, DryRun: true}, codes.OK, all...)
	f.expect(&configv1.SetRequest{Application: "*", Permille: 10}, codes.FailedPrecondition, all...)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10, Nodes: []string{"fit", "nowhere"}, Others: proto.Uint32(0)}, codes.FailedPrecondition,
		"fit:", "nowhere: UNKNOWN_NODE")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10, Nodes: []string{"fit"}, Others: proto.Uint32(0)}, codes.OK, "fit:")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 20, Nodes: []string{"sdk"}}, codes.FailedPrecondition, "sdk: SDK")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 20, Nodes: []string{"sdk"}, Force: true}, codes.OK, "sdk: SDK")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 15, Nodes: []string{"sdk"}}, codes.OK) // less than before
	f.expect(&configv1.SetRequest{Application: "web", Permille: 0, AllNodes: true}, codes.OK)
	f.expect(&configv1.SetRequest{Application: "mail", Permille: 10}, codes.NotFound)
	f.expect(&configv1.SetRequest{Application: "unheard", Permille: 0}, codes.OK) // to leave is never refused
	f.expect(&configv1.SetRequest{Application: "mail", Permille: 10, Force: true}, codes.OK)
	if all, err := f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "switch/mail,stock"}); err != nil || all.GetVersion().GetAction() != "mesh set, forced" {
		t.Error(all, err)
	}
}

// TestWhateverRaisesAShareIsChecked: files, older revisions, and the end of a switch.
func TestWhateverRaisesAShareIsChecked(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.who.Open("prod", sidecar("good")).Tell(capable("fit"), true)
	f.who.Open("prod", nil).Tell(capable("alone"), true)
	var warned []*configv1.Problem
	apply := func(what, text string, force bool, code codes.Code, ineligible uint32) {
		t.Helper()
		r, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file("mesh_switches: [" + text + "]\n"), Why: why("a test"), Force: force})
		refusedFor(t, what, err, code, ineligible)
		warned = r.GetWarnings()
	}
	const web = "switch/web,stock"
	apply("nothing", "{application: web, target: stock, permille: 0}", false, codes.OK, 0)
	apply("more", "{application: web, target: stock, permille: 1}", false, codes.FailedPrecondition, 1)
	apply("an eligible node", "{application: web, target: stock, nodes: [fit]}", false, codes.OK, 0)
	apply("a node that nobody knows", "{application: web, target: stock, nodes: [fit, nowhere]}", false, codes.FailedPrecondition, 1)
	apply("by force", "{application: web, target: stock, permille: 500}", true, codes.OK, 0)
	if len(warned) != 1 || !strings.Contains(warned[0].GetText(), "1 of 1 processes are not eligible") {
		t.Errorf("it warns of %v", warned)
	}
	apply("the same", "{application: web, target: stock, permille: 500}", false, codes.OK, 0)
	apply("less", "{application: web, target: stock, permille: 400}", false, codes.OK, 0)
	back := func(what string, to uint64, code codes.Code, ineligible uint32) {
		t.Helper()
		_, err := f.Rollback(t.Context(), &configv1.RollbackRequest{Environment: "prod", Name: web, To: to, Why: why("a test")})
		refusedFor(t, what, err, code, ineligible)
	}
	back("back to more", 3, codes.FailedPrecondition, 1)
	back("back to less", 1, codes.OK, 0)
	remove := func(what string, force bool, code codes.Code, ineligible uint32) {
		t.Helper()
		_, err := f.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{web}, Why: why("a test"), Force: force})
		refusedFor(t, what, err, code, ineligible)
	}
	remove("the default in its place", false, codes.FailedPrecondition, 1)
	apply("everybody's, from nothing to nothing", "{target: stock, permille: 0}", false, codes.OK, 0)
	remove("everybody's in its place", false, codes.OK, 0)
	apply("everybody but those who have another", "{target: stock, permille: 10}, {application: web, target: stock, permille: 0}", false, codes.OK, 0)
	remove("more by everybody's", false, codes.FailedPrecondition, 1)
	remove("that by force", true, codes.OK, 0)
	apply("an application that comes later", "{application: later, target: stock, permille: 10}", false, codes.OK, 0)
	got, err := f.History(t.Context(), &configv1.HistoryRequest{Environment: "prod", Name: web})
	var all []string
	for _, v := range got.GetVersions() {
		all = append(all, v.GetAction())
	}
	if want := "delete, forced;apply;delete;rollback to 1;apply;apply, forced;apply;apply"; err != nil || strings.Join(all, ";") != want {
		t.Errorf("%v, %q, want %q", err, all, want)
	}
}

// refusedFor holds how a change ended, and for how many processes.
func refusedFor(t *testing.T, what string, err error, code codes.Code, ineligible uint32) {
	t.Helper()
	var found *configv1.Check
	for _, d := range status.Convert(err).Details() {
		found, _ = d.(*configv1.Check)
	}
	if status.Code(err) != code || found.GetIneligible() != ineligible {
		t.Errorf("%s: %v, found %v", what, err, found)
	}
}

// TestLessNeedsNobodysAnswer, as nobody comes into the mesh by it.
func TestLessNeedsNobodysAnswer(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 500, Force: true}, codes.OK)
	f.add("directory", "gone", func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") })
	f.expect(&configv1.SetRequest{Application: "web", Permille: 400}, codes.OK)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 401}, codes.FailedPrecondition, "UNANSWERED")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 300, Nodes: []string{"a"}}, codes.OK)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 310, Nodes: []string{"b"}}, codes.OK)
	f.expect(&configv1.SetRequest{Application: "web", Permille: 310, Nodes: []string{"a"}}, codes.FailedPrecondition, "a: UNKNOWN_NODE", "UNANSWERED")
}

// TestWhoDoesNotAnswerIsInTheWay: nobody knows which nodes it hears of. To leave the mesh needs nobody's answer.
func TestWhoDoesNotAnswerIsInTheWay(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.who.Open("prod", sidecar("good")).Tell(capable("fit"), true)
	f.add("directory", "gone", func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") })
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10}, codes.FailedPrecondition, "fit:", "UNANSWERED")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 10, Force: true}, codes.OK, "fit:", "UNANSWERED")
	f.expect(&configv1.SetRequest{Application: "web", Permille: 0}, codes.OK)
}

func TestLessCriticalTiersGoFirst(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	text := "applications:\n"
	for name, tier := range map[string]string{"pay": "TIER_CRITICAL", "web": "TIER_IMPORTANT", "batch": "TIER_INTERNAL", "report": "TIER_INTERNAL", "mail": "TIER_STANDARD"} {
		text += fmt.Sprintf("- {name: %s, owner: o, tier: %s}\n", name, tier)
	}
	if _, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(text), Why: why("who there is")}); err != nil {
		t.Fatal(err)
	}
	internal, critical := resourcev1.Tier_TIER_INTERNAL, resourcev1.Tier_TIER_CRITICAL
	f.expect(&configv1.SetRequest{Tier: internal, Permille: 100}, codes.OK)
	f.expect(&configv1.SetRequest{Application: "mail", Permille: 50}, codes.OK)
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 50}, codes.OK)
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 200}, codes.FailedPrecondition, "TIER", "TIER", "TIER") // batch, mail, report
	f.expect(&configv1.SetRequest{Tier: internal, Permille: 1000}, codes.OK)
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 200}, codes.FailedPrecondition, "TIER")
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 200, Force: true}, codes.OK, "TIER")
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 10}, codes.OK)
	f.expect(&configv1.SetRequest{Tier: critical, Permille: 10, Targets: []string{"other"}}, codes.OK)
}

func TestAChosenNodeKeepsWhatHeldForTheOthers(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	at := f.who.Open("prod", sidecar("good"))
	for _, n := range []string{"a", "b"} {
		at.Tell(capable(n), true)
	}
	one := &configv1.SetRequest{Application: "web", Permille: 500, Nodes: []string{"a"}}
	f.expect(one, codes.FailedPrecondition) // what do the others get?
	f.expect(&configv1.SetRequest{Application: "*", Permille: 10}, codes.OK, "a:", "b:")
	f.expect(one, codes.OK, "a:")
	f.expect(&configv1.SetRequest{Application: "*", Permille: 900}, codes.OK) // web has a switch of its own by now
	got, err := f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "switch/web,stock"})
	if s := got.GetVersion().GetResource().GetMeshSwitches(); err != nil || len(s) != 1 || s[0].GetPermille() != 10 || s[0].GetNodeShares()[0].GetPermille() != 500 {
		t.Error(got, err)
	}
}

func TestSetsThatCannotBe(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	for name, r := range map[string]*configv1.SetRequest{
		"nobody":                   {Permille: 1},
		"two":                      {Application: "web", Tier: resourcev1.Tier_TIER_INTERNAL},
		"more than the whole":      {Application: "web", Permille: 1001},
		"more than the whole, too": {Application: "web", Nodes: []string{"a"}, Others: proto.Uint32(1001)},
		"others of nobody":         {Application: "web", Others: proto.Uint32(1)},
		"all and some":             {Application: "web", Nodes: []string{"a"}, AllNodes: true},
		"no name":                  {Application: "web", Targets: []string{"a b"}},
		"too many":                 {Application: "web", Targets: manyNames(1001)},
		"too many nodes":           {Application: "web", Nodes: manyNames(1001), Others: proto.Uint32(0), Permille: 5},
	} {
		if got, err := f.set(r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	_, err := f.Set(t.Context(), &configv1.SetRequest{Environment: "prod", Application: "web", Targets: []string{"stock"}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "a reason is missing") {
		t.Error(err)
	}
}

func manyNames(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("n", i))
	}
	return out
}
