package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// environment is where all ends of a run live.
	environment = "conformance"
	// poll is how often a proxy is asked for what it does not tell by itself.
	poll = 2 * time.Millisecond
)

// proxy is an octo-proxy beside one testee.
type proxy struct {
	*process
	dir       string
	binary    string
	options   proxyOptions
	socket    string
	admin     string
	resources string
	inbound   string
	http      *http.Client
	known     known
	successor *process // a bad one that hangs; nil: none does
	takeovers int      // that went well
}

// proxyOptions are what a proxy may have beyond its defaults.
type proxyOptions struct {
	zone        string
	control     string // lines of its file that say who tells it what it needs; empty: its resources file does
	bootstrap   string // further lines of its file
	descriptors int    // that it may have open, if not 0
	memory      int    // MiB below which it is told to keep its memory, if not 0
	trap        string // the build with a trap
}

func startProxy(dir, name, binary string, o proxyOptions) (*proxy, error) {
	base := filepath.Join(dir, name)
	p := &proxy{dir: dir, binary: binary, options: o, socket: base + ".sock", admin: base + ".adm", resources: base + ".yaml"}
	p.process = &process{name: name}
	p.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // whether a new connection is answered is part of what is tested
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		},
	}}
	if err := os.WriteFile(p.resources, []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	return p, p.run()
}

// run starts the proxy's process, and waits until it is ready. One that was killed comes back where it was.
func (p *proxy) run() error {
	if err := p.begin(); err != nil {
		return err
	}
	return p.begun()
}

// begin starts the proxy's process.
func (p *proxy) begin() error {
	p.known = known{}
	inbound := p.inbound
	if inbound == "" {
		inbound = "127.0.0.1:0"
	}
	file := p.file()
	bootstrap := fmt.Sprintf("environment: %s\ninstance: %s\noutbound_socket: %s\ninbound_address: %s\n"+
		"admin_socket: %s\ndrain_deadline: 3s\n", environment, p.name, p.socket, inbound, p.admin)
	if bootstrap += p.options.control; p.options.control == "" {
		bootstrap += "resources_file: " + p.resources + "\n"
	}
	if p.options.zone != "" {
		bootstrap += "zone: " + p.options.zone + "\n"
	}
	if err := os.WriteFile(file, []byte(bootstrap+p.options.bootstrap), 0o600); err != nil {
		return err
	}
	return p.start(file)
}

// begun waits until the proxy is ready.
func (p *proxy) begun() error {
	err := p.until(func() (bool, error) {
		if p.inbound, _ = p.said(); p.inbound == "" {
			return false, nil
		}
		n, err := p.generation()
		return n > 0, err
	})
	if err != nil {
		return fmt.Errorf("%s does not get ready: %w; see %s", p.name, err, p.log)
	}
	return nil
}

// file is its bootstrap file.
func (p *proxy) file() string { return filepath.Join(p.dir, p.name+".boot.yaml") }

// start starts a process of the proxy.
func (p *proxy) start(file string, more ...string) (err error) {
	command := append([]string{p.binary, "--config", file}, more...)
	if n := p.options.descriptors; n > 0 {
		command = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n)}, command...)
	}
	if p.process, err = start(p.dir, p.name, command, p.environment); err == nil {
		go p.process.wait()
	}
	return err
}

// environment adds what the proxy's process is told by its environment.
func (p *proxy) environment(cmd *exec.Cmd) error {
	if n := p.options.memory; n > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("GOMEMLIMIT=%dMiB", n))
	}
	return nil
}

// panics waits until the proxy has ended by a panic so many times, and starts it anew each time.
func (p *proxy) panics(times int, patience time.Duration) error {
	late := time.After(patience)
	for n := range times {
		select {
		case <-p.gone:
		case <-late:
			return fmt.Errorf("%s panicked %d times within %v, expected %d; see %s", p.name, n, patience, times, p.log)
		}
		var exit *exec.ExitError
		if !errors.As(p.err, &exit) || exit.ExitCode() != panicked {
			return fmt.Errorf("%s ended with %w and not by a panic; see %s", p.name, orNone(p.err), p.log)
		}
		if err := p.begin(); err != nil {
			return err
		}
	}
	return p.begun()
}

