package planetest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	octomesh "github.com/octomesh/octomesh/sdks/go"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
)

// register puts the entry of an instance of a target into a registry, as somebody does who knows nothing of OctoMesh but its guide.
type register func(target, instance, value string)

func entryPath(target, instance string) string {
	return source.Layout{Prefix: "/octo/registry"}.Instance(source.Key{Environment: planetest.Environment, Target: target}, instance)
}

// inEtcd registers in an etcd.
func inEtcd(t *testing.T, c *clientv3.Client) register {
	return func(target, instance, value string) {
		t.Helper()
		planetest.Await(t, "the entry of "+instance, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := c.Put(ctx, entryPath(target, instance), value)
			return err
		})
	}
}

// debiansEtcd starts the distribution's etcd, and returns where it is.
func debiansEtcd(t *testing.T) (string, register) {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("there is no etcd to test with: run `make bootstrap-test`, or install Debian's package etcd-server")
	}
	at, peer := loopback.Free(t), "http://"+loopback.Free(t)
	planetest.Start(t, "etcd", program, "--data-dir", planetest.Dir(t), "--listen-client-urls", "http://"+at, "--advertise-client-urls", "http://"+at,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return at, inEtcd(t, c)
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// debiansZooKeeper starts the distribution's ZooKeeper, and returns where it is.
func debiansZooKeeper(t *testing.T) (string, register) {
	t.Helper()
	const jar = "/usr/share/java/zookeeper.jar"
	java, err := exec.LookPath("java")
	if _, missing := os.Stat(jar); err != nil || missing != nil {
		t.Fatal("there is no ZooKeeper to test with: run `make bootstrap-test`, or install Debian's package zookeeper")
	}
	dir, at := planetest.Dir(t), loopback.Free(t)
	host, port, _ := net.SplitHostPort(at)
	config := filepath.Join(dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=250\ndataDir=%s/data\nclientPortAddress=%s\nclientPort=%s\nadmin.enableServer=false\nmaxClientCnxns=0\n", dir, host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	planetest.Start(t, "zookeeper", java, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
		"-cp", jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
	c, _, err := zk.Connect([]string{at}, 10*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return at, func(target, instance, value string) {
		t.Helper()
		node := entryPath(target, instance) + "~1"
		for at, parts := "", strings.Split(path.Dir(node)[1:], "/"); len(parts) > 0; parts = parts[1:] {
			at += "/" + parts[0]
			planetest.Await(t, at, func() error {
				if _, err := c.Create(at, nil, 0, zk.WorldACL(zk.PermAll)); !errors.Is(err, zk.ErrNodeExists) {
					return err
				}
				return nil
			})
		}
		if _, err := c.Create(node, []byte(value), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
	}
}

// inFile registers in a file of a static registry.
func inFile(t *testing.T) (string, register) {
	t.Helper()
	file := filepath.Join(planetest.Dir(t), "registry.yaml")
	text := "endpoints:\n"
	write := func() {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write()
	return file, func(target, instance, value string) {
		t.Helper()
		text += fmt.Sprintf("- {target: %s, instance: %s, %s\n", target, instance, value[1:])
		write()
	}
}

// TestStockServersAreCalledByTheirRegistrationAlone: whatever the registry, an entry that says where a gRPC server is and that it
// speaks gRPC is all that the SDK's callers need; nothing is configured at any proxy, and nothing runs beside the server.
func TestStockServersAreCalledByTheirRegistrationAlone(t *testing.T) {
	t.Parallel()
	etcdAt, etcd := debiansEtcd(t)
	zooKeeperAt, zooKeeper := debiansZooKeeper(t)
	file, static := inFile(t)
	where := planetest.Environment
	up := programs.Up(t, "--registry", where+"/etcd.*=etcd://"+etcdAt, "--registry", where+"/zookeeper.*=zookeeper://"+zooKeeperAt)
	byFile := programs.Up(t, "--registry", where+"=static:"+file)
	through := map[*planetest.Plane]*planetest.Proxy{
		up: programs.Proxy(t, "caller-1", up.PilotAddresses(), ""), byFile: programs.Proxy(t, "caller-2", byFile.PilotAddresses(), ""),
	}
	for _, c := range []struct {
		target   string
		plane    *planetest.Plane
		register register
	}{
		{"own.echo", up, inEtcd(t, up.Client())}, {"etcd.echo", up, etcd}, {"zookeeper.echo", up, zooKeeper}, {"static.echo", byFile, static},
	} {
		t.Run(c.target, func(t *testing.T) {
			ask := caller(t, through[c.plane], c.target)
			for _, name := range []string{"first", "second"} {
				at := loopback.Free(t)
				stockServer(t, at, name)
				c.register(c.target, name, fmt.Sprintf(`{"directAddress": %q, "directProtocol": "PROTOCOL_GRPC"}`, at))
				planetest.Await(t, "an answer of the "+name, func() error { return ask(name) })
			}
			out, err := c.plane.Octo(c.plane.Pilots[0], "", "instance", "disable", c.target, "first", "-m", "test")
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			planetest.Await(t, "the second alone", func() error {
				for range 20 {
					if err := ask("second"); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// caller calls a target by the Go SDK, and tells whether who it names has answered.
func caller(t *testing.T, through *planetest.Proxy, target string) func(who string) error {
	t.Helper()
	ch, err := octomesh.Dial(target, octomesh.WithSocket(through.Socket), octomesh.WithEnvironment(planetest.Environment),
		octomesh.WithApplication("web"), octomesh.WithInstance("web-"+target), octomesh.WithMode("on"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	say := &octomesh.Method{Service: stockTarget, Name: "Say", Kind: octomesh.Unary}
	return func(who string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got, err := octomesh.CallUnary[wrapperspb.StringValue, wrapperspb.StringValue](ctx, ch, say, wrapperspb.String("who"), nil)
		if err == nil && got.Value != who {
			err = fmt.Errorf("%q answers", got.Value)
		}
		return err
	}
}
