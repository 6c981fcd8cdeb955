package proxyd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	"github.com/octomesh/octomesh/core/wire"
)

// Programs, built once.
var binary, gateway string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		panic(err)
	}
	binary, gateway = filepath.Join(dir, "octo-proxy"), filepath.Join(dir, "octo-gateway")
	if out, err := exec.Command("go", "build", "-o", dir, "../../octo-proxy", "../../octo-gateway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// process is a running octo-proxy, or octo-gateway.
type process struct {
	cmd           *exec.Cmd
	program       string
	socket, admin string
	inbound, grpc string
	resources     string
	http          *http.Client
	exited        chan error
	ran           chan line // that says that it runs
	stopped       bool

	said *log
}

// line is what a test wants to know of a line of the log.
type line struct {
	Msg, Inbound, GRPC string
	TakenOver          bool `json:"taken_over"`
}

// log is what a process has written.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// launch starts a proxy with resources and waits until it is ready.
func launch(t *testing.T, resources string) *process {
	t.Helper()
	return launchIn(t, t.TempDir(), resources, "")
}

// processIn is a process whose files are in dir.
func processIn(dir string) *process {
	return &process{
		socket: filepath.Join(dir, "o.sock"), admin: filepath.Join(dir, "a.sock"), resources: filepath.Join(dir, "r.yaml"),
		exited: make(chan error, 1), ran: make(chan line, 1), said: &log{},
	}
}

// launchIn starts a proxy in dir with more lines of bootstrap, and a file of resources if there are any.
func launchIn(t *testing.T, dir, resources, more string) *process {
	t.Helper()
	p := processIn(dir)
	if resources != "" {
		write(t, p.resources, resources)
		more += "resources_file: r.yaml\n"
	}
	write(t, filepath.Join(dir, "p.yaml"), "environment: test\ninstance: one\noutbound_socket: o.sock\nadmin_socket: a.sock\n"+
		"inbound_address: 127.0.0.1:0\ndrain_deadline: 5s\n"+more)
	p.start(t, binary)
	return p
}

// start runs a program by the file p.yaml beside its resources, and waits until it is ready.
func (p *process) start(t *testing.T, program string) {
	t.Helper()
	p.program, p.cmd = program, exec.Command(program, "--config", filepath.Join(filepath.Dir(p.resources), "p.yaml"))
	log, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(log)
	t.Cleanup(func() { p.stop(t) })
	select {
	case got := <-p.ran:
		p.inbound, p.grpc = got.Inbound, got.GRPC
	case <-time.After(10 * time.Second):
		t.Fatalf("it did not say that it runs:\n%s", p.said)
	}
	p.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		}}}
	await(t, "readiness", func() bool { code, _ := p.get("/ready"); return code == http.StatusOK })
}

// follow reads the log until the process ends.
func (p *process) follow(log io.Reader) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		p.said.add(lines.Text())
		var l line
		if json.Unmarshal(lines.Bytes(), &l) == nil && (l.Msg == "octo-proxy runs" || l.Msg == "octo-gateway runs") {
			p.ran <- l
		}
	}
	p.exited <- p.cmd.Wait()
}

func (p *process) stop(t *testing.T) {
	if p.stopped {
		return
	}
	p.stopped = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		if err != nil {
			t.Errorf("it ended with %v:\n%s", err, p.said)
		}
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Errorf("it did not end within 15 s of SIGTERM:\n%s", p.said)
	}
}

