package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// plane is a scenario's control plane.
type plane struct {
	*conformancev1.ControlPlane
	dir, octo, etcd string
	previous        string // octo of the version before
	parts           map[string]*part
	directory       string    // where SDKs ask; empty: nowhere
	names           []string  // of parts, in the order in which they start
	registry        *registry // nil: instances register themselves
	applied         []string  // resources that it has by "octo apply"
	madeUp          map[string][]*resourcev1.Endpoint
}

// part is one of its processes.
type part struct {
	*process
	dir     string
	command []string // without where it listens
	listens func(p *part, address string) []string
	address string
	ready   func(p *part) string // its address, once it is ready
}

// newPlane lays out a control plane.
func newPlane(dir string, r *run, c *conformancev1.ControlPlane) (*plane, error) {
	p := &plane{ControlPlane: c, dir: dir, octo: r.octo, etcd: r.etcd, previous: r.previous.octo, parts: make(map[string]*part),
		madeUp: make(map[string][]*resourcev1.Endpoint)}
	if p.octo == "" {
		return nil, errors.New("it needs a control plane: give --octo, the octo binary")
	}
	if len(c.Previous) > 0 && p.previous == "" {
		return nil, errors.New("it needs the version before: give --previous-octo")
	}
	var err error
	if c.Directory {
		if p.directory, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if !c.Register {
		p.registry, err = newRegistry()
	}
	return p, err
}

// start starts all parts, and waits until they are ready.
func (p *plane) start() error {
	if !p.Apart {
		command := []string{p.program("octo"), "up", "--log", "info", "--data", filepath.Join(p.dir, "octo.data")}
		return p.add("octo", p.withDirectory(p.withRegistry(command)), listenFlag, announced)
	}
	cluster, err := p.cluster()
	if err != nil {
		return err
	}
	roles := []struct{ name, role string }{
		{"config-1", "config"}, {"config-2", "config"}, {"dispatcher-1", "dispatcher"}, {"dispatcher-2", "dispatcher"},
		{"pilot-1", "pilot"}, {"pilot-2", "pilot"}, {"directory", "directory"},
	}
	for _, r := range roles {
		command := []string{p.program(r.name), "control", "--roles", r.role, "--etcd", cluster}
		switch r.role {
		case "dispatcher":
			command = p.withRegistry(command)
		case "directory":
			if command = p.withDirectory(command); p.directory == "" {
				continue
			}
		}
		if err := p.add(r.name, command, listenFlag, announced); err != nil {
			return err
		}
	}
	return nil
}

// program is the octo of a part.
func (p *plane) program(name string) string {
	if slices.Contains(p.Previous, name) {
		return p.previous
	}
	return p.octo
}

// pollRegistry is how often the registry is asked, in milliseconds.
const pollRegistry = 100

func (p *plane) withRegistry(command []string) []string {
	if p.registry == nil {
		return command
	}
	return append(command, "--registry", fmt.Sprintf("%s=%s?every=%dms", environment, p.registry.url, cmp.Or(p.PollMs, pollRegistry)))
}

func (p *plane) withDirectory(command []string) []string {
	if p.directory == "" {
		return command
	}
	return append(command, "--directory", environment+"="+p.directory)
}

func listenFlag(p *part, address string) []string {
	return []string{"--listen", address, "--ready-file", p.readyFile(), "--metrics", "127.0.0.1:0"}
}

// cluster starts three members of an etcd, and returns where clients find them.
func (p *plane) cluster() (string, error) {
	const members = 3
	if p.etcd == "" {
		return "", errors.New("there is no etcd: run `make bootstrap-test`, or install Debian's package etcd-server")
	}
	var peers, clients, all []string
	for i := range members {
		peer, err := freeAddress()
		if err != nil {
			return "", err
		}
		client, err := freeAddress()
		if err != nil {
			return "", err
		}
		peers, clients = append(peers, "http://"+peer), append(clients, client)
		all = append(all, fmt.Sprintf("etcd-%d=http://%s", i+1, peer))
	}
	started := make(chan error, members)
	for i := range members {
		name := fmt.Sprintf("etcd-%d", i+1)
		p.put(name, &part{
			dir: p.dir, address: clients[i], listens: func(*part, string) []string { return nil }, ready: answers,
			command: []string{
				p.etcd, "--name", name, "--data-dir", filepath.Join(p.dir, name), "--initial-cluster", strings.Join(all, ","),
				"--listen-client-urls", "http://" + clients[i], "--advertise-client-urls", "http://" + clients[i],
				"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i], "--unsafe-no-fsync",
			},
		})
		go func() { started <- p.parts[name].run(name) }()
	}
	var err error
	for range members {
		err = errors.Join(err, <-started)
	}
	return strings.Join(clients, ","), err
}

// freeAddress is one that nobody has at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func (p *plane) put(name string, part *part) {
	part.process = &process{name: name}
	p.parts[name] = part
	p.names = append(p.names, name)
}

