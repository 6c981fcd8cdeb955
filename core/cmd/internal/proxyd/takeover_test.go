package proxyd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/proxy/handover"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

type text = wrapperspb.StringValue

const echoService = "octo.test.v1.Echo"

var (
	once = &octomesh.Method{Service: echoService, Name: "Once", Kind: octomesh.Unary}
	chat = &octomesh.Method{Service: echoService, Name: "Chat", Kind: octomesh.BidiStreaming}
)

// counted is how often each call ran, by its id.
type counted struct {
	ran  sync.Map // id -> *atomic.Int32
	next atomic.Int64
	done atomic.Int64
}

func (c *counted) begin(id string) {
	n, _ := c.ran.LoadOrStore(id, new(atomic.Int32))
	n.(*atomic.Int32).Add(1)
}

func (c *counted) times(id string) int32 {
	if n, ok := c.ran.Load(id); ok {
		return n.(*atomic.Int32).Load()
	}
	return 0
}

// serve attaches a server that counts to a proxy.
func (c *counted) serve(t *testing.T, socket string) {
	t.Helper()
	s := octomesh.NewServer("echo", octomesh.WithSocket(socket), octomesh.WithEnvironment("test"), octomesh.WithApplication("echo"))
	s.RegisterService(octomesh.ServiceDesc{Name: echoService, Methods: []octomesh.MethodDesc{
		{Method: *once, Handler: octomesh.UnaryHandler(func(_ context.Context, m *text) (*text, error) {
			c.begin(m.Value)
			return m, nil
		})},
		{Method: *chat, Handler: octomesh.BidiStreamHandler(func(_ context.Context, s *octomesh.ServerStream[text, text]) error {
			for first := true; ; first = false {
				m, err := s.Receive()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if first {
					c.begin(m.Value)
				}
				if err := s.Send(m); err != nil {
					return err
				}
			}
		})},
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ready, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := s.Ready(ready); err != nil {
		t.Fatal(err)
	}
}

// load makes calls by turns of the two kinds until stop is called, which tells how many failed.
func (c *counted) load(t *testing.T, socket string, callers int) (stop func()) {
	t.Helper()
	ch, err := octomesh.Dial("echo", octomesh.WithSocket(socket), octomesh.WithEnvironment("test"), octomesh.WithApplication("caller"))
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for !over.Load() {
				id := fmt.Sprint(c.next.Add(1))
				call := c.unary
				if n%2 == 1 {
					call = c.stream
				}
				err := call(ch, id)
				if ran := c.times(id); err != nil || ran != 1 {
					t.Errorf("call %s ran %d times: %v", id, ran, err)
					return
				}
				c.done.Add(1)
			}
		})
	}
	return func() {
		over.Store(true)
		wg.Wait()
		_ = ch.Close()
	}
}

func (c *counted) unary(ch *octomesh.Channel, id string) error {
	_, err := octomesh.CallUnary[text, text](context.Background(), ch, once, wrapperspb.String(id), nil)
	return err
}

