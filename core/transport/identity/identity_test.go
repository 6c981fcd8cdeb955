package identity_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

func load(t *testing.T, f identity.Files) *identity.Source {
	t.Helper()
	s, err := identity.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake lets two sources shake hands and returns what each end says.
func shake(t *testing.T, client, server *tls.Config) (seen string, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(b, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Read(make([]byte, 1)) // the client's refusal comes after the handshake
			if id, ierr := identity.PeerOf(s.ConnectionState()); ierr == nil {
				seen = id.String()
			}
		}
		_ = b.Close()
		done <- err
	}()
	c := tls.Client(a, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Write([]byte("x"))
	}
	_ = a.Close()
	serverErr = <-done
	return seen, clientErr, serverErr
}

func TestPeersOfOneEnvironmentKnowEachOther(t *testing.T) {
	ca := identitytest.New(t)
	client := load(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/a"))
	server := load(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/b"))
	seen, cerr, serr := shake(t, client.Client(client.SameEnvironment), server.Server(server.SameEnvironment))
	if cerr != nil || serr != nil || seen != "spiffe://example.org/test/proxy/a" {
		t.Fatalf("%v, %v, saw %q", cerr, serr, seen)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	server := load(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/b"))
	for name, files := range map[string]identity.Files{
		"foreign environment":  ca.Files(t.TempDir(), "spiffe://example.org/prod/proxy/a"),
		"foreign trust domain": ca.Files(t.TempDir(), "spiffe://example.com/test/proxy/a"),
		"foreign authority":    other.Files(t.TempDir(), "spiffe://example.org/test/proxy/a", ca),
	} {
		client := load(t, files)
		any := func(identity.ID) error { return nil }
		if _, cerr, serr := shake(t, client.Client(any), server.Server(server.SameEnvironment)); serr == nil {
			t.Errorf("the server let in a %s (client: %v)", name, cerr)
		}
		if _, cerr, _ := shake(t, server.Client(server.SameEnvironment), client.Server(any)); cerr == nil {
			t.Errorf("the client went on with a %s", name)
		}
	}
	refuse := func(identity.ID) error { return errors.New("not the one") }
	if _, cerr, _ := shake(t, server.Client(refuse), server.Server(server.SameEnvironment)); cerr == nil || !strings.Contains(cerr.Error(), "not the one") {
		t.Errorf("an unexpected id passed: %v", cerr)
	}
}

func TestOtherProtocolsAndVersionsAreRefused(t *testing.T) {
	ca := identitytest.New(t)
	s := load(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/a"))
	old := s.Client(s.SameEnvironment)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, cerr, serr := shake(t, old, s.Server(s.SameEnvironment)); cerr == nil || serr == nil {
		t.Errorf("TLS 1.2 passed: %v, %v", cerr, serr)
	}
	silent := s.Client(s.SameEnvironment)
	silent.NextProtos = nil
	if _, _, serr := shake(t, silent, s.Server(s.SameEnvironment)); serr == nil {
		t.Error("a client that names no protocol passed")
	}
	foreign := s.Client(s.SameEnvironment)
	foreign.NextProtos = []string{"h2"}
	foreign.VerifyConnection = nil // it is none of ours, and looks at other things
	if _, cerr, serr := shake(t, foreign, s.Server(s.SameEnvironment)); cerr == nil && serr == nil {
		t.Error("a client of another protocol passed")
	}
	if _, cerr, serr := shake(t, foreign, s.Server(s.SameEnvironment, "h2")); cerr != nil || serr != nil {
		t.Errorf("a client of a protocol that the server takes did not pass: %v, %v", cerr, serr)
	}
	bare := s.Client(s.SameEnvironment)
	bare.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	if _, _, serr := shake(t, bare, s.Server(s.SameEnvironment)); serr == nil {
		t.Error("a client without a certificate passed")
	}
}

func TestReloadTakesEffectAndKeepsTheLastGood(t *testing.T) {
	old, young := identitytest.New(t), identitytest.New(t)
	dir := t.TempDir()
	files := old.Files(dir, "spiffe://example.org/test/proxy/a")
	s := load(t, files)
	peer := load(t, young.Files(t.TempDir(), "spiffe://example.org/test/proxy/b", old))
	if _, _, serr := shake(t, peer.Client(peer.SameEnvironment), s.Server(s.SameEnvironment)); serr == nil {
		t.Fatal("the young authority was trusted too soon")
	}
	young.Files(dir, "spiffe://example.org/test/proxy/renewed", old)
	server := s.Server(s.SameEnvironment) // made before the reload
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, cerr, serr := shake(t, peer.Client(peer.SameEnvironment), server); cerr != nil || serr != nil || s.ID().Name != "proxy/renewed" {
		t.Fatalf("%v, %v, %v", cerr, serr, s.ID())
	}
	if err := os.WriteFile(files.Key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Fatal("a broken key was loaded")
	}
	if _, cerr, serr := shake(t, peer.Client(peer.SameEnvironment), server); cerr != nil || serr != nil {
		t.Fatalf("the last good was lost: %v, %v", cerr, serr)
	}
}

func TestIDs(t *testing.T) {
	if id, err := identity.Parse("spiffe://example.org/test/app/cart"); err != nil || id != (identity.ID{TrustDomain: "example.org", Environment: "test", Name: "app/cart"}) {
		t.Fatalf("%+v, %v", id, err)
	}
	for _, bad := range []string{
		"", "https://example.org/test/app", "spiffe://example.org", "spiffe://example.org/test", "spiffe://example.org/test/",
		"spiffe:///test/app", "spiffe://a:1/test/app", "spiffe://u@a/test/app", "spiffe://a/test/app?x", "spiffe://a/test/app#f", "spiffe://a/test/app/",
	} {
		if id, err := identity.Parse(bad); err == nil {
			t.Errorf("%q passed as %+v", bad, id)
		}
	}
}

func TestAFollowerReadsFilesThatHaveChanged(t *testing.T) {
	old, young := identitytest.New(t), identitytest.New(t)
	dir := t.TempDir()
	files := old.Files(dir, "spiffe://example.org/test/app/a")
	var failures []error
	s, err := identity.Follow(files, func(err error) { failures = append(failures, err) })
	if err != nil {
		t.Fatal(err)
	}
	server := s.Server(s.SameEnvironment)
	peer := load(t, young.Files(t.TempDir(), "spiffe://example.org/test/app/b", old))
	if _, _, serr := shake(t, peer.Client(peer.SameEnvironment), server); serr == nil {
		t.Fatal("the young authority was trusted too soon")
	}
	young.Files(dir, "spiffe://example.org/test/app/renewed", old)
	if _, cerr, serr := shake(t, peer.Client(peer.SameEnvironment), server); cerr != nil || serr != nil || s.ID().Name != "app/renewed" {
		t.Fatalf("%v, %v, %v", cerr, serr, s.ID())
	}
	key, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Key, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, cerr, serr := shake(t, peer.Client(peer.SameEnvironment), server); cerr != nil || serr != nil || len(failures) == 0 {
		t.Fatalf("half a key: %v, %v, told of %v", cerr, serr, failures)
	}
	if err := os.WriteFile(files.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	told := len(failures)
	if _, cerr, serr := shake(t, peer.Client(peer.SameEnvironment), server); cerr != nil || serr != nil || len(failures) != told {
		t.Fatalf("the whole key: %v, %v, told of %v", cerr, serr, failures[told:])
	}
}

func TestExactlyOneID(t *testing.T) {
	a := identity.ID{TrustDomain: "example.org", Environment: "test", Name: "app/a"}
	expect := identity.Exactly(a)
	if err := expect(a); err != nil {
		t.Error(err)
	}
	b := a
	b.Name = "app/b"
	if err := expect(b); err == nil || !strings.Contains(err.Error(), "spiffe://example.org/test/app/b") {
		t.Errorf("another id: %v", err)
	}
}
