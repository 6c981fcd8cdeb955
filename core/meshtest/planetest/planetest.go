// Package planetest runs a control plane, and proxies that follow it, as the processes that operators start: `octo up`, or
// roles apart on a cluster of three etcd members. Tests kill, pause and restart them by their own process ids.
package planetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/meshtest/loopback"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Environment is that of all proxies here.
const Environment = "test"

// module is that of the programs.
const module = "github.com/octomesh/octomesh"

// Programs are the binaries.
type Programs struct{ Octo, OctoProxy string }

// Build builds the programs into dir. Call it in TestMain.
func Build(dir string) (Programs, error) {
	p := Programs{filepath.Join(dir, "octo"), filepath.Join(dir, "octo-proxy")}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output() // a test may be of another module
	if err != nil {
		return p, err
	}
	for path, of := range map[string]string{p.Octo: "octo", p.OctoProxy: "octo-proxy"} {
		build := exec.Command("go", "build", "-o", path, module+"/core/cmd/"+of)
		build.Dir = strings.TrimSpace(string(root))
		out, err := build.CombinedOutput()
		if err != nil {
			return p, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return p, nil
}

// Role is a process that has roles of the control plane.
type Role struct {
	*Process
	// Address is where it listens. It stays when the process is started again.
	Address string
	// Metrics is its HTTP address.
	Metrics string
}

// Plane is a control plane.
type Plane struct {
	// Etcd are the members of the cluster; none with `octo up`.
	Etcd []*Process
	// Configs, Dispatchers and Pilots are who has these roles. With `octo up` it is one and the same.
	Configs, Dispatchers, Pilots []*Role
	// Store are the endpoints of etcd for clients.
	Store []string

	t        testing.TB
	programs Programs
	client   *clientv3.Client
}

// Up starts `octo up` with more flags, and returns when it is ready.
func (p Programs) Up(t testing.TB, flags ...string) *Plane {
	t.Helper()
	dir := Dir(t)
	r := p.role(t, "octo", append([]string{"up", "--data", filepath.Join(dir, "data"), "--log", "info"}, flags...))
	return &Plane{
		Configs: []*Role{r}, Dispatchers: []*Role{r}, Pilots: []*Role{r}, Store: []string{"unix://" + filepath.Join(dir, "data", "etcd.sock")},
		t: t, programs: p,
	}
}

// Cluster starts three etcd members, and two processes of each role, and returns when all are ready.
func (p Programs) Cluster(t testing.TB, flags ...string) *Plane {
	t.Helper()
	all := &Plane{t: t, programs: p}
	all.Etcd, all.Store = startEtcd(t)
	for _, role := range []struct {
		name string
		all  *[]*Role
	}{{"config", &all.Configs}, {"dispatcher", &all.Dispatchers}, {"pilot", &all.Pilots}} {
		for i := range 2 {
			*role.all = append(*role.all, p.role(t, fmt.Sprintf("%s-%d", role.name, i+1), append([]string{
				"control", "--roles", role.name, "--etcd", strings.Join(all.Store, ","), "--name", fmt.Sprint(i + 1),
			}, flags...)))
		}
	}
	return all
}

// Add starts another process of the cluster with a role, and returns when it is ready.
func (p *Plane) Add(t testing.TB, role string, flags ...string) *Role {
	t.Helper()
	return p.programs.role(t, role, append([]string{"control", "--roles", role, "--etcd", strings.Join(p.Store, ","), "--name", role}, flags...))
}

// role starts a process of the control plane on free ports, and keeps them for its restarts.
func (p Programs) role(t testing.TB, name string, args []string) *Role {
	t.Helper()
	r := &Role{Address: loopback.Free(t), Metrics: loopback.Free(t)}
	r.Process = Start(t, name, p.Octo, append(args, "--listen", r.Address, "--metrics", r.Metrics)...)
	r.AwaitLog(`"msg":"ready"`)
	return r
}

// Restart starts a role again that has ended, where it was, and returns when it is ready.
func (r *Role) Restart() {
	r.t.Helper()
	r.Process.Restart()
	r.AwaitLog(`"msg":"ready"`)
}

// Client is a client of the plane's etcd, until the test ends.
func (p *Plane) Client() *clientv3.Client {
	p.t.Helper()
	if p.client != nil {
		return p.client
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: p.Store, DialTimeout: 3 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	p.client = c
	return c
}

// Put puts an instance with a mesh address into the plane's registry, without a lease. It tries again while etcd elects a
// leader.
func (p *Plane) Put(target, instance, meshAddress string) {
	p.t.Helper()
	p.PutEndpoint(&resourcev1.Endpoint{Target: target, Instance: instance, MeshAddress: meshAddress})
}

// PutEndpoint is Put for any endpoint.
func (p *Plane) PutEndpoint(e *resourcev1.Endpoint) {
	p.t.Helper()
	value, err := source.Encode(source.Key{Environment: Environment, Target: e.GetTarget()}, e)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("the registration of "+e.GetInstance(), clientv3.OpPut(key(e.GetTarget(), e.GetInstance()), string(value)))
}

// Remove takes an instance out of the registry, and says that it left on purpose.
func (p *Plane) Remove(target, instance string) {
	p.t.Helper()
	p.write("the farewell of "+instance, clientv3.OpPut(key(target, instance), ""))
	p.write("the end of "+instance, clientv3.OpDelete(key(target, instance)))
}

func (p *Plane) write(what string, op clientv3.Op) {
	p.t.Helper()
	c := p.Client()
	Await(p.t, what, func() error {
		ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
		defer cancel()
		_, err := c.Do(ctx, op)
		return err
	})
}

func key(target, instance string) string {
	return source.Layout{Prefix: "/octo/registry"}.Instance(source.Key{Environment: Environment, Target: target}, instance)
}

// Octo runs a command of an operator's at a Config Server, and returns what it wrote.
func (p *Plane) Octo(server *Role, input string, args ...string) (output string, err error) {
	cmd := exec.Command(p.programs.Octo, args...)
	cmd.Env = append(os.Environ(), "OCTO_CONTROL="+server.Address, "OCTO_ENVIRONMENT="+Environment, "USER=tester")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// PilotAddresses are where the Pilots listen.
func (p *Plane) PilotAddresses() []string {
	var all []string
	for _, r := range p.Pilots {
		all = append(all, r.Address)
	}
	return all
}

// startEtcd starts three members of one cluster.
func startEtcd(t testing.TB) (members []*Process, endpoints []string) {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("there is no etcd to test with: run `make bootstrap-test`, or install Debian's package etcd-server")
	}
	var peers, cluster []string
	for i := range 3 {
		peers = append(peers, "http://"+loopback.Free(t))
		endpoints = append(endpoints, loopback.Free(t))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i+1, peers[i]))
	}
	dir := Dir(t)
	for i := range 3 {
		name, client := fmt.Sprintf("m%d", i+1), "http://"+endpoints[i]
		members = append(members, Start(t, "etcd-"+name, program, "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--unsafe-no-fsync"))
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 3 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	Await(t, "an answer of etcd", func() error { _, err := c.Get(t.Context(), "x"); return err })
	return members, endpoints
}

// Dir is a directory with a short name, for sockets, until the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Long is how long something may take that must come.
const Long = 60 * time.Second

// Await asks again and again until there is no error.
func Await(t testing.TB, what string, ask func() error) {
	t.Helper()
	err := errors.New("not asked")
	for late := time.Now().Add(Long); err != nil; time.Sleep(5 * time.Millisecond) {
		if err = ask(); err != nil && time.Now().After(late) {
			t.Fatalf("%s did not come: %v", what, err)
		}
	}
}
