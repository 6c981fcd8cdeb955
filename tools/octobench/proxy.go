package main

import (
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
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// targets is how many targets a proxy is configured with; all but one are never called.
const targets = 100

// unused is an address that nobody listens on and nobody dials.
const unused = "127.0.0.1:9"

// telemetry is a proxy's section for it, with what is said by nobody at its default: of the calls that come
// without a trace 1 % begin one, and 1 % of those that succeed are logged.
const telemetry = `telemetry:
  otlp: {endpoint: "http://%s"}
  access_log: {file: %q}
`

// collector takes spans by OTLP over gRPC, the default, and throws them away.
func collector() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		// An export and the answer to it are messages of which nothing is looked at.
		if err := s.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
		return s.SendMsg(new(emptypb.Empty))
	}))
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), srv.Stop, nil
}

// proxyProcess is a running octo-proxy.
type proxyProcess struct {
	*process
	socket  string // "unix:path" for applications
	inbound string // host:port for other proxies
	admin   *http.Client
}

// buildProxy builds octo-proxy of this tree.
func buildProxy(dir string) (string, error) {
	binary := filepath.Join(dir, "octo-proxy")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/octomesh/octomesh/core/cmd/octo-proxy").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building octo-proxy: %w\n%s", err, out)
	}
	return binary, nil
}

// behind is what a proxy has behind it: where the target of the measurement is.
type behind struct {
	mesh   string // the address of a proxy, or of raw ends that stand for one
	direct string // the address of a gRPC or Kitex server that the proxy calls itself, instead
	server string // the address of a gRPC server that is an instance of this proxy
	grpc   bool   // gRPC's clients come in, too
	kitex  bool   // Kitex' clients come in, too, and the server that the proxy calls itself is one of Kitex'
}

// foreignIn is a proxy's section for foreign clients on its socket.
const foreignIn = "%s:\n  application: octobench\n  targets: {%s: %s}\n"

// startProxy runs an octo-proxy. It traces to the collector and writes an access log, unless the collector is empty.
func startProxy(role, binary, dir string, b behind, collector string) (*proxyProcess, error) {
	base := filepath.Join(dir, role)
	admin := base + ".adm"
	bootstrap := fmt.Sprintf("environment: %s\ninstance: %s\noutbound_socket: %s\ninbound_address: 127.0.0.1:0\n"+
		"admin_socket: %s\nresources_file: %s\n", side.Environment, role, base+".sock", admin, base+".res.yaml")
	if b.grpc {
		bootstrap += fmt.Sprintf(foreignIn, "grpc", side.Service, side.Target)
	}
	if b.kitex {
		bootstrap += fmt.Sprintf(foreignIn, "kitex", side.Service, side.Target)
	}
	if b.server != "" {
		bootstrap += fmt.Sprintf("grpc:\n  servers:\n  - {targets: [%s], instance: %s-0, address: %q}\n", side.Target, side.Target, b.server)
	}
	if collector != "" {
		bootstrap += fmt.Sprintf(telemetry, collector, base+".log")
	}
	if err := os.WriteFile(base+".res.yaml", []byte(resources(b)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(base+".yaml", []byte(bootstrap), 0o600); err != nil {
		return nil, err
	}
	p, err := launch(role, exec.Command(binary, "--config", base+".yaml"))
	if err != nil {
		return nil, err
	}
	p.signal = true
	out := &proxyProcess{process: p, socket: "unix:" + base + ".sock", admin: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", admin)
		},
	}}}
	if err := out.wait(); err != nil {
		p.end()
		return nil, err
	}
	return out, nil
}

// resources is a proxy's configuration: targets with one endpoint each, default policies.
func resources(b behind) string {
	var policies, endpoints strings.Builder
	for i := range targets {
		name, where := fmt.Sprintf("target-%02d", i), fmt.Sprintf("mesh_address: %q", unused)
		if i == targets/2 {
			name = side.Target
			switch {
			case b.direct != "" && b.kitex:
				where = fmt.Sprintf("direct_address: %q, direct_protocol: PROTOCOL_KITEX_MUX", b.direct)
			case b.direct != "":
				where = fmt.Sprintf("direct_address: %q, direct_protocol: PROTOCOL_GRPC", b.direct)
			case b.mesh != "":
				where = fmt.Sprintf("mesh_address: %q", b.mesh)
			}
		}
		fmt.Fprintf(&policies, "- {target: %s}\n", name)
		fmt.Fprintf(&endpoints, "- {target: %s, instance: %s-0, %s}\n", name, name, where)
	}
	return fmt.Sprintf("environment: %s\npolicies:\n%sendpoints:\n%s", side.Environment, &policies, &endpoints)
}

// proxySettings says what a proxy is configured with, for the table.
func proxySettings(observed bool) string {
	how := "tracing (1 % of calls begin a trace) and access log (1 % of successes) on"
	if !observed {
		how = "NEITHER TRACING NOR ACCESS LOG"
	}
	return fmt.Sprintf("proxies: octo-proxy, %d targets with default policies and one endpoint each, metrics and admin socket on, "+
		"%s, log level info, no TLS; rows named deadline: %v a call", targets, how, callTimeout)
}

// wait returns when the proxy has said where it listens and has loaded its configuration.
func (p *proxyProcess) wait() error {
	for until := time.Now().Add(startTimeout); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		if p.inbound == "" {
			p.inbound = inboundOf(p.err.String())
			continue
		}
		if res, err := p.admin.Get("http://proxy/ready"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return p.failed(errors.New("does not get ready"))
}

// inboundOf finds the address for other proxies, whose port the system chose, in the proxy's log.
func inboundOf(log string) string {
	for line := range strings.Lines(log) {
		var said struct{ Msg, Inbound string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "octo-proxy runs" {
			return said.Inbound
		}
	}
	return ""
}

// profile takes a CPU profile of the given time.
func (p *proxyProcess) profile(seconds int, file string) error {
	res, err := p.admin.Get(fmt.Sprintf("http://proxy/debug/pprof/profile?seconds=%d", seconds))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: profile: %s", p.role, res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
