// Package crashtest pushes a configuration that crashes proxies to proxies in processes of their own.
package crashtest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// asProxy names a directory in the environment of a process that is to be a proxy.
	asProxy   = "OCTO_CRASHTEST_DIRECTORY"
	asPilot   = "OCTO_CRASHTEST_PILOT"
	long      = 30 * time.Second
	poison    = 13 * time.Second // a default timeout that crashes the proxy
	goodState = time.Second
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asProxy); dir != "" {
		if err := beProxy(dir, os.Getenv(asPilot)); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// crashing is the control plane for a proxy with a fault: it does not survive a certain policy.
type crashing struct{ *control.Client }

func (c crashing) Run(ctx context.Context, apply func(store.Update) error) error {
	return c.Client.Run(ctx, func(u store.Update) error {
		if u.Change != nil {
			for _, p := range u.Change.Policies {
				if p.GetDefaultTimeout().AsDuration() == poison {
					var routes []int
					_ = routes[len(u.Change.Policies)]
				}
			}
		}
		return apply(u)
	})
}

// beProxy is a proxy until it is killed, or crashes.
func beProxy(dir, pilot string) error {
	conn, err := grpc.NewClient(pilot, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	c := control.New(control.Config{
		Environment: meshtest.Environment, Instance: "fragile", Pilots: []grpc.ClientConnInterface{conn}, Dir: filepath.Join(dir, "state"),
		Targets: []string{"thing"}, Log: slog.Default(),
	})
	if err := c.CatchCrashes(); err != nil {
		return err
	}
	l, err := transport.ListenUnix(filepath.Join(dir, "o.sock"), 0o600)
	if err != nil {
		return err
	}
	p, err := proxy.Start(context.Background(), proxy.Config{Environment: meshtest.Environment, Instance: "fragile", Outbound: l, Source: crashing{c}})
	if err != nil {
		return err
	}
	p.Wait()
	return nil
}

// pilot is one whose proxies are other processes.
type pilot struct {
	*pilottest.Pilot
	address string
	news    chan string // "applied <version>", or "refused <why>"
}

func (p *pilot) Applied(_ push.Node, u snapshot.Update) {
	for _, told := range u.Told {
		p.news <- "applied " + told.Resource.Version
	}
}

func (p *pilot) Refused(_ push.Node, _ snapshot.Update, why string) { p.news <- "refused " + why }

func startPilot(t *testing.T) *pilot {
	t.Helper()
	p := &pilot{news: make(chan string, 1000)}
	p.Pilot = pilottest.Start(t, meshtest.Environment, push.Config{Observer: p})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	g := grpc.NewServer(push.ServerOptions()...)
	p.Server.Register(g)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	p.Load("thing", map[string]snapshot.Entry{
		"one": pilottest.Entry(t, p.Topic(resource.KindEndpoint, "thing"), "one", &resourcev1.Endpoint{MeshAddress: "127.0.0.1:9"}),
	})
	return p
}

func (p *pilot) policy(timeout time.Duration) (version string) {
	return p.Set(resource.KindServicePolicy, "thing", "", &resourcev1.ServicePolicy{DefaultTimeout: durationpb.New(timeout)})
}

// await waits for news that has something in it.
func (p *pilot) await(t *testing.T, want string) string {
	t.Helper()
	late := time.After(long)
	for {
		select {
		case n := <-p.news:
			if strings.Contains(n, want) {
				return n
			}
		case <-late:
			t.Fatalf("there is no news of %q", want)
		}
	}
}

// process is a proxy in one of its own.
type process struct {
	*exec.Cmd
	output bytes.Buffer
	ended  chan error
}

func (p *pilot) start(t *testing.T, dir string) *process {
	t.Helper()
	c := &process{Cmd: exec.Command(os.Args[0]), ended: make(chan error, 1)}
	c.Env = append(os.Environ(), asProxy+"="+dir, asPilot+"="+p.address)
	c.Stdout, c.Stderr = &c.output, &c.output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.Wait() }()
	return c
}

func (c *process) kill() {
	_ = c.Process.Kill()
	<-c.ended
}

// crashes waits for the process's end, which must be a panic.
func (c *process) crashes(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.ended:
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(c.output.String(), "index out of range") {
			t.Fatalf("it ended with %v:\n%s", err, c.output.String())
		}
	case <-time.After(long):
		c.kill()
		t.Fatalf("it does not crash:\n%s", c.output.String())
	}
}

// answers tells whether the proxy takes calls: it says that it cannot reach the instance, which is not there.
func answers(t *testing.T, dir string) {
	t.Helper()
	c, err := meshtest.DialCaller("unix", filepath.Join(dir, "o.sock"), wire.Hello{
		Role: wire.RoleCall, Kind: wire.PeerSDK, SDK: "test", SDKVersion: "1", Environment: meshtest.Environment, Application: "caller", Instance: "c", Incarnation: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended, err := c.Call(&wire.RequestHead{Target: []byte("thing"), Service: []byte("s.S"), Method: []byte("M"), Kind: wire.KindUnary}, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-ended:
		if a.Status.Reason != wire.ReasonProxyUnreachable {
			t.Fatalf("%+v", a)
		}
	case <-time.After(long):
		t.Fatal("it does not answer")
	}
}

// TestAPushThatCrashesTheProxyIsQuarantined is row 16 of the table of faults.
func TestAPushThatCrashesTheProxyIsQuarantined(t *testing.T) {
	p, dir := startPilot(t), t.TempDir()
	good := p.policy(goodState)
	c := p.start(t, dir)
	p.await(t, "applied "+good)
	bad := p.policy(poison)
	c.crashes(t)
	c = p.start(t, dir)
	c.crashes(t) // the Pilot pushes it again
	c = p.start(t, dir)
	defer func() { c.kill() }()
	if why := p.await(t, "refused"); !strings.Contains(why, bad) || !strings.Contains(why, "crashed 2 times") || !strings.Contains(why, "index out of range") {
		t.Fatal(why)
	}
	answers(t, dir)
	p.await(t, "applied "+p.policy(2*goodState)) // what comes after it is taken
	c.kill()
	c = p.start(t, dir) // and a kill speaks against nothing
	p.await(t, "applied "+p.policy(3*goodState))
	answers(t, dir)
}
