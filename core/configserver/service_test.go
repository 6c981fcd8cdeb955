package configserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/configserver/store/etcd"
)

// fixture is a service on a real etcd, over a real connection.
type fixture struct {
	configv1.ConfigClient
	t *testing.T
}

func open(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	configserver.New(configserver.Config{Store: etcd.New(client, "/test/"), Now: clock(), Log: log}).Register(g)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &fixture{configv1.NewConfigClient(conn), t}
}

// clock goes on by a minute each time that one looks.
func clock() func() time.Time {
	var mu sync.Mutex
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Minute)
		return now
	}
}

func why(reason string) *configv1.Why { return &configv1.Why{Author: "alice", Reason: reason} }

func file(content string) []*configv1.File {
	return []*configv1.File{{Name: "shop.yaml", Content: []byte(content)}}
}

// apply applies one file to prod.
func (f *fixture) apply(content, reason string) ([]*configv1.Change, error) {
	r, err := f.Apply(f.t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(content), Why: why(reason)})
	return r.GetChanges(), err
}

func (f *fixture) must(content, reason string) []*configv1.Change {
	f.t.Helper()
	changes, err := f.apply(content, reason)
	if err != nil {
		f.t.Fatal(err)
	}
	return changes
}

// history is what happened to a resource, the newest first.
func (f *fixture) history(name string) string {
	f.t.Helper()
	h, err := f.History(f.t.Context(), &configv1.HistoryRequest{Environment: "prod", Name: name})
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, v := range h.GetVersions() {
		out = append(out, fmt.Sprintf("%d %s by %s: %s", v.GetRevision(), v.GetAction(), v.GetAuthor(), v.GetReason()))
	}
	return strings.Join(out, "\n")
}

func (f *fixture) code(err error, want codes.Code, says string) {
	f.t.Helper()
	if status.Code(err) != want || !strings.Contains(status.Convert(err).Message(), says) {
		f.t.Errorf("got %v, want %v that says %q", err, want, says)
	}
}

func detail[T any](err error) (found T) {
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(T); ok {
			return d
		}
	}
	return found
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
	}
}

// fields are changed fields in a line each.
func fields(changes []*configv1.FieldChange) string {
	var out []string
	for _, c := range changes {
		out = append(out, c.GetField()+": "+c.GetBefore()+" -> "+c.GetAfter())
	}
	return strings.Join(out, "\n")
}

const shop = `policies:
- target: shop.cart
  max_timeout: 2s
  limits: {max_open_calls: 100}
`

func TestBadFilesAreRefusedWithFileLineAndFieldAndNothingIsWritten(t *testing.T) {
	f := open(t)
	_, err := f.apply(shop+"- target: shop.order\n  max_timeout: -1s\n  retries: {max_attempts: 99}\n", "try")
	f.code(err, codes.InvalidArgument, "shop.yaml:6: policies[1].max_timeout (policy shop.order): -1s is negative")
	problems := detail[*configv1.Problems](err).GetProblems()
	if len(problems) != 2 || problems[1].GetLine() != 7 || problems[1].GetField() != "policies[1].retries.max_attempts" || problems[1].GetFile() != "shop.yaml" {
		t.Errorf("problems: %v", problems)
	}
	_, err = f.apply("policies:\n- target: shop.cart\n  max_timout: 2s\n", "try")
	f.code(err, codes.InvalidArgument, "shop.yaml:3: policies[0].max_timout: is not a field of ServicePolicy; did you mean max_timeout?")
	_, err = f.apply("environment: test\n"+shop, "try")
	f.code(err, codes.InvalidArgument, `shop.yaml:1: environment`)
	_, err = f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Why: why("try"), Files: []*configv1.File{
		{Name: "a.yaml", Content: []byte(shop)}, {Name: "b.yaml", Content: []byte(shop)},
	}})
	f.code(err, codes.InvalidArgument, "b.yaml:2: policies[0] (policy/shop.cart): stands in a.yaml too")
	list, err := f.List(t.Context(), &configv1.ListRequest{Environment: "prod"})
	if err != nil || len(list.GetVersions()) != 0 {
		t.Errorf("after refusals there is %v, %v", list, err)
	}
}

func TestAChangeNeedsAReasonAndAnAuthor(t *testing.T) {
	f := open(t)
	for _, w := range []*configv1.Why{nil, {Author: "alice"}, {Author: "alice", Reason: " \n"}, {Reason: "because"}} {
		_, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(shop), Why: w})
		f.code(err, codes.InvalidArgument, "is missing")
	}
	if _, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(shop), DryRun: true}); err != nil {
		t.Errorf("a preview: %v", err)
	}
	_, err := f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart"})
	f.code(err, codes.NotFound, "policy/shop.cart is not in environment prod")
}