func (p *process) get(path string) (int, string) {
	resp, err := p.http.Get("http://proxy" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// memory is a process' resident bytes: the most it ever had.
func (p *process) memory(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

func endpoint(target, address string) string {
	return fmt.Sprintf("endpoints:\n- {target: %s, instance: one, mesh_address: %q}\n", target, address)
}

func TestLargeMessageCostsTheProxiesLittleMemory(t *testing.T) {
	server := launch(t, "{}")
	client := launch(t, endpoint("big", server.inbound))
	var arrived atomic.Int64
	serving, err := meshtest.Dial("unix", server.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: "big", Targets: []string{"big"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind != wire.EventRequest && ev.Kind != wire.EventMessage {
			return
		}
		arrived.Add(int64(len(ev.Frame.Body)))
		r.Wire.Consume(ev.Stream, ev.Frame.Cost())
		if ev.Frame.Has(wire.FlagEnd) {
			r.Wire.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	before := [2]int{client.memory(t), server.memory(t)}
	send(t, client, 100) // warm: buffers and code pages
	warm := [2]int{client.memory(t), server.memory(t)}
	const size = 64 << 20
	send(t, client, size)
	if arrived.Load() != size+100 {
		t.Fatalf("%d bytes arrived", arrived.Load())
	}
	for i, p := range []*process{client, server} {
		grew := p.memory(t) - warm[i]
		t.Logf("proxy %d: %d KiB at rest, %d KiB warm, grew by %d KiB", i, before[i]>>10, warm[i]>>10, grew>>10)
		if grew > 4<<20 {
			t.Errorf("proxy %d grew by %d bytes", i, grew)
		}
	}
}

// send sends one message of any size and waits for the answer.
func send(t *testing.T, p *process, size int) {
	t.Helper()
	type call struct{ st *wire.Stream }
	c, done := &call{}, make(chan wire.Status, 1)
	head := &wire.RequestHead{Target: []byte("big"), Service: []byte("s.S"), Method: []byte("Put"), Kind: wire.KindClientStream}
	out := &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: head.Append(nil), Body: make([]byte, size)}
	r, err := meshtest.Dial("unix", p.socket, wire.Hello{Role: wire.RoleCall, Environment: "test", Application: "a"}, wire.Limits{},
		func(r *meshtest.Raw, ev *wire.Event) {
			switch {
			case ev.Kind == wire.EventCredit:
				r.Wire.Send(c.st, out)
			case ev.Kind == wire.EventResponse:
				done <- wire.ScanStatus(ev.Frame.Head).Clone()
			case ev.Call != nil:
				done <- ev.Status.Clone()
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Close(); <-r.Done() }()
	r.Lock()
	if c.st, err = r.Wire.Open(c); err != nil {
		t.Fatal(err)
	}
	r.Wire.Send(c.st, out)
	r.FlushUnlock()
	select {
	case st := <-done:
		if st.Code != wire.OK {
			t.Fatalf("got %+v", st)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("no answer")
	}
}

func TestOperatorSeesTheProxy(t *testing.T) {
	server := launch(t, "{}")
	client := launch(t, endpoint("slow", server.inbound))
	serving, err := meshtest.Dial("unix", server.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: "slow", Targets: []string{"slow"},
	}, wire.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	c, err := meshtest.DialCaller("unix", client.socket, wire.Hello{Environment: "test", Application: "shopper"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Call(&wire.RequestHead{Target: []byte("slow"), Service: []byte("s.Slow"), Method: []byte("Wait")}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "the open call", func() bool { _, b := client.get("/calls"); return strings.Contains(b, `"Wait"`) })
	for path, want := range map[string]string{
		"/calls": `"shopper"`, "/config": `"slow"`, "/metrics": `octo_`, "/debug/pprof/cmdline": "octo-proxy", "/endpoints": "slow",
	} {
		if code, body := client.get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	write(t, client.resources, endpoint("slow", server.inbound)+"- {target: other, instance: one, mesh_address: \"127.0.0.1:1\"}\n")
	_ = client.cmd.Process.Signal(syscall.SIGHUP)
	await(t, "the new configuration", func() bool { _, b := client.get("/config"); return strings.Contains(b, `"other"`) })
	write(t, client.resources, "endpoints:\n- {target: other, instance: one, mesh_adress: \"127.0.0.1:1\"}\n")
	_ = client.cmd.Process.Signal(syscall.SIGHUP)
	if code, body := client.get("/config"); code != http.StatusOK || !strings.Contains(body, `"slow"`) {
		t.Errorf("a bad file replaced the last good configuration: %d %s", code, body)
	}
}

func TestBadConfigurationsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.yaml")
	for text, want := range map[string]string{
		"inbound_adress: x\n":  "inbound_adress",
		"outbound_socket: o\n": "resources_file",
		"outbound_socket: " + strings.Repeat("x", 200) + "\nresources_file: r\n": "outbound_socket",
	} {
		write(t, path, text)
		out, err := exec.Command(binary, "--config", path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v %s", text, err, out)
		}
	}
	if out, err := exec.Command(binary).CombinedOutput(); err == nil || !strings.Contains(string(out), "--config") {
		t.Errorf("no arguments: %v %s", err, out)
	}
}

func TestProxiesSpeakTLSAndReadCertificatesAgain(t *testing.T) {
	ca := identitytest.New(t)
	const tls = "tls: {certificate_file: cert.pem, key_file: key.pem, authorities_file: ca.pem}\n"
	dirs := [2]string{t.TempDir(), t.TempDir()}
	for i, dir := range dirs {
		ca.Files(dir, fmt.Sprintf("spiffe://example.org/test/proxy/%d", i))
	}
	server := launchIn(t, dirs[0], "{}", tls)
	client := launchIn(t, dirs[1], endpoint("echo", server.inbound), tls)
	serving, err := meshtest.Dial("unix", server.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: "echo", Targets: []string{"echo"},
	}, wire.Limits{}, meshtest.Echo)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	c, err := meshtest.DialCaller("unix", client.socket, wire.Hello{Environment: "test", Application: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		got, err := c.Call(&wire.RequestHead{Target: []byte("echo"), Kind: wire.KindUnary}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if a := <-got; string(a.Body) != "x" {
			t.Fatalf("got %+v", a.Status)
		}
		for i, p := range []*process{server, client} {
			ca.Files(dirs[i], fmt.Sprintf("spiffe://example.org/test/proxy/%d", i))
			_ = p.cmd.Process.Signal(syscall.SIGHUP)
		}
	}
	if nc, err := net.Dial("tcp", server.inbound); err == nil { // plain
		_, _ = nc.Write(make([]byte, 64))
		if b, _ := io.ReadAll(nc); len(b) > 0 && b[0] != 21 { // 21: a TLS alert
			t.Errorf("a plain dialer was answered % x", b)
		}
		_ = nc.Close()
	}
}
