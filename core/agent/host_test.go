package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/conformance/faults/ledger"
	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// The programs, built once.
var octo, octoProxy, octoGateway string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		panic(err)
	}
	octo, octoProxy, octoGateway = filepath.Join(dir, "octo"), filepath.Join(dir, "octo-proxy"), filepath.Join(dir, "octo-gateway")
	if out, err := exec.Command("go", "build", "-o", dir, "../cmd/octo", "../cmd/octo-proxy", "../cmd/octo-gateway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// long is how long anything may take that is waited for.
const long = 30 * time.Second

// host is a machine with an agent and its proxies.
type host struct {
	t     *testing.T
	dir   string
	names []string
	agent *planetest.Process

	mu   sync.Mutex
	seen map[int]uint64 // processes, with their start
}

// newHost makes the files of proxies, and of an agent that keeps them. more is added to the agent's.
func newHost(t *testing.T, more string, names ...string) *host {
	t.Helper()
	h := &host{t: t, dir: planetest.Dir(t), names: names, seen: make(map[int]uint64)}
	text := "socket: agent.sock\nbinary: " + octoProxy + "\n" +
		"restarts: {backoff: 0.05s, max_backoff: 0.5s}\nhealth: {interval: 0.05s" + more + "}\nproxies:\n"
	for _, n := range names {
		h.write(n+".r.yaml", "{}")
		h.bootstrap(n, "")
		text += fmt.Sprintf("- {name: %s, bootstrap_file: %s.yaml, log_file: %s.log}\n", n, n, n)
	}
	h.write("agent.yaml", text)
	t.Cleanup(h.clean)
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name, text string) {
	h.t.Helper()
	// At once: a proxy reads its file whenever it changes.
	if err := os.WriteFile(h.path(name+".new"), []byte(text), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(h.path(name+".new"), h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) bootstrap(name, more string) {
	h.t.Helper()
	h.write(name+".yaml", fmt.Sprintf("environment: test\ninstance: %s\noutbound_socket: %s.sock\nadmin_socket: %s.adm\n"+
		"inbound_address: 127.0.0.1:0\nresources_file: %s.r.yaml\ndrain_deadline: 5s\n%s", name, name, name, name, more))
}

// clean ends what has run: by number and start, which the agent has noted, since it is gone itself by now.
func (h *host) clean() {
	noted := &agentv1.Record{}
	if text, err := os.ReadFile(h.path("agent.sock.state")); err == nil {
		if err := protojson.Unmarshal(text, noted); err != nil {
			h.t.Error(err)
		}
	}
	for _, p := range noted.GetProcesses() {
		if p.GetPid() != 0 {
			h.seen[int(p.GetPid())] = p.GetStart()
		}
	}
	for pid, start := range h.seen {
		if p, err := pidfd.Open(pid, start); err == nil {
			_ = p.Signal(syscall.SIGKILL)
			p.Close()
		}
	}
	if h.t.Failed() {
		for _, n := range h.names {
			text, _ := os.ReadFile(h.path(n + ".log"))
			h.t.Logf("%s:\n%s", n, text[max(0, len(text)-3000):])
		}
	}
}

// run starts the agent and waits until all proxies serve.
func (h *host) run(flags ...string) {
	h.t.Helper()
	h.start(flags...)
	for _, n := range h.names {
		h.until(n, func(p *agentv1.Proxy) bool {
			return p.GetState() == agentv1.Proxy_STATE_SERVING && p.GetVersion() != ""
		})
	}
}

// stop ends the agent as an operator does.
func (h *host) stop() {
	h.t.Helper()
	if err := h.agent.Stop(); err != nil {
		h.t.Errorf("the agent ended with %v", err)
	}
}

func (h *host) start(flags ...string) {
	h.t.Helper()
	h.agent = planetest.Start(h.t, "agent", octo, append([]string{"agent", "--config", h.path("agent.yaml")}, flags...)...)
	h.wait("the agent's answer", func() bool { return h.list() != nil })
}

// octo runs `octo proxy`.
func (h *host) octo(args ...string) (code int, out, errs string) {
	cmd := exec.Command(octo, append([]string{"proxy", "--config", h.path("agent.yaml")}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// must is octo for what succeeds.
func (h *host) must(args ...string) string {
	h.t.Helper()
	code, out, errs := h.octo(args...)
	if code != 0 {
		h.t.Fatalf("octo proxy %v: %d\n%s%s", args, code, out, errs)
	}
	return out
}

func (h *host) list() map[string]*agentv1.Proxy {
	conn, err := grpc.NewClient("unix:"+h.path("agent.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	got, err := agentv1.NewAgentClient(conn).List(ctx, &agentv1.ListRequest{})
	if err != nil {
		return nil // the agent is not there
	}
	all := make(map[string]*agentv1.Proxy)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range got.GetProxies() {
		all[p.GetName()] = p
		if pid := int(p.GetPid()); pid != 0 && h.seen[pid] == 0 {
			if start, err := pidfd.StartOf(pid); err == nil {
				h.seen[pid] = start
			}
		}
	}
	return all
}

func (h *host) wait(what string, done func() bool) {
	h.t.Helper()
	for end := time.Now().Add(long); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s did not come", what)
		}
	}
}

// until waits for a proxy to be so.
func (h *host) until(name string, is func(*agentv1.Proxy) bool) (p *agentv1.Proxy) {
	h.t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(10 * time.Millisecond) {
		if p = h.list()[name]; p != nil && is(p) {
			return p
		}
		if time.Now().After(end) {
			h.t.Fatalf("proxy %s is %v", name, p)
		}
	}
}

func (h *host) in(name string, state agentv1.Proxy_State) *agentv1.Proxy {
	h.t.Helper()
	return h.until(name, func(p *agentv1.Proxy) bool { return p.GetState() == state })
}

// pids are the processes of the proxies.
func (h *host) pids() map[string]uint32 {
	all := make(map[string]uint32)
	for name, p := range h.list() {
		all[name] = p.GetPid()
	}
	return all
}

// inbound is where a proxy's first process said that other proxies reach it.
func (h *host) inbound(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.path(name + ".log"))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l struct{ Msg, Inbound string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "octo-proxy runs" {
			return l.Inbound
		}
	}
	h.t.Fatalf("%s has not said that it runs:\n%s", name, text)
	return ""
}

type text = wrapperspb.StringValue

var once = &octomesh.Method{Service: "octo.test.v1.Echo", Name: "Once", Kind: octomesh.Unary}

// pace is how long a caller rests between calls: the load is there all the time, and leaves the machine to the processes that start.
const pace = 2 * time.Millisecond

// load is calls through the host's first proxy to servers at the others, with their ledger.
type load struct {
	t      *testing.T
	ledger *ledger.Ledger
	book   *ledger.Book
	next   atomic.Int64
	done   atomic.Int64
	over   atomic.Bool
	wg     sync.WaitGroup

	mu     sync.Mutex
	failed []*conformancev1.BatchOutcome
}

// serve attaches a server to a proxy.
func (l *load) serve(name, socket string) {
	l.t.Helper()
	s := octomesh.NewServer("echo", octomesh.WithSocket(socket), octomesh.WithEnvironment("test"), octomesh.WithApplication("echo"))
	s.RegisterService(octomesh.ServiceDesc{Name: once.Service, Methods: []octomesh.MethodDesc{
		{Method: *once, Handler: octomesh.UnaryHandler(func(_ context.Context, m *text) (*text, error) {
			l.ledger.Add(&ledger.Entry{CallId: m.Value, Server: name, Event: conformancev1.LedgerEntry_EVENT_BEGAN})
			l.ledger.Add(&ledger.Entry{CallId: m.Value, Server: name, Event: conformancev1.LedgerEntry_EVENT_ENDED})
			return m, nil
		})},
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	l.t.Cleanup(func() { cancel(); <-done })
	ready, stop := context.WithTimeout(l.t.Context(), long)
	defer stop()
	if err := s.Ready(ready); err != nil {
		l.t.Fatal(err)
	}
}

// load begins calls from so many callers.
func (h *host) load(callers int) *load {
	h.t.Helper()
	lg, err := ledger.New()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = lg.Close() })
	l := &load{t: h.t, ledger: lg, book: lg.Open("call")}
	resources := "endpoints:\n"
	for _, n := range h.names[1:] {
		l.serve(n, h.path(n+".sock"))
		resources += fmt.Sprintf("- {target: echo, instance: %s, mesh_address: %q}\n", n, h.inbound(n))
	}
	before := h.list()[h.names[0]].GetGeneration()
	h.write(h.names[0]+".r.yaml", resources)
	h.until(h.names[0], func(p *agentv1.Proxy) bool { return p.GetGeneration() > before })
	ch, err := octomesh.Dial("echo", octomesh.WithSocket(h.path(h.names[0]+".sock")), octomesh.WithEnvironment("test"), octomesh.WithApplication("caller"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = ch.Close() })
	for range callers {
		l.wg.Go(func() {
			for !l.over.Load() {
				l.call(ch, uint32(l.next.Add(1)-1))
				time.Sleep(pace)
			}
		})
	}
	h.t.Cleanup(func() { l.over.Store(true); l.wg.Wait() })
	l.progress(100)
	return l
}

func (l *load) call(ch *octomesh.Channel, n uint32) {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	id := fmt.Sprint("call-", n)
	got, err := octomesh.CallUnary[text, text](ctx, ch, once, wrapperspb.String(id), nil)
	if err == nil && got.Value == id {
		l.done.Add(1)
		return
	}
	o := &conformancev1.Outcome{}
	var st *octomesh.Error
	if errors.As(err, &st) {
		o.Code, o.Message, o.Disposition = int32(st.Code), st.Message, wirev1.Disposition(st.Disposition)
	}
	l.mu.Lock()
	l.failed = append(l.failed, &conformancev1.BatchOutcome{Status: o, Calls: []uint32{n}})
	l.mu.Unlock()
}

// progress waits for so many more calls that went well.
func (l *load) progress(n int64) {
	l.t.Helper()
	until := l.done.Load() + n
	for end := time.Now().Add(long); l.done.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Fatalf("calls do not go on; %d have failed, the last: %v", len(l.failed), l.failed[max(0, len(l.failed)-1):])
		}
	}
}

// end ends the load, holds the ledger against it, and returns what has failed.
func (l *load) end() []*conformancev1.BatchOutcome {
	l.t.Helper()
	l.over.Store(true)
	l.wg.Wait()
	l.book.Answered(&conformancev1.BatchResult{Calls: uint32(l.next.Load()), Failed: l.failed})
	if err := l.book.Settle(long, ledger.Handlers{All: int(l.done.Load())}); err != nil {
		l.t.Error(err)
	}
	for _, found := range l.book.Audit(1) {
		l.t.Error(found)
	}
	l.t.Logf("%d calls, %d failed, by %v", l.next.Load(), len(l.failed), l.book.Handlers().Servers)
	return l.failed
}

// whole is end for a load of which no call may fail.
func (l *load) whole() {
	l.t.Helper()
	for _, o := range l.end() {
		l.t.Errorf("call %d failed: %v", o.Calls, o.Status)
	}
}

// proxy asks a proxy itself.
func (h *host) proxy(name, path string) int {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer(h.path(name + ".adm"))}, Timeout: long}
	res, err := client.Get("http://proxy" + path)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}