func TestHistoryTellsWhoChangedWhatAndWhy(t *testing.T) {
	f := open(t)
	if c := f.must(shop, "first"); c[0].GetAction() != configv1.Change_ACTION_CREATED || c[0].GetNewRevision() != 1 {
		t.Errorf("got %v", c)
	}
	if c := f.must(shop, "the same"); c[0].GetAction() != configv1.Change_ACTION_UNCHANGED || c[0].GetNewRevision() != 1 {
		t.Errorf("what is as it was: %v", c)
	}
	c := f.must(strings.Replace(shop, "100", "200", 1), "the sale")
	equal(t, "change", fields(c[0].GetFields()), "limits.max_open_calls: 100 -> 200")
	equal(t, "history", f.history("policy/shop.cart"), "2 apply by alice: the sale\n1 apply by alice: first")
	d, err := f.Diff(t.Context(), &configv1.DiffRequest{Environment: "prod", Name: "policy/shop.cart"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "diff of the last two", fields(d.GetFields()), "limits.max_open_calls: 100 -> 200")
	if d.GetTo().GetTime().AsTime().Format("15:04") != "03:02" || d.GetTo().GetVerified() {
		t.Errorf("the newest is %v", d.GetTo())
	}
	_, err = f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart", Revision: 7})
	f.code(err, codes.NotFound, "has no revision 7: the newest is 2")
}

func TestRollbackAndDeletionAreRevisionsToo(t *testing.T) {
	f := open(t)
	f.must(shop, "first")
	f.must(strings.Replace(shop, "100", "200", 1), "second")
	back := func(to uint64) (*configv1.Change, error) {
		r, err := f.Rollback(t.Context(), &configv1.RollbackRequest{Environment: "prod", Name: "policy/shop.cart", To: to, Why: why("oops")})
		return r.GetChange(), err
	}
	c, err := back(0)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "rollback", fields(c.GetFields()), "limits.max_open_calls: 200 -> 100")
	if _, err := f.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{"policy/shop.cart"}, Why: why("gone")}); err != nil {
		t.Fatal(err)
	}
	_, err = f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart"})
	f.code(err, codes.NotFound, "was deleted as revision 4, by alice")
	_, err = f.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{"policy/shop.cart"}, Why: why("again")})
	f.code(err, codes.NotFound, "is not in environment")
	if c, err = back(2); err != nil || c.GetAction() != configv1.Change_ACTION_CREATED || c.GetNewRevision() != 5 {
		t.Errorf("a deleted resource comes back as %v, %v", c, err)
	}
	equal(t, "history", f.history("policy/shop.cart"), "5 rollback to 2 by alice: oops\n4 delete by alice: gone\n"+
		"3 rollback to 1 by alice: oops\n2 apply by alice: second\n1 apply by alice: first")
}

func TestOneWhoExpectsAnotherRevisionIsToldWhatHasChanged(t *testing.T) {
	f := open(t)
	f.must(shop, "first")
	f.must(strings.Replace(shop, "2s", "3s", 1), "slow database")
	stale := "revisions: {policy/shop.cart: 1}\n" + strings.Replace(shop, "100", "200", 1)
	_, err := f.apply(stale, "the sale")
	f.code(err, codes.Aborted, "policy/shop.cart in prod: revision 1 was expected, but it is revision 2, by alice at 2026-01-02 03:02:00 UTC: slow database")
	d := detail[*configv1.Conflict](err)
	equal(t, "what has changed", fields(d.GetFields()), "max_timeout: 2s -> 3s")
	if d.GetActual().GetRevision() != 2 || d.GetExpected() != 1 {
		t.Errorf("got %v", d)
	}
	_, err = f.apply("revisions: {policy/shop.cart: 0}\n"+shop, "create")
	f.code(err, codes.Aborted, "revision 0 was expected")
	_, err = f.apply("revisions: {policy/shop.card: 1}\n"+shop, "typo")
	f.code(err, codes.InvalidArgument, `revisions["policy/shop.card"]: names no resource of this file`)
	f.must(strings.Replace(stale, "1}", "2}", 1), "the sale, again")
	equal(t, "history", f.history("policy/shop.cart"), "3 apply by alice: the sale, again\n2 apply by alice: slow database\n1 apply by alice: first")
}