func (c *counted) stream(ch *octomesh.Channel, id string) error {
	s, err := octomesh.CallBidiStream[text, text](context.Background(), ch, chat, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	for range 4 {
		if err := s.Send(wrapperspb.String(id)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := s.Receive(); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// progress waits for so many more calls.
func (c *counted) progress(t *testing.T, n int64) {
	t.Helper()
	until := c.done.Load() + n
	await(t, "progress of the load", func() bool { return t.Failed() || c.done.Load() >= until })
}

// takeover starts a successor of p and waits until it serves and p has left.
func (p *process) takeover(t *testing.T) *process {
	t.Helper()
	next := p.succeed(t)
	p.left(t)
	return next
}

// succeed starts a successor of p and waits until it serves.
func (p *process) succeed(t *testing.T) *process {
	t.Helper()
	next := p.again(t, p.program, "--takeover")
	select {
	case got := <-next.ran:
		if !got.TakenOver || got.Inbound != p.inbound {
			t.Fatalf("the successor runs on its own: %+v", got)
		}
	case err := <-next.exited:
		t.Fatalf("the successor ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the successor does not serve")
	}
	next.inbound = p.inbound
	return next
}

// left waits for the end of a process that has been taken over.
func (p *process) left(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.exited:
		p.stopped = true
		if err != nil {
			t.Errorf("the process before ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the process before does not leave")
	}
}

// again starts another process with the files of p.
func (p *process) again(t *testing.T, command ...string) *process {
	t.Helper()
	next := *p
	next.stopped, next.exited, next.ran = false, make(chan error, 1), make(chan line, 1)
	next.said = &log{}
	next.cmd = exec.Command(command[0], append(command[1:], "--config", filepath.Join(filepath.Dir(p.socket), "p.yaml"))...)
	out, err := next.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := next.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go next.follow(out)
	t.Cleanup(func() { next.stop(t) })
	return &next
}

// pair is two proxies, with a server behind the second and a load through both.
func pair(t *testing.T, callers int) (c *counted, client, server *process, stop func()) {
	t.Helper()
	c = &counted{}
	server = launch(t, "{}")
	client = launch(t, endpoint("echo", server.inbound))
	c.serve(t, server.socket)
	return c, client, server, c.load(t, client.socket, callers)
}

func TestHotRestartsUnderLoadFailNoCall(t *testing.T) {
	for _, callers := range []int{2, 64} {
		t.Run(fmt.Sprint(callers, " callers"), func(t *testing.T) {
			t.Parallel()
			c, client, server, stop := pair(t, callers)
			for range 5 {
				c.progress(t, 100)
				client = client.takeover(t)
				c.progress(t, 100)
				server = server.takeover(t)
			}
			c.progress(t, 100)
			stop()
			t.Logf("%d calls, 10 hot restarts", c.done.Load())
		})
	}
}

// held is a stream that stays open.
type held struct {
	*octomesh.BidiStream[text, text]
	t  *testing.T
	id string
	n  int
}

func (c *counted) hold(t *testing.T, ch *octomesh.Channel) *held {
	t.Helper()
	s, err := octomesh.CallBidiStream[text, text](context.Background(), ch, chat, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &held{s, t, fmt.Sprint("held-", c.next.Add(1)), 0}
	h.say()
	return h
}

// say has a message go both ways.
func (h *held) say() {
	h.t.Helper()
	h.n++
	if err := h.Send(wrapperspb.String(h.id)); err != nil {
		h.t.Fatalf("message %d: %v", h.n, err)
	}
	if m, err := h.Receive(); err != nil || m.Value != h.id {
		h.t.Fatalf("message %d: %v %v", h.n, m, err)
	}
}

func (h *held) end() {
	h.t.Helper()
	if err := h.CloseSend(); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.Receive(); !errors.Is(err, io.EOF) {
		h.t.Fatalf("at the end: %v", err)
	}
}

// Each of three processes still has a stream to serve when the next one takes over.
func TestSeveralGenerationsServeAtOnce(t *testing.T) {
	t.Parallel()
	c, client, server, stop := pair(t, 8)
	ch, err := octomesh.Dial("echo", octomesh.WithSocket(client.socket), octomesh.WithEnvironment("test"), octomesh.WithApplication("holder"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ch.Close() }()
	var streams []*held
	var before []*process
	for range 3 {
		streams = append(streams, c.hold(t, ch))
		before = append(before, client, server)
		client, server = client.succeed(t), server.succeed(t)
		c.progress(t, 100)
		for _, s := range streams {
			s.say()
		}
	}
	for _, s := range streams {
		s.say()
		s.end()
	}
	for _, p := range before {
		p.left(t)
		if !strings.Contains(p.said.String(), `"calls_cut_off":0`) {
			t.Errorf("it left so:\n%s", p.said)
		}
	}
	await(t, "the news of the end", func() bool { return strings.Contains(server.said.String(), "the process before has left") })
	stop()
}

// fails waits for a successor that does not take over, and returns what it says.
func (p *process) fails(t *testing.T, want string) {
	t.Helper()
	next := p.again(t, binary, "--takeover")
	select {
	case err := <-next.exited:
		next.stopped = true
		if err == nil || !strings.Contains(next.said.String(), want) {
			t.Errorf("it ended with %v, want %q:\n%s", err, want, next.said)
		}
	case got := <-next.ran:
		t.Fatalf("it runs: %+v", got)
	case <-time.After(20 * time.Second):
		t.Fatal("it neither runs nor ends")
	}
}

func TestBadSuccessorsLeaveTheProxyServing(t *testing.T) {
	t.Parallel()
	c, client, server, stop := pair(t, 8)
	good, err := os.ReadFile(filepath.Join(filepath.Dir(server.socket), "p.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(server.socket), "p.yaml")
	for want, change := range map[string][2]string{
		`it is called \"two\", this proxy \"one\"`: {"instance: one", "instance: two"},
		`it is of environment \"other\"`:           {"environment: test", "environment: other"},
		"inbound is 127.0.0.1":                     {"inbound_address: 127.0.0.1:0", "inbound_address: 127.0.0.1:1"},
		"outbound is ":                             {"outbound_socket: o.sock", "outbound_socket: other.sock"},
		"is not a field":                           {"drain_deadline", "drain_dedline"},
	} {
		write(t, file, strings.Replace(string(good), change[0], change[1], 1))
		want = strings.ReplaceAll(want, `\"`, `"`)
		server.fails(t, want)
		c.progress(t, 20)
	}
	write(t, file, string(good))
	write(t, server.resources, "endpoints: [{target: echo, instanze: one}]")
	server.fails(t, "instanze")
	c.progress(t, 20)
	write(t, server.resources, "{}")

	// A binary that fails in the middle of it, at the worst moments.
	for _, ready := range []bool{false, true} {
		s, err := handover.Dial(t.Context(), filepath.Join(filepath.Dir(server.socket), "a.takeover"),
			&handoverv1.Introduction{Environment: "test", Places: []*handoverv1.Place{
				{Name: handover.Outbound, Address: server.socket}, {Name: handover.Inbound, Address: server.inbound}}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.Take(t.Context())
		if err != nil || len(all) != 4 {
			t.Fatal(len(all), err)
		}
		if ready {
			if instances, complete, err := s.Ready(t.Context()); err != nil || !complete || len(instances) != 1 {
				t.Fatal(instances, complete, err)
			}
		}
		s.Close()
		for _, l := range all {
			_ = l.Close()
		}
		await(t, "the end of the attempt", func() bool {
			return strings.Count(server.said.String(), "the hand-over failed") >= 6
		})
		c.progress(t, 20)
	}
	second := server.again(t, binary)
	if err := <-second.exited; err == nil || !strings.Contains(second.said.String(), "--takeover") {
		t.Errorf("a second proxy ended with %v:\n%s", err, second.said)
	}
	second.stopped = true
	server.takeover(t)
	client.takeover(t)
	c.progress(t, 20)
	stop()
}

func TestTakeoverWhereNobodyRunsIsAStart(t *testing.T) {
	t.Parallel()
	dead := launch(t, "{}")
	_ = dead.cmd.Process.Kill()
	<-dead.exited
	dead.stopped = true
	p := dead.again(t, binary, "--takeover")
	select {
	case got := <-p.ran:
		if got.TakenOver {
			t.Error("it has taken over from a dead process")
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not start:\n%s", p.said)
	}
}
