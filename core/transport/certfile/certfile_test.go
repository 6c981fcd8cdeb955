package certfile_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/transport/certfile"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

// shake lets two ends shake hands, and returns the id that the server saw, if it asked.
func shake(t *testing.T, client, server *tls.Config) (seen string, err error) {
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
	type end struct {
		seen string
		err  error
	}
	done := make(chan end, 1)
	go func() {
		s := tls.Server(b, server)
		out := end{err: s.Handshake()}
		if out.err == nil {
			if all := s.ConnectionState().PeerCertificates; len(all) > 0 {
				out.seen = all[0].URIs[0].String()
			}
			_, out.err = s.Write([]byte("x"))
		}
		_ = b.Close()
		done <- out
	}()
	c := tls.Client(a, client)
	if err = c.Handshake(); err == nil {
		_, err = c.Read(make([]byte, 1)) // a refusal of the server's comes after the handshake
	}
	_ = a.Close()
	got := <-done
	if err == nil {
		err = got.err
	}
	return got.seen, err
}

func follow(t *testing.T, f certfile.Files, failed func(error)) *certfile.Source {
	t.Helper()
	s, err := certfile.Follow(f, failed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamesAuthoritiesAndClientsAreProved(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	own, client := ca.Files(t.TempDir(), "spiffe://example.org/test/app/server"), ca.Files(t.TempDir(), "spiffe://example.org/test/app/web")
	stranger := other.Files(t.TempDir(), "spiffe://example.org/test/app/web")
	open := follow(t, certfile.Files{Certificate: own.Certificate, Key: own.Key}, nil).Server("h2")
	asking := follow(t, certfile.Files{Certificate: own.Certificate, Key: own.Key, Authorities: own.Authorities}, nil).Server("h2")
	anonymous := follow(t, certfile.Files{Authorities: own.Authorities}, nil)
	known := follow(t, certfile.Files{Certificate: client.Certificate, Key: client.Key, Authorities: own.Authorities}, nil)
	foreign := follow(t, certfile.Files{Certificate: stranger.Certificate, Key: stranger.Key, Authorities: own.Authorities}, nil)
	for name, c := range map[string]struct {
		client, server *tls.Config
		seen, fails    string
	}{
		"nobody is asked":           {anonymous.Client("127.0.0.1", "h2"), open, "", ""},
		"a certificate unasked":     {known.Client("127.0.0.1", "h2"), open, "", ""},
		"a client proves itself":    {known.Client("127.0.0.1", "h2"), asking, "spiffe://example.org/test/app/web", ""},
		"no certificate":            {anonymous.Client("127.0.0.1", "h2"), asking, "", "certificate required"},
		"a strange authority":       {foreign.Client("127.0.0.1", "h2"), asking, "", "unknown certificate authority"},
		"another name":              {known.Client("example.org", "h2"), open, "", "example.org"},
		"authorities of the system": {follow(t, certfile.Files{}, nil).Client("127.0.0.1", "h2"), open, "", "unknown authority"},
		"another protocol":          {known.Client("127.0.0.1", "spdy"), open, "", "no application protocol"},
		"a server without ALPN":     {known.Client("127.0.0.1", "h2"), follow(t, certfile.Files{Certificate: own.Certificate, Key: own.Key}, nil).Server(), "", "agrees to none of the protocols [h2]"},
	} {
		seen, err := shake(t, c.client, c.server)
		if seen != c.seen || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: saw %q, %v; want %q, %q", name, seen, err, c.seen, c.fails)
		}
	}
}

func TestFilesThatChangeAreReadAgain(t *testing.T) {
	old, next := identitytest.New(t), identitytest.New(t)
	dir := t.TempDir()
	own := old.Files(dir, "spiffe://example.org/test/app/server")
	var failed []error
	server := follow(t, certfile.Files{Certificate: own.Certificate, Key: own.Key, Authorities: own.Authorities}, func(err error) { failed = append(failed, err) })
	accepts := server.Server("h2") // one for all handshakes
	client := func(ca *identitytest.Authority) *certfile.Source {
		f := ca.Files(t.TempDir(), "spiffe://example.org/test/app/web")
		return follow(t, certfile.Files{Certificate: f.Certificate, Key: f.Key, Authorities: f.Authorities}, nil)
	}
	before, after := client(old), client(next)
	if _, err := shake(t, before.Client("127.0.0.1", "h2"), accepts); err != nil {
		t.Fatal(err)
	}
	// Half of what is new: what was read last holds.
	fresh := next.Files(t.TempDir(), "spiffe://example.org/test/app/server")
	move := func(from, to string) {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to+".new", b, 0o600)
		}
		if err == nil {
			err = os.Rename(to+".new", to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	move(fresh.Key, own.Key)
	if _, err := shake(t, before.Client("127.0.0.1", "h2"), accepts); err != nil || len(failed) == 0 || !strings.Contains(failed[0].Error(), filepath.Base(own.Certificate)) {
		t.Fatalf("%v, %v", err, failed)
	}
	move(fresh.Certificate, own.Certificate)
	move(fresh.Authorities, own.Authorities)
	if _, err := shake(t, after.Client("127.0.0.1", "h2"), accepts); err != nil {
		t.Error(err)
	}
	if _, err := shake(t, before.Client("127.0.0.1", "h2"), accepts); err == nil {
		t.Error("a client of the old authority is let in")
	}
}

func TestFilesThatDoNotFitAreRefused(t *testing.T) {
	f := identitytest.New(t).Files(t.TempDir(), "spiffe://example.org/test/app/server")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, files := range map[string]certfile.Files{
		"go together":       {Certificate: f.Certificate},
		"no such file":      {Authorities: filepath.Join(t.TempDir(), "none")},
		"no certificate in": {Authorities: empty},
		"failed to find":    {Certificate: empty, Key: f.Key},
	} {
		if _, err := certfile.Follow(files, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