func (p *plane) add(name string, command []string, listens func(*part, string) []string, ready func(*part) string) error {
	p.put(name, &part{dir: p.dir, command: command, listens: listens, ready: ready})
	return p.parts[name].run(name)
}

// run starts the process, and waits until it is ready. One that was killed comes back where it was.
func (p *part) run(name string) (err error) {
	address := p.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	_ = os.Remove(p.readyFile()) // of one that was killed
	if p.process, err = start(p.dir, name, append(slices.Clone(p.command), p.listens(p, address)...), nil); err != nil {
		return err
	}
	go p.process.wait()
	for late := time.Now().Add(startTimeout); ; {
		if at := p.ready(p); at != "" {
			p.address = at
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended before it was ready: %w; see %s", name, p.err, p.log)
		case <-time.After(10 * poll):
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s is not ready within %v; see %s", name, startTimeout, p.log)
		}
	}
}

// announced is what a part has written into its ready file: its address.
func announced(p *part) string {
	b, err := os.ReadFile(p.readyFile())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// metrics are those of the process, at the address that it has logged last.
func (p *part) metrics() ([]byte, error) {
	address := ""
	err := logged(p.log, func(line []byte) {
		var l struct{ Msg, Metrics string }
		if json.Unmarshal(line, &l) == nil && l.Msg == "octo control runs" {
			address = l.Metrics
		}
	})
	if err != nil || address == "" {
		return nil, fmt.Errorf("%s has no metrics: %w", p.name, orNone(err))
	}
	res, err := (&http.Client{Timeout: startTimeout}).Get("http://" + address + "/metrics")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body)
}

func (p *part) readyFile() string { return filepath.Join(p.dir, p.name+".ready") }

// answers tells whether a port can be connected to.
func answers(p *part) string {
	nc, err := net.Dial("tcp", p.address)
	if err != nil {
		return ""
	}
	_ = nc.Close()
	return p.address
}

// pilotsOf are the parts that are Pilots.
func pilotsOf(c *conformancev1.ControlPlane) []string {
	if !c.GetApart() {
		return []string{"octo"}
	}
	return []string{"pilot-1", "pilot-2"}
}

// operator is where commands go: the first Config Server that is there.
func (p *plane) operator() string {
	for _, name := range []string{"octo", "config-1", "config-2"} {
		if part := p.parts[name]; part != nil && !over(part.process) {
			return part.address
		}
	}
	return "127.0.0.1:1" // nobody: the command says so
}

// command runs one of octo's.
func (p *plane) command(arguments ...string) (output string, code int, err error) {
	cmd := exec.Command(p.octo, arguments...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OCTO_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "OCTO_CONTROL="+p.operator(), "OCTO_ENVIRONMENT="+environment, "USER=conformance")
	b, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return string(b), ended.ExitCode(), nil
	}
	return string(b), 0, err
}

// stop ends all parts, the last one first.
func (p *plane) stop() error {
	var errs []error
	for i := len(p.names) - 1; i >= 0; i-- {
		part := p.parts[p.names[i]]
		if part.cmd == nil || over(part.process) {
			continue
		}
		signal := stopSignal(p.names[i])
		part.killed = signal == syscall.SIGKILL
		_ = part.cmd.Process.Signal(signal)
		if err := part.await(); err != nil && !part.killed {
			errs = append(errs, err)
		}
	}
	if p.registry != nil {
		p.registry.close()
	}
	return errors.Join(errs...)
}