// panicked is the exit code of a Go program that did.
const panicked = 2

// takeover starts a successor and waits until it serves, and the process before has ended well.
func (p *proxy) takeover() error {
	before := p.process
	p.known = known{}
	_, runs := p.said()
	if err := p.start(p.file(), "--takeover"); err != nil {
		p.process = before
		return err
	}
	err := p.until(func() (bool, error) {
		_, n := p.said()
		return n > runs, nil
	})
	if err != nil {
		p.process = before // it is the one to be stopped
		return fmt.Errorf("%s is not taken over: %w; see %s", p.name, err, p.log)
	}
	p.takeovers++
	return before.await()
}

// said is the inbound address that the proxy has logged first, and how many of its processes have logged one.
func (p *proxy) said() (inbound string, processes int) {
	_ = logged(p.log, func(line []byte) { // it may not be there yet
		var l struct{ Msg, Inbound string }
		if json.Unmarshal(line, &l) == nil && l.Msg == "octo-proxy runs" {
			if processes++; inbound == "" {
				inbound = l.Inbound
			}
		}
	})
	return inbound, processes
}

// logged reads the lines of a log.
func logged(path string, line func([]byte)) error {
	log, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		line(lines.Bytes())
	}
	return lines.Err()
}

// configure gives the proxy resources and waits until it goes by them.
func (p *proxy) configure(resources string) error {
	before, err := p.generation()
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.resources, []byte(resources), 0o600); err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return p.until(func() (bool, error) {
		now, err := p.generation()
		return now > before, err
	})
}

func (p *proxy) until(ask func() (bool, error)) error {
	late := time.Now().Add(startTimeout)
	for {
		if yes, err := ask(); yes || err != nil && time.Now().After(late) {
			return err
		} else if time.Now().After(late) {
			return fmt.Errorf("nothing within %v", startTimeout)
		}
		select {
		case <-time.After(poll):
		case <-p.gone:
			return fmt.Errorf("the proxy ended: %w", p.err)
		}
	}
}

// generation is the number of the configuration by which a proxy goes that is ready; 0: it is not.
func (p *proxy) generation() (uint64, error) {
	body, err := p.get("/ready")
	if err != nil {
		return 0, nil // its admin socket may not be there yet
	}
	var r struct {
		Ready      bool
		Generation uint64
	}
	if err := json.Unmarshal(body, &r); err != nil || !r.Ready {
		return 0, err
	}
	return r.Generation, nil
}

func (p *proxy) get(path string) ([]byte, error) {
	res, err := p.http.Get("http://proxy" + path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body)
}

func (p *proxy) metrics() ([]byte, error) { return p.get("/metrics") }

// side names one direction of calls to a target through a proxy.
type side struct{ proxy, direction, target string }

// count adds how many calls the proxy has seen end, and those still open.
func (p *proxy) count(into map[side]int) error {
	body, err := p.metrics()
	if err != nil {
		return err
	}
	return samples(body, func(name string, labels map[string]string, value float64) {
		if name == "octo_calls_total" || name == "octo_calls_open" {
			into[side{p.name, labels["direction"], labels["target"]}] += int(value)
		}
	})
}

// samples reads metrics in Prometheus' text format. No label's value may have a comma or a quote.
func samples(body []byte, sample func(name string, labels map[string]string, value float64)) error {
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 {
			return fmt.Errorf("metric %q has no value", line)
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return fmt.Errorf("metric %q: %w", line, err)
		}
		name, list, _ := strings.Cut(line[:cut], "{")
		labels := make(map[string]string)
		for pair := range strings.SplitSeq(strings.TrimSuffix(list, "}"), ",") {
			key, quoted, _ := strings.Cut(pair, "=")
			labels[key] = strings.Trim(quoted, `"`)
		}
		sample(name, labels, value)
	}
	return nil
}

func (p *proxy) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.await()
}
