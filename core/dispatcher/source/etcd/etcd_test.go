package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/etcd"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// embedded starts the etcd that `octo up` has, and returns its address.
func embedded(t *testing.T) string {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = t.TempDir()
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.AdvertiseClientUrls = free, free
	c.ListenPeerUrls, c.AdvertisePeerUrls = free, free
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.UnsafeNoFsync = true
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("the embedded etcd does not start")
	}
	return e.Clients[0].Addr().String()
}

// debian starts the etcd of the distribution, another version than ours, in a process of its own.
func debian(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("there is no etcd to test with: run `make bootstrap-test`, or install Debian's package etcd-server")
	}
	for range 5 { // somebody else may take a port that was free
		client, peer := "http://"+freeAddress(t), "http://"+freeAddress(t)
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "--data-dir", t.TempDir(), "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended; _ = log.Close() })
		if answers(t, client, ended) {
			return strings.TrimPrefix(client, "http://")
		}
		text, _ := os.ReadFile(log.Name())
		t.Logf("etcd did not start:\n%s", text)
	}
	t.Fatal("etcd does not start")
	return ""
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

func answers(t *testing.T, address string, ended <-chan struct{}) bool {
	c := connect(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		if _, err := c.Get(ctx, "x"); err == nil {
			return true
		}
	}
	return false
}

func connect(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newSource(t *testing.T, c etcd.Config) *etcd.Source {
	t.Helper()
	s, err := etcd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestEmbeddedEtcdKeepsTheContract(t *testing.T) {
	t.Parallel()
	contract(t, embedded(t))
}

func TestDebiansEtcdKeepsTheContract(t *testing.T) {
	t.Parallel()
	contract(t, debian(t))
}

func contract(t *testing.T, address string) {
	var parts atomic.Int64
	direct := connect(t, address)
	t.Run("", func(t *testing.T) {
		sourcetest.Contract(t, func(t *testing.T) *sourcetest.Subject { return subject(t, address, direct, parts.Add(1)) })
	})
}

func subject(t *testing.T, address string, direct *clientv3.Client, part int64) *sourcetest.Subject {
	prefix := fmt.Sprintf("/octo/test-%d", part)
	layout := source.Layout{Prefix: prefix}
	way := sourcetest.NewLink(t, address)
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(t *testing.T, key source.Key, instance, value string) {
		t.Helper()
		_, err := direct.Put(t.Context(), layout.Instance(key, instance), value)
		must(t, err)
	}
	return &sourcetest.Subject{
		Source: newSource(t, etcd.Config{Endpoints: []string{way.Address}, Prefix: prefix}),
		Put: func(t *testing.T, key source.Key, e *resourcev1.Endpoint) {
			value, err := source.Encode(key, e)
			must(t, err)
			put(t, key, e.GetInstance(), string(value))
		},
		Remove: func(t *testing.T, key source.Key, instance string) {
			_, err := direct.Delete(t.Context(), layout.Instance(key, instance))
			must(t, err)
		},
		Removed: source.Deregistered,
		Spoil:   func(t *testing.T, key source.Key, instance string) { put(t, key, instance, "{nonsense") },
		Cut:     func(*testing.T) { way.Cut() },
		Heal:    func(*testing.T) { way.Heal() },
		Forget: func(t *testing.T) { // other cases compact too, which theirs must bear
			r, err := direct.Put(t.Context(), prefix+"-other", "x")
			must(t, err)
			_, err = direct.Compact(t.Context(), r.Header.Revision)
			if err != nil && !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "compacted") {
				t.Fatal(err)
			}
		},
		Registrar: func(t *testing.T) (source.Registrar, func()) {
			s := newSource(t, etcd.Config{Endpoints: []string{address}, Prefix: prefix})
			return s, func() { _ = s.Close() }
		},
		Deregistered: source.Deregistered, Expired: source.Expired,
	}
}
