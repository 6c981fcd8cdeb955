package proxyd

import (
	"context"
	"crypto/tls"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/octomesh/octomesh/core/transport"
)

const (
	gatewayLines = "environment: test\ninstance: gateway\nadmin_socket: a.sock\nresources_file: r.yaml\ndrain_deadline: 5s\n"
	stockService = "stock.test.v1.Any"
)

// launchGateway starts an octo-gateway in dir whose clients reach echo and stock at a server's proxy, with more lines of its gRPC section.
func launchGateway(t *testing.T, dir string, server *process, more string) *process {
	t.Helper()
	p := processIn(dir)
	write(t, p.resources, endpoint("echo", server.inbound)+strings.TrimPrefix(endpoint("stock", server.inbound), "endpoints:\n"))
	write(t, filepath.Join(dir, "p.yaml"), gatewayLines+"grpc:\n  application: outside\n  address: 127.0.0.1:0\n  targets: {"+echoService+": echo, "+stockService+": stock}\n"+more)
	p.start(t, gateway)
	return p
}

// served is a proxy with a server of the SDK's and one of gRPC's own beside it.
func served(t *testing.T) (*counted, *process) {
	t.Helper()
	c, server := &counted{}, launchIn(t, t.TempDir(), "{}", "grpc: {servers: [{targets: [stock], instance: stock-1, address: \""+stockServer(t)+"\"}]}\n")
	c.serve(t, server.socket)
	return c, server
}

// The variables say where applications find a proxy of their own: none of a gateway's business.
func TestAGatewayReachesServersOfTheSDKAndOfGRPC(t *testing.T) {
	own := filepath.Join(t.TempDir(), "o.sock")
	t.Setenv("OCTO_SOCKET", own)
	t.Setenv("OCTO_ADVERTISE_ADDRESS", "10.0.0.1:7000")
	c, server := served(t)
	dir := t.TempDir()
	trusts := selfSigned(t, dir)
	for name, cc := range map[string]*grpc.ClientConn{
		"plain": grpcClient(t, launchGateway(t, t.TempDir(), server, "").grpc, insecure.NewCredentials()),
		"TLS": grpcClient(t, launchGateway(t, dir, server, "  certificate_file: c.pem\n  key_file: k.pem\n").grpc,
			credentials.NewTLS(&tls.Config{RootCAs: trusts, ServerName: "localhost"})),
	} {
		if err := c.once(cc, name); err != nil || c.times(name) != 1 {
			t.Errorf("%s: %v, it ran %d times", name, err, c.times(name))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		got := &text{}
		err := cc.Invoke(ctx, "/"+stockService+"/Once", &text{Value: name}, got)
		cancel()
		if err != nil || got.Value != "heard "+name {
			t.Errorf("%s, a server of gRPC's own: %q, %v", name, got.Value, err)
		}
	}
	if l, err := transport.ListenUnix(own, 0o600); err != nil {
		t.Errorf("a gateway has a socket for applications: %v", err)
	} else {
		_ = l.Close()
	}
}

// Clients know two gateways. One leaves, and is replaced; the other has a hot restart.
func TestAGatewayLeavesAndRestartsWithoutALostCall(t *testing.T) {
	c, server := served(t)
	one, two := launchGateway(t, t.TempDir(), server, ""), launchGateway(t, t.TempDir(), server, "")
	both := manual.NewBuilderWithScheme("gateways")
	both.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: one.grpc}, {Addr: two.grpc}}})
	var stops []func()
	for range 4 {
		cc, err := grpc.NewClient("gateways:///", grpc.WithResolvers(both), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		stops = append(stops, c.keepCalling(t, cc))
	}
	for name, p := range map[string]*process{"one": one, "two": two} {
		await(t, "calls by gateway "+name, func() bool { _, b := p.get("/metrics"); return strings.Contains(b, "octo_calls_total{") })
	}
	c.progress(t, 100)
	_ = one.cmd.Process.Signal(syscall.SIGTERM)
	one.left(t)
	if !strings.Contains(one.said.String(), `"calls_cut_off":0`) {
		t.Errorf("it left so:\n%s", one.said)
	}
	c.progress(t, 100)
	two.takeover(t)
	c.progress(t, 100)
	for _, stop := range stops {
		stop()
	}
	t.Logf("%d calls", c.done.Load())
}

func TestAGatewayRefusesWhatIsForApplicationsBesideIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.yaml")
	for text, want := range map[string]string{
		gatewayLines: "grpc.address",
		gatewayLines + "grpc: {application: outside, address: \"127.0.0.1:0\"}\noutbound_socket: o.sock\n": "octo-gateway: " + path + ":7: outbound_socket",
	} {
		write(t, path, text)
		out, err := exec.Command(gateway, "--config", path).CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != exitConfig || !strings.Contains(string(out), want) {
			t.Errorf("%v, want %q:\n%s", err, want, out)
		}
	}
}
