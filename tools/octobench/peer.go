package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/peers"
)

// The peers: programs of others that calls are compared with. `make bench-peers` installs them; one that is
// not there is left out of the table, which says so.
const (
	envoy   = "envoy"
	haproxy = "haproxy"
	nginx   = "nginx"
	kitex   = "kitex"
	python  = "octobench-python" // the Python SDK's sides and grpcio's
)

// program is a peer's, as it was found.
type program struct {
	path    string
	version string
	env     []string
}

// findPeer looks for a peer in the folder that make bench-peers fills, then on the PATH.
func findPeer(name, folder string) (*program, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	p := &program{}
	for _, at := range []string{filepath.Join(folder, name), filepath.Join(folder, "root/usr/sbin", name)} {
		if _, err := os.Stat(at); err == nil {
			p.path = at
			// Debian's packages, unpacked: what they bring is not where the system looks.
			p.env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(folder, "root/usr/lib", multiarch()))
			break
		}
	}
	if p.path == "" && name != kitex && name != python { // nobody has an octobench side of that name by chance
		p.path, _ = exec.LookPath(name)
	}
	if p.path == "" {
		return nil, fmt.Errorf("%s is not installed; make bench-peers does it", name)
	}
	if name == kitex {
		p.version = peers.Kitex
		return p, nil
	}
	flag := map[string]string{envoy: "--version", haproxy: "-v", nginx: "-v", python: "--version"}[name]
	cmd := exec.Command(p.path, flag)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s does not run: %w\n%s", p.path, err, out)
	}
	if p.version = versionIn(string(out)); name == python {
		p.version = strings.TrimSpace(string(out))
	}
	return p, nil
}

// multiarch is the folder that Debian gives the libraries of this architecture.
func multiarch() string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return arch + "-linux-gnu"
}

// versionIn finds the first word like 1.2.3 in what a program says of itself.
func versionIn(said string) string {
	for word := range strings.FieldsFuncSeq(said, func(r rune) bool { return strings.ContainsRune(" /,\n", r) }) {
		if strings.Count(word, ".") >= 2 && word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return "of an unknown version"
}

// settings is what the peers' configurations are made of.
type settings struct {
	Listen, Dial string // paths of Unix sockets
	Dir          string
	Root         bool // runs as root: nginx would give its workers away
}

// startPeer runs a relay between two Unix sockets.
func startPeer(name string, p *program, templateName, dir, dial string) (*process, string, error) {
	s := settings{Listen: filepath.Join(dir, name+".sock"), Dial: strings.TrimPrefix(dial, "unix:"), Dir: dir, Root: os.Getuid() == 0}
	config, err := peerConfig(templateName, s)
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, templateName)
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(p.path, peerArgs(name, file, dir)...)
	cmd.Env = p.env
	running, err := launch(name, cmd)
	if err != nil {
		return nil, "", err
	}
	running.signal = true
	if err := running.accepts(s.Listen); err != nil {
		running.end()
		return nil, "", err
	}
	return running, "unix:" + s.Listen, nil
}

// peerConfig fills a template.
func peerConfig(name string, s settings) ([]byte, error) {
	t, err := template.New(name+".tmpl").Option("missingkey=error").ParseFS(peers.Templates, name+".tmpl")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = t.Execute(&b, s)
	return []byte(b.String()), err
}

func peerArgs(name, file, dir string) []string {
	switch name {
	case envoy: // a worker per core; hot restart would need shared memory of its own per process
		return []string{"-c", file, "--concurrency", fmt.Sprint(runtime.NumCPU()), "--disable-hot-restart", "--log-level", "warn"}
	case haproxy:
		return []string{"-f", file, "-db"}
	default:
		return []string{"-e", "stderr", "-p", dir, "-c", file}
	}
}

// accepts waits until somebody listens at a Unix socket.
func (p *process) accepts(socket string) error {
	for until := time.Now().Add(startTimeout); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		if nc, err := net.Dial("unix", socket); err == nil {
			return nc.Close()
		}
		if p.gone() {
			return p.failed(errors.New("ended at once"))
		}
	}
	return p.failed(errors.New("does not listen"))
}
