package proxyd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/transport/certfile"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

// byFiles are the credentials of a stock client or server, which reads its files again.
func byFiles(t *testing.T, f certfile.Files) *certfile.Source {
	t.Helper()
	s, err := certfile.Follow(f, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func clientFiles(f identity.Files) certfile.Files {
	return certfile.Files{Certificate: f.Certificate, Key: f.Key, Authorities: f.Authorities}
}

// renew puts what an authority signs in the place of files.
func renew(t *testing.T, ca *identitytest.Authority, dir, id string) {
	t.Helper()
	fresh := t.TempDir()
	ca.Files(fresh, id)
	for _, name := range []string{"key.pem", "cert.pem", "ca.pem"} {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientsCountAsTheApplicationOfTheirCertificate: the server's policies see the application that the client's proxy has proved, and
// who proves to be none does not come in.
func TestClientsCountAsTheApplicationOfTheirCertificate(t *testing.T) {
	server := launch(t, "auth_policies: [{target: echo, allow: [{name: web, callers: [shop.web]}]}]\n")
	c := &counted{}
	c.serve(t, server.socket)
	ca, other := identitytest.New(t), identitytest.New(t)
	dir, at := t.TempDir(), loopback.Free(t)
	ca.Files(dir, "spiffe://example.org/test/proxy/one")
	launchIn(t, dir, endpoint("echo", server.inbound), bridgeLines+"  address: "+at+
		"\n  certificate_file: cert.pem\n  key_file: key.pem\n  client_authorities_file: ca.pem\n")
	files := func(ca *identitytest.Authority, name string) *grpc.ClientConn {
		f := clientFiles(ca.Files(t.TempDir(), "spiffe://example.org/"+name))
		f.Authorities = filepath.Join(dir, "ca.pem")
		return grpcClient(t, at, credentials.NewTLS(byFiles(t, f).Client("127.0.0.1", "h2")))
	}
	for name, one := range map[string]struct {
		cc   *grpc.ClientConn
		want codes.Code
	}{
		"let-in":      {files(ca, "test/app/shop.web"), codes.OK},
		"denied":      {files(ca, "test/app/shop.audit"), codes.PermissionDenied},
		"no app":      {files(ca, "test/proxy/shop.web"), codes.Unavailable},
		"environment": {files(ca, "prod/app/shop.web"), codes.Unavailable},
		"stranger":    {files(other, "test/app/shop.web"), codes.Unavailable},
		"nobody":      {grpcClient(t, at, credentials.NewTLS(byFiles(t, certfile.Files{Authorities: filepath.Join(dir, "ca.pem")}).Client("127.0.0.1", "h2"))), codes.Unavailable},
		"plain":       {grpcClient(t, at, insecure.NewCredentials()), codes.Unavailable},
	} {
		err := c.once(one.cc, name)
		if status.Code(err) != one.want || c.times(name) > 0 != (one.want == codes.OK) {
			t.Errorf("%s: %v, and it ran %d times", name, err, c.times(name))
		}
	}
	// A new authority, without a restart.
	renew(t, other, dir, "spiffe://example.org/test/proxy/one")
	if err := c.once(files(other, "test/app/shop.web"), "renewed"); err != nil {
		t.Errorf("after the authority has changed: %v", err)
	}
	if err := c.once(files(ca, "test/app/shop.web"), "old"); status.Code(err) != codes.Unavailable {
		t.Errorf("of the old authority: %v", err)
	}
}

// secureServer is a stock server that speaks TLS, and lets in whom its authorities have signed.
type secureServer struct {
	t       *testing.T
	dir, at string
	tls     *tls.Config
	stop    func()
}

func startSecureServer(t *testing.T, ca *identitytest.Authority) *secureServer {
	s := &secureServer{t: t, dir: t.TempDir(), at: loopback.Free(t)}
	s.tls = byFiles(t, clientFiles(ca.Files(s.dir, "spiffe://example.org/test/app/server"))).Server("h2")
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *secureServer) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.at)
	if err != nil {
		s.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(s.tls)), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		m := &text{}
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		return s.SendMsg(&text{Value: "heard " + m.Value})
	}))
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	s.stop = func() {
		g.Stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

// TestStockServersAreCalledByTLS: from a caller's proxy and from the one beside, to the server that has the name and is of the
// authorities, and to no other; files that change hold for the next connection.
func TestStockServersAreCalledByTLS(t *testing.T) {
	ca, next := identitytest.New(t), identitytest.New(t)
	s := startSecureServer(t, ca)
	const own = "spiffe://example.org/test/proxy/one"
	proxy := func(resources, servers string) (dir string, p *process) {
		dir = t.TempDir()
		ca.Files(dir, own)
		return dir, launchIn(t, dir, resources, bridgeLines+servers+"  server_tls: {authorities_file: ca.pem, certificate_file: cert.pem, key_file: key.pem}\n")
	}
	remote := func(more string) string {
		return fmt.Sprintf("endpoints: [{target: echo, instance: a, direct_address: %q, direct_protocol: PROTOCOL_GRPC_TLS%s}]", s.at, more)
	}
	farDir, far := proxy(remote(""), "")
	besideDir, beside := proxy("{}", fmt.Sprintf("  servers: [{targets: [echo], instance: a, address: %q, server_name: 127.0.0.1}]\n", s.at))
	clients := map[string]*grpc.ClientConn{
		"from afar":    grpcClient(t, "unix:"+far.socket, insecure.NewCredentials()),
		"by one aside": grpcClient(t, "unix:"+launchIn(t, t.TempDir(), endpoint("echo", beside.inbound), bridgeLines).socket, insecure.NewCredentials()),
	}
	call := func(cc *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := &text{}
		err := cc.Invoke(ctx, "/"+echoService+"/Once", &text{Value: "x"}, got)
		if err == nil && got.Value != "heard x" {
			err = fmt.Errorf("it answers %q", got.Value)
		}
		return err
	}
	reached := func(when string) {
		t.Helper()
		for name, cc := range clients {
			var err error
			for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if err = call(cc); err == nil || time.Now().After(until) {
					break
				}
			}
			if err != nil {
				t.Fatalf("%s, %s: %v", name, when, err)
			}
		}
	}
	reached("at first")
	for _, dir := range []string{s.dir, farDir, besideDir} {
		renew(t, next, dir, own)
	}
	reached("on the connections that stand")
	s.stop()
	s.start()
	reached("by what another authority signed")

	for why, p := range map[string]*process{
		"other.example.org": func() *process { _, p := proxy(remote(", direct_server_name: other.example.org"), ""); return p }(),
		"unknown authority": launchIn(t, t.TempDir(), remote(""), bridgeLines),
	} {
		err := call(grpcClient(t, "unix:"+p.socket, insecure.NewCredentials()))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", why, err)
		}
		await(t, "the log's word of it: "+why, func() bool { return strings.Contains(p.said.String(), why) })
	}
}
