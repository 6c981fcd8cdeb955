package zookeeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	"github.com/octomesh/octomesh/core/dispatcher/source/zookeeper"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests run with a server that ends before anybody looks for what they left.
type tests struct{ *testing.M }

func (t tests) Run() int {
	code := t.M.Run()
	if shared.stop != nil {
		shared.stop()
	}
	return code
}

// jar is where Debian's package zookeeper has the server.
const jar = "/usr/share/java/zookeeper.jar"

// session is short, so that losing one takes little time, and long enough for a loaded machine: the library breaks a
// connection on which it heard nothing for two thirds of it.
const session = 4 * time.Second

// shared is the ZooKeeper of all tests, which starts with the first that asks for it: a Java program takes long to.
var shared struct {
	sync.Mutex
	address string
	stop    func()
}

// server is the address of Debian's ZooKeeper, in a process of its own.
func server(t *testing.T) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.address == "" {
		shared.address, shared.stop = startServer(t)
	}
	return shared.address
}

func startServer(t *testing.T) (address string, stop func()) {
	t.Helper()
	java, err := exec.LookPath("java")
	if _, missing := os.Stat(jar); err != nil || missing != nil {
		t.Fatal("there is no ZooKeeper to test with: run `make bootstrap-test`, or install Debian's package zookeeper")
	}
	for range 5 { // somebody else may take a port that was free
		dir, err := os.MkdirTemp("", "zookeeper")
		if err != nil {
			t.Fatal(err)
		}
		address := freeAddress(t)
		host, port, _ := net.SplitHostPort(address)
		file := filepath.Join(dir, "zoo.cfg")
		text := fmt.Sprintf("tickTime=250\ndataDir=%s/data\nclientPortAddress=%s\nclientPort=%s\nadmin.enableServer=false\nmaxClientCnxns=0\n", dir, host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		cmd := exec.Command(java, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
			"-cp", jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", file)
		cmd.Stdout, cmd.Stderr = &log, &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is cut off leaves nothing behind
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		stop := func() {
			_ = cmd.Process.Kill()
			<-ended
			_ = os.RemoveAll(dir)
		}
		if answers(t, address, ended) {
			return address, stop
		}
		stop()
		t.Logf("ZooKeeper did not start:\n%s", log.String())
	}
	t.Fatal("ZooKeeper does not start")
	return "", nil
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// answers waits until a server does; it is asked through a source, which does not wait long for one that has just begun
// to listen and forgets who connected.
func answers(t *testing.T, address string, ended <-chan struct{}) bool {
	t.Helper()
	s, err := zookeeper.New(zookeeper.Config{Servers: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		if _, err := s.List(ctx, "test"); err == nil {
			return true
		}
	}
	return false
}

func newSource(t *testing.T, address, prefix string) *zookeeper.Source {
	t.Helper()
	s, err := zookeeper.New(zookeeper.Config{Servers: []string{address}, Prefix: prefix, Session: session})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestDebiansZooKeeperKeepsTheContract(t *testing.T) {
	t.Parallel()
	address := server(t)
	direct, _, err := zk.Connect([]string{address}, time.Minute, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	var parts atomic.Int64
	t.Run("", func(t *testing.T) {
		sourcetest.Contract(t, func(t *testing.T) *sourcetest.Subject {
			return subject(t, address, writer{direct, source.Layout{Prefix: fmt.Sprintf("/octo/test-%d", parts.Add(1))}})
		})
	})
}

// writer changes the tree past the source, as a foreign program would.
type writer struct {
	conn   *zk.Conn
	layout source.Layout
}

var versions atomic.Int64

// set replaces all nodes of an instance by one, or by none, in one transaction.
func (w writer) set(t *testing.T, key source.Key, instance string, data []byte) {
	t.Helper()
	path := w.layout.Instance(key, instance)
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if _, err := w.conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				t.Fatal(err)
			}
		}
	}
	target := w.layout.Target(key)
	names, _, err := w.conn.Children(target)
	if err != nil {
		t.Fatal(err)
	}
	var ops []any
	for _, name := range names {
		if strings.HasPrefix(target+"/"+name, path+"~") {
			ops = append(ops, &zk.DeleteRequest{Path: target + "/" + name, Version: -1})
		}
	}
	if data != nil {
		ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("%s~%d", path, versions.Add(1)), Data: data, Acl: zk.WorldACL(zk.PermAll)})
	}
	if _, err := w.conn.Multi(ops...); err != nil {
		t.Fatal(err)
	}
}

func subject(t *testing.T, address string, w writer) *sourcetest.Subject {
	way := sourcetest.NewLink(t, address)
	s := newSource(t, way.Address, w.layout.Prefix)
	return &sourcetest.Subject{
		Source: s,
		Put: func(t *testing.T, key source.Key, e *resourcev1.Endpoint) {
			value, err := source.Encode(key, e)
			if err != nil {
				t.Fatal(err)
			}
			w.set(t, key, e.GetInstance(), value)
		},
		Remove:  func(t *testing.T, key source.Key, instance string) { w.set(t, key, instance, nil) },
		Removed: source.Unknown,
		Spoil: func(t *testing.T, key source.Key, instance string) {
			w.set(t, key, instance, []byte("{nonsense"))
		},
		Cut:  func(*testing.T) { way.Cut() },
		Heal: func(*testing.T) { way.Heal() },
		Forget: func(t *testing.T) { // the session ends, and its watches with it
			waitForSessionEnd(t, address)
		},
		Registrar: func(t *testing.T) (source.Registrar, func()) {
			way := sourcetest.NewLink(t, address)
			return newSource(t, way.Address, w.layout.Prefix), way.Cut
		},
		Deregistered: source.Unknown, Expired: source.Unknown,
	}
}

// waitForSessionEnd returns when a session that was cut off now is surely over: another one that begins now and is cut
// off as well has ended.
func waitForSessionEnd(t *testing.T, address string) {
	t.Helper()
	way := sourcetest.NewLink(t, address)
	witness, events, err := zk.Connect([]string{way.Address}, session, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	defer witness.Close()
	for e := range events {
		if e.State == zk.StateHasSession {
			break
		}
	}
	path := fmt.Sprintf("/witness-%d", versions.Add(1))
	if _, err := witness.Create(path, nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	direct, _, err := zk.Connect([]string{address}, time.Minute, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	_, _, gone, err := direct.ExistsW(path)
	if err != nil {
		t.Fatal(err)
	}
	way.Cut()
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("a session that is cut off does not end")
	}
}