func TestRacingWritersLoseNothing(t *testing.T) {
	f := open(t)
	const writers = 3 // each attempt that loses is another's success, so that nobody needs more attempts than there are
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if _, err := f.apply(strings.Replace(shop, "100", fmt.Sprint(200+i), 1), fmt.Sprint("writer ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := f.history("policy/shop.cart"); strings.Count(got, "writer") != writers || !strings.HasPrefix(got, "3 ") {
		t.Errorf("got\n%s", got)
	}
}

// many is a file with so many policies.
func many(n int) string {
	var b strings.Builder
	b.WriteString("policies:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {target: t%d}\n", i)
	}
	return b.String()
}

func TestWhatIsTooMuchForOneCommitIsWrittenInParts(t *testing.T) {
	f := open(t)
	r, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(many(150)), Why: why("many")})
	if err != nil || len(r.GetChanges()) != 150 || r.GetParts() != 3 {
		t.Fatalf("%d changes in %d parts: %v", len(r.GetChanges()), r.GetParts(), err)
	}
	for _, c := range f.must(many(150), "again") {
		if c.GetAction() != configv1.Change_ACTION_UNCHANGED || c.GetNewRevision() != 1 {
			t.Fatal(c)
		}
	}
	_, err = f.Apply(t.Context(), &configv1.ApplyRequest{
		Environment: "test", Files: file(many(configserver.MaxRolledOut + 1)), Why: why("many"), Waves: &configv1.Waves{},
	})
	f.code(err, codes.InvalidArgument, "31 resources would go in waves together, at most 30 can")
	var names []string
	for page, after := 0, ""; ; page++ {
		l, err := f.List(t.Context(), &configv1.ListRequest{Environment: "prod", Limit: 60, After: after})
		if err != nil || page > 3 {
			t.Fatal(page, err)
		}
		for _, v := range l.GetVersions() {
			names = append(names, v.GetName())
			after = v.GetName()
		}
		if !l.GetMore() {
			break
		}
	}
	if len(names) != 150 || !slices.IsSorted(names) {
		t.Errorf("in pages there are %d", len(names))
	}
}

// failing is a store whose commits begin to fail.
type failing struct {
	store.Store
	commits int // that still succeed
	err     error
}

// Commit implements store.Store.
func (f *failing) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if f.commits--; f.commits < 0 && f.err != nil {
		err := f.err
		if errors.As(err, new(*store.ConflictError)) {
			f.err = nil // somebody was faster, once
		}
		return 0, err
	}
	return f.Store.Commit(ctx, ops...)
}

func TestAPartThatIsNotWrittenIsSaid(t *testing.T) {
	t.Parallel()
	kept := &failing{store.NewMemory(0), 1, errors.New("the disk is full")}
	s := configserver.New(configserver.Config{Store: kept, Log: slog.New(slog.DiscardHandler)})
	apply := func() (*configv1.ApplyResponse, error) {
		return s.Apply(t.Context(), &configv1.ApplyRequest{Environment: "prod", Files: file(many(150)), Why: why("many")})
	}
	_, err := apply()
	(&fixture{t: t}).code(err, codes.Unavailable, "64 resources were written before this, since they are too many for one commit; the others were not")
	kept.err = &store.ConflictError{Key: "k"}
	r, err := apply()
	if err != nil || len(r.GetChanges()) != 150 || r.GetChanges()[0].GetAction() != configv1.Change_ACTION_UNCHANGED ||
		r.GetChanges()[149].GetAction() != configv1.Change_ACTION_CREATED {
		t.Errorf("%v, %v", r, err)
	}
}

