package proxyd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// selfSigned writes a certificate for localhost, and returns who trusts it.
func selfSigned(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "c.pem"), string(cert))
	write(t, filepath.Join(dir, "k.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

func grpcClient(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func (c *counted) once(cc *grpc.ClientConn, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return cc.Invoke(ctx, "/"+echoService+"/Once", &text{Value: id}, &text{})
}

const bridgeLines = "grpc:\n  application: stock\n  targets: {octo.test.v1.Echo: echo}\n"

func TestStockClientsCallByTCPTLSAndTheSocket(t *testing.T) {
	server := launch(t, "{}")
	c := &counted{}
	c.serve(t, server.socket)
	plain := loopback.Free(t)
	client := launchIn(t, t.TempDir(), endpoint("echo", server.inbound), bridgeLines+"  address: "+plain+"\n")
	dir, secure := t.TempDir(), loopback.Free(t)
	trusts := selfSigned(t, dir)
	launchIn(t, dir, endpoint("echo", server.inbound), bridgeLines+"  address: "+secure+"\n  certificate_file: c.pem\n  key_file: k.pem\n")
	for name, cc := range map[string]*grpc.ClientConn{
		"plain": grpcClient(t, plain, insecure.NewCredentials()), "socket": grpcClient(t, "unix:"+client.socket, insecure.NewCredentials()),
		"TLS": grpcClient(t, secure, credentials.NewTLS(&tls.Config{RootCAs: trusts, ServerName: "localhost"})),
	} {
		if err := c.once(cc, name); err != nil || c.times(name) != 1 {
			t.Errorf("%s: %v, it ran %d times", name, err, c.times(name))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		r, err := grpc_health_v1.NewHealthClient(cc).List(ctx, &grpc_health_v1.HealthListRequest{})
		cancel()
		all := r.GetStatuses()
		if up := grpc_health_v1.HealthCheckResponse_SERVING; err != nil || all[""].GetStatus() != up || all[echoService].GetStatus() != up {
			t.Errorf("%s: health is %v, %v", name, r, err)
		}
	}
}

// keepCalling calls one after the other until the returned function is called.
func (c *counted) keepCalling(t *testing.T, cc *grpc.ClientConn) (stop func()) {
	t.Helper()
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			default:
			}
			if err := c.once(cc, strconv.Itoa(n)); err != nil {
				t.Errorf("call %d: %v", n, err)
				return
			}
			c.done.Add(1)
		}
	}()
	return func() { close(stopped); <-done }
}

func TestHotRestartsFailNoCallOfAStockClient(t *testing.T) {
	server := launch(t, "{}")
	c := &counted{}
	c.serve(t, server.socket)
	at := loopback.Free(t)
	client := launchIn(t, t.TempDir(), endpoint("echo", server.inbound), bridgeLines+"  address: "+at+"\n")
	cc := grpcClient(t, at, insecure.NewCredentials())
	stop := c.keepCalling(t, cc)
	for range 3 {
		c.progress(t, 50)
		client = client.takeover(t)
	}
	c.progress(t, 50)
	stop()
	t.Logf("%d calls, 3 hot restarts", c.done.Load())
}

func TestHotRestartsOfAStockServersProxyFailNoCall(t *testing.T) {
	server := launchIn(t, t.TempDir(), "{}", "grpc: {servers: [{targets: [echo], instance: echo-1, address: \""+stockServer(t)+"\"}]}\n")
	client := launchIn(t, t.TempDir(), endpoint("echo", server.inbound), bridgeLines)
	c := &counted{}
	stop := c.keepCalling(t, grpcClient(t, "unix:"+client.socket, insecure.NewCredentials()))
	for range 3 {
		c.progress(t, 50)
		server = server.takeover(t)
	}
	c.progress(t, 50)
	stop()
	t.Logf("%d calls, 3 hot restarts", c.done.Load())
}

// stockServer answers "heard" and what it was told, until the test ends.
func stockServer(t *testing.T) (address string) {
	t.Helper()
	return serveStock(t, func(_ context.Context, told string) string { return "heard " + told })
}

// serveStock serves every method with one answer, until the test ends.
func serveStock(t *testing.T, answer func(ctx context.Context, told string) string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		m := &text{}
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		return s.SendMsg(&text{Value: answer(s.Context(), m.Value)})
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestAStockServerIsAnInstanceByTheResourcesFile(t *testing.T) {
	p := launchIn(t, t.TempDir(), "endpoints: [{target: echo, instance: a, direct_address: \""+stockServer(t)+"\", direct_protocol: PROTOCOL_GRPC}]", bridgeLines)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got := &text{}
	if err := grpcClient(t, "unix:"+p.socket, insecure.NewCredentials()).Invoke(ctx, "/"+echoService+"/Once", &text{Value: "stock"}, got); err != nil || got.Value != "heard stock" {
		t.Errorf("a stock client: %q, %v", got.Value, err)
	}
	ch, err := octomesh.Dial("echo", octomesh.WithSocket(p.socket), octomesh.WithEnvironment("test"), octomesh.WithApplication("web"), octomesh.WithMode("on"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	got, err = octomesh.CallUnary[text, text](ctx, ch, once, &text{Value: "sdk"}, nil)
	if err != nil || got.Value != "heard sdk" {
		t.Errorf("the SDK: %v, %v", got, err)
	}
}
