package plane_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"
)

// ask returns what a Directory says of a target, once it knows n endpoints of it, or the error.
func ask(t *testing.T, address, environment, target string, n int, opts ...octomesh.DialOption) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	ch, err := octomesh.Dial(directory.Target, append([]octomesh.DialOption{
		octomesh.WithDirect(address), octomesh.WithApplication("shop"), octomesh.WithInstance("shop-1"), octomesh.WithEnvironment(environment),
	}, opts...)...)
	if err != nil {
		return err
	}
	defer ch.Close()
	stream, err := sdkdirectory.NewDirectoryClient(ch).Watch(ctx, &directoryv1.WatchRequest{Target: target})
	if err != nil {
		return err
	}
	for {
		r, err := stream.Receive()
		if err != nil {
			return err
		}
		if len(r.GetEndpoints()) == n && (n == 0 || r.GetState() == directoryv1.WatchResponse_STATE_PRESENT) {
			return nil
		}
	}
}

func TestSDKsWithoutAProxyAskTheDirectory(t *testing.T) {
	p, _ := start(t, plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(short(t), "data")}, Metrics: "127.0.0.1:0",
		Directories: []plane.Directory{{Environment: "prod", Listen: "127.0.0.1:0"}, {Environment: "test", Listen: "127.0.0.1:0"}},
	})
	put := registry(t, p.StoreName())
	put("cart", "cart-1")
	put("cart", "cart-2")
	at := p.Directories()
	if len(at) != 2 || at[0].Environment != "prod" {
		t.Fatal(at)
	}
	if err := ask(t, at[0].Listen, "prod", "cart", 2); err != nil {
		t.Fatal(err)
	}
	if err := ask(t, at[1].Listen, "test", "cart", 0); err != nil { // nothing of it is told elsewhere
		t.Fatal(err)
	}
	if err := ask(t, at[1].Listen, "prod", "cart", 2); err == nil {
		t.Fatal("one of another environment was answered")
	}
	if text := get(t, "http://"+p.MetricsAddress()+"/metrics", 200); !strings.Contains(text, "octo_directory_snapshots_total ") || !strings.Contains(text, `octo_role_ready{role="directory"} 1`) {
		t.Fatal(text)
	}
}

func TestServersWithoutAProxyRegisterAtTheDirectory(t *testing.T) {
	p, _ := start(t, plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(short(t), "data")},
		Directories: []plane.Directory{{Environment: "prod", Listen: "127.0.0.1:0"}},
	})
	at := p.Directories()[0].Listen
	ctx, leave := context.WithCancel(t.Context())
	server := octomesh.NewServer("cart", octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"), octomesh.WithEnvironment("prod"),
		octomesh.WithApplication("cart"), octomesh.WithInstance("cart-1"), octomesh.WithDirectory(at))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	if err := ask(t, at, "prod", "cart", 1); err != nil {
		t.Error(err)
	}
	leave()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := ask(t, at, "prod", "cart", 0); err != nil { // it has said goodbye
		t.Error(err)
	}
}

func TestADirectoryWithTLSWantsToKnowWhoAsks(t *testing.T) {
	ca := identitytest.New(t)
	p, _ := start(t, plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(short(t), "data")}, TLS: ca.Files(t.TempDir(), domain+"prod/control/all-1"),
		Writers: []string{domain + "prod/operator/*"}, Directories: []plane.Directory{{Environment: "prod", Listen: "127.0.0.1:0"}},
	})
	at := p.Directories()[0].Listen
	with := func(f identity.Files) octomesh.DialOption {
		return octomesh.WithTLS(octomesh.TLS{Certificate: f.Certificate, Key: f.Key, Authorities: f.Authorities})
	}
	if err := ask(t, at, "prod", "cart", 0, with(ca.Files(t.TempDir(), domain+"prod/app/shop"))); err != nil {
		t.Error(err)
	}
	if err := ask(t, at, "prod", "cart", 0); err == nil {
		t.Error("one without TLS was answered")
	}
	if err := ask(t, at, "prod", "cart", 0, with(identitytest.New(t).Files(t.TempDir(), domain+"prod/app/shop", ca))); err == nil {
		t.Error("a stranger was answered")
	}
}

func TestAWrongDirectoryIsTold(t *testing.T) {
	ca := identitytest.New(t)
	base := plane.Config{Roles: plane.Roles(), Listen: "127.0.0.1:0"}
	for want, change := range map[string]func(*plane.Config){
		"not loopback": func(c *plane.Config) { c.Directories = []plane.Directory{{Environment: "prod", Listen: "0.0.0.0:0"}} },
		"stands there twice": func(c *plane.Config) {
			c.Directories = []plane.Directory{{Environment: "prod", Listen: "127.0.0.1:0"}, {Environment: "prod", Listen: "127.0.0.1:0"}}
		},
		"no such host": func(c *plane.Config) {
			c.Directories = []plane.Directory{{Environment: "prod", Listen: "nowhere.invalid:1"}}
		},
		`of environment "prod"`: func(c *plane.Config) {
			c.TLS, c.Writers = ca.Files(t.TempDir(), domain+"prod/control/all-1"), []string{"x"}
			c.Directories = []plane.Directory{{Environment: "test", Listen: "127.0.0.1:0"}}
		},
		"of the role directory": func(c *plane.Config) {
			c.Roles, c.Directories = []string{plane.RoleConfig}, []plane.Directory{{Environment: "test", Listen: "127.0.0.1:0"}}
		},
		"needs --directory": func(c *plane.Config) {
			c.Roles = []string{plane.RoleConfig, plane.RoleDispatcher, plane.RoleDirectory}
		},
	} {
		c := base
		c.Store, c.Unsafe = plane.Store{Data: filepath.Join(short(t), "data")}, true
		change(&c)
		p, err := plane.Start(t.Context(), c)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %q", err, want)
		}
	}
	for _, text := range []string{"", "prod", "=x", "prod="} {
		if _, err := plane.ParseDirectory(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
