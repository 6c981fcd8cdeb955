package planetest_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

var programs planetest.Programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		panic(err)
	}
	if programs, err = planetest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// shop is a caller behind one proxy, and an echo behind another.
type shop struct {
	*planetest.Plane
	t              *testing.T
	caller, server *planetest.Proxy
	conn           *meshtest.Caller
}

func open(t *testing.T, p *planetest.Plane) *shop {
	t.Helper()
	s := &shop{Plane: p, t: t}
	s.server = programs.Proxy(t, "server-1", p.PilotAddresses(), "")
	s.caller = programs.Proxy(t, "caller-1", p.PilotAddresses(), "")
	s.conn = s.caller.Caller("web")
	return s
}

// add has a target served, and put into the registry.
func (s *shop) add(target string) {
	s.t.Helper()
	// First, since a proxy follows what is attached to it: a Pilot that has heard that there is nobody says so, until it hears of
	// the change.
	s.Put(target, target+"-1", s.server.Inbound)
	s.server.Echo(target)
}

// works calls a target once, and that must succeed: also the first time.
func (s *shop) works(target string) {
	s.t.Helper()
	if err := planetest.Call(s.conn, target); err != nil {
		s.t.Fatalf("%s: %v", target, err)
	}
}

// follows waits until the proxy goes by what the registry says of a target that it called before.
func (s *shop) follows(target string) {
	s.t.Helper()
	planetest.Await(s.t, "a call to "+target, func() error { return planetest.Call(s.conn, target) })
}

// fails waits until a target that it called has no endpoint any more.
func (s *shop) fails(target string) {
	s.t.Helper()
	planetest.Await(s.t, "the end of "+target, func() error {
		if planetest.Call(s.conn, target) == nil {
			return fmt.Errorf("it is served")
		}
		return nil
	})
}

// TestUp: the first call to what the registry has works, a policy takes effect, and all goes on after a restart.
func TestUp(t *testing.T) {
	t.Parallel()
	s := open(t, programs.Up(t))
	octo := s.Pilots[0]
	if first, _, _ := strings.Cut(string(octo.Written()), "\n"); !bytes.Contains(octo.Written(), []byte("octo is ready at "+octo.Address+"\n")) {
		t.Errorf("it begins with %q", first)
	}
	s.add("cart")
	s.works("cart")
	if out, err := s.Octo(octo, "policies:\n- {target: cart, faults: [{name: outage, abort_permille: 1000}]}\n", "apply", "-f", "-", "-m", "an outage"); err != nil {
		t.Fatal(out, err)
	}
	s.fails("cart")
	octo.Kill()
	octo.Restart()
	if out, err := s.Octo(octo, "", "delete", "policy", "cart", "-m", "it is over"); err != nil {
		t.Fatal(out, err)
	}
	s.follows("cart")
	s.add("mail")
	s.works("mail")
	begun := time.Now()
	if err := octo.Stop(); err != nil {
		t.Errorf("after SIGTERM it ended with %v", err)
	}
	t.Logf("left after %v", time.Since(begun))
	s.works("cart")
}

// TestApart: of each role one process may die, and one member of etcd, and what changes meanwhile arrives.
func TestApart(t *testing.T) {
	t.Parallel()
	s := open(t, programs.Cluster(t))
	s.add("cart")
	s.works("cart")

	s.Pilots[0].Kill()
	s.add("mail")
	s.works("mail")
	s.Pilots[0].Restart()
	s.Pilots[1].Kill()
	s.add("stock")
	s.works("stock")
	s.Pilots[1].Restart()

	s.Dispatchers[0].Kill()
	s.add("rating")
	s.works("rating")
	s.Dispatchers[0].Restart()
	s.Dispatchers[1].Kill()
	s.add("basket")
	s.works("basket")
	s.Dispatchers[1].Restart()

	s.Etcd[0].Kill()
	s.add("video")
	s.works("video")
	s.Etcd[0].Restart()

	s.Configs[0].Kill()
	if out, err := s.Octo(s.Configs[1], "policies:\n- {target: cart, faults: [{name: outage, abort_permille: 1000}]}\n", "apply", "-f", "-", "-m", "an outage"); err != nil {
		t.Fatal(out, err)
	}
	s.fails("cart")
	s.Configs[0].Restart()
	s.Configs[1].Kill()
	if out, err := s.Octo(s.Configs[0], "", "delete", "policy", "cart", "-m", "it is over"); err != nil {
		t.Fatal(out, err)
	}
	s.follows("cart")
}

// TestCallsGoOnWithoutAnythingCentral: neither the end of it all nor the proxies' restarts are noticed.
func TestCallsGoOnWithoutAnythingCentral(t *testing.T) {
	t.Parallel()
	s := open(t, programs.Cluster(t))
	s.add("cart")
	s.works("cart")
	planetest.Await(t, "the state on the disk", func() error {
		if kept, err := os.ReadDir(s.caller.Dir + "/kept"); err != nil || len(kept) == 0 {
			return fmt.Errorf("%v %v", kept, err)
		}
		return nil
	})
	for _, roles := range [][]*planetest.Role{s.Pilots, s.Dispatchers, s.Configs} {
		for _, r := range roles {
			r.Kill()
			s.works("cart")
		}
	}
	for _, m := range s.Etcd {
		m.Kill()
		s.works("cart")
	}
	if err := s.caller.Stop(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	s.caller.Restart()
	s.conn = s.caller.Caller("web")
	s.works("cart")
}

// TestUpWithTLS: proxies and operators prove who they are, and one that is not whom it says to be learns nothing.
func TestUpWithTLS(t *testing.T) {
	t.Parallel()
	ca := identitytest.New(t)
	id := func(name string) identity.Files { return ca.Files(planetest.Dir(t), "spiffe://example.org/test/"+name) }
	flags := func(f identity.Files) []string {
		return []string{"--certificate", f.Certificate, "--key", f.Key, "--authorities", f.Authorities}
	}
	p := programs.Up(t, append(flags(id("control/all-1")), "--writers", "spiffe://example.org/test/operator/*")...)
	proxy := func(instance, name string) *planetest.Proxy {
		f := id(name)
		return programs.Proxy(t, instance, p.PilotAddresses(), fmt.Sprintf("tls: {certificate_file: %s, key_file: %s, authorities_file: %s}\n", f.Certificate, f.Key, f.Authorities))
	}
	s := &shop{Plane: p, t: t, server: proxy("server-1", "proxy/server-1"), caller: proxy("caller-1", "proxy/caller-1")}
	s.conn = s.caller.Caller("web")
	s.add("cart")
	s.works("cart")
	forger := proxy("caller-2", "proxy/caller-3")
	forger.AwaitLog(`is not the proxy \"caller-2\"`)
	faults := "policies:\n- {target: cart, faults: [{name: outage, abort_permille: 1000}]}\n"
	if out, err := s.Octo(s.Configs[0], faults, append(strings.Fields("apply -f - -m x"), flags(id("proxy/caller-1"))...)...); err == nil || !strings.Contains(out, "may not change configurations") {
		t.Fatal(out, err)
	}
	if out, err := s.Octo(s.Configs[0], faults, append(strings.Fields("apply -f - -m x"), flags(id("operator/alice"))...)...); err != nil {
		t.Fatal(out, err)
	}
	s.fails("cart")
}