func TestTheHistoryHasABound(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(0)
	s := configserver.New(configserver.Config{Store: kept, Log: slog.New(slog.DiscardHandler), Kept: 3})
	for i := range 10 {
		if _, err := put(s, limit(i+1), nil, false); err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := kept.List(t.Context(), "config/history/")
	if err != nil || len(entries) != 3 {
		t.Errorf("%d versions are kept, %v", len(entries), err)
	}
	_, err = s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart", Revision: 7})
	(&fixture{t: t}).code(err, codes.NotFound, "has no revision 7: the newest is 10, and the last 3 are kept")
	if _, err := s.Rollback(t.Context(), &configv1.RollbackRequest{Environment: "prod", Name: "policy/shop.cart", To: 8, Why: why("x")}); err != nil {
		t.Error(err)
	}
	if _, err := s.Explain(t.Context(), &configv1.ExplainRequest{Environment: "prod", Target: "shop.cart"}); err != nil {
		t.Error(err)
	}
}

func TestExplainSaysWhereEachFieldComesFrom(t *testing.T) {
	f := open(t)
	f.must(shop+`  routes:
  - {name: canary, match: {caller: web, metadata: [{key: user, exact: "7"}]}, destinations: [{subset: {v: "2"}}]}
  - {name: other, match: {caller: batch}, destinations: [{weight: 1}]}
- target: shop.front
  routes: [{name: all, destinations: [{target: shop.cart}]}]
applications:
- {name: web, owner: team-web, tier: TIER_CRITICAL}
mesh_switches:
- {application: web, target: shop.cart, nodes: [n1], permille: 100}
- {target: shop.cart, permille: 1}
`, "first")
	f.must(strings.Replace(shop, "100", "200", 1), "the sale")
	e, err := f.Explain(t.Context(), &configv1.ExplainRequest{Environment: "prod", Target: "shop.cart", Caller: "web"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range e.GetBindings() {
		got = append(got, fmt.Sprintf("%s@%d %s", b.GetName(), b.GetRevision(), b.GetText()))
	}
	equal(t, "bindings", strings.Join(got, "\n"), `switch/web,shop.cart@1 calls of web: 100 of 1000 go through the mesh, the others direct; some nodes have shares of their own
policy/shop.cart@2 routes, in order: default, the target itself
auth/shop.cart@0 there is no auth policy: every caller is let in
application/web@1 whose the caller is
policy/shop.front@1 route all sends calls here too`)
	origins := make(map[string]string)
	for _, o := range e.GetBindings()[1].GetFields() {
		origins[o.GetField()] = fmt.Sprintf("%s by %d %s", o.GetValue(), o.GetRevision(), o.GetReason())
	}
	for field, want := range map[string]string{
		"max_timeout": "2s by 1 first", "limits.max_open_calls": "200 by 2 the sale", "limits.max_parked_calls": "1024 by 0 ",
		"retries.max_attempts": "2 by 0 ",
	} {
		equal(t, field, origins[field], want)
	}
	if _, err := f.Rollback(t.Context(), &configv1.RollbackRequest{Environment: "prod", Name: "policy/shop.cart", To: 1, Why: why("routes")}); err != nil {
		t.Fatal(err)
	}
	for caller, want := range map[string]string{
		"web":   "routes, in order: canary (if its metadata match), else default, the target itself",
		"batch": "routes, in order: other",
		"":      "routes, in order: canary (if its caller and metadata match), else other (if its caller match), else default, the target itself",
	} {
		e, err := f.Explain(t.Context(), &configv1.ExplainRequest{Environment: "prod", Target: "shop.cart", Caller: caller})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range e.GetBindings() {
			if b.GetName() == "policy/shop.cart" {
				equal(t, "routes of "+caller, b.GetText(), want)
			}
		}
	}
}

func TestAWatchTellsAllThatIsAndThenWhatChanges(t *testing.T) {
	f := open(t)
	f.must(shop, "first")
	for _, other := range []string{"prod-2", "pro"} { // names that begin alike
		if _, err := f.Apply(t.Context(), &configv1.ApplyRequest{Environment: other, Files: file(shop), Why: why("elsewhere")}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := f.Watch(ctx, &configv1.WatchRequest{Environment: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *configv1.WatchResponse {
		t.Helper()
		m, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := next()
	if !m.GetBegin() || !m.GetComplete() || len(m.GetVersions()) != 1 || m.GetVersions()[0].GetEnvironment() != "prod" {
		t.Fatalf("first told: %v", m)
	}
	f.must("mesh_switches:\n- {target: shop.cart, permille: 10}\n", "switch")
	m = next()
	s := m.GetVersions()[0].GetResource().GetMeshSwitches()[0]
	if m.GetBegin() || s.GetPermille() != 10 || s.GetRevision() == 0 || s.GetRevision() != m.GetStoreRevision() {
		t.Errorf("a switch: %v", m)
	}
	if _, err := f.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{"policy/shop.cart"}, Why: why("gone")}); err != nil {
		t.Fatal(err)
	}
	if m = next(); !m.GetVersions()[0].GetDeleted() || m.GetVersions()[0].GetName() != "policy/shop.cart" {
		t.Errorf("a deletion: %v", m)
	}
	cancel()
	if _, err := w.Recv(); status.Code(err) != codes.Canceled && !errors.Is(err, io.EOF) {
		t.Errorf("after its end: %v", err)
	}
}
