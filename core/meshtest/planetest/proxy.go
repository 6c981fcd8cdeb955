package planetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/wire"
)

// Proxy is an octo-proxy that follows Pilots.
type Proxy struct {
	*Process
	// Dir is where its sockets are, and what it keeps for its next start.
	Dir string
	// Socket is where its applications come in, Inbound where other proxies do.
	Socket, Inbound string
}

// Proxy starts one, with more lines of bootstrap, and returns when it is ready.
func (p Programs) Proxy(t testing.TB, instance string, pilots []string, more string) *Proxy {
	t.Helper()
	dir := Dir(t)
	text := fmt.Sprintf("environment: %s\ninstance: %s\noutbound_socket: o.sock\nadmin_socket: a.sock\ninbound_address: %s\ndrain_deadline: 5s\n"+
		"control: {pilots: [%q], directory: kept}\n%s", Environment, instance, loopback.Free(t), strings.Join(pilots, `", "`), more)
	text = strings.ReplaceAll(text, `\"`, `"`)
	config := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x := &Proxy{Dir: dir, Socket: filepath.Join(dir, "o.sock"), Process: Start(t, instance, p.OctoProxy, "--config", config)}
	x.await()
	return x
}

// Restart starts it again, where it was.
func (x *Proxy) Restart() {
	x.t.Helper()
	x.Process.Restart()
	x.await()
}

func (x *Proxy) await() {
	x.t.Helper()
	x.AwaitLog("octo-proxy runs")
	for line := range bytes.Lines(x.Written()) {
		var l struct{ Msg, Inbound string }
		if json.Unmarshal(line, &l) == nil && l.Msg == "octo-proxy runs" {
			x.Inbound = l.Inbound
		}
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(x.Dir, "a.sock"))
	}}}
	Await(x.t, x.Name+"'s readiness", func() error {
		r, err := c.Get("http://proxy/ready")
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
}

// Echo serves targets behind the proxy with echoes, until the test ends.
func (x *Proxy) Echo(targets ...string) {
	x.t.Helper()
	r, err := meshtest.Dial("unix", x.Socket, wire.Hello{
		Role: wire.RoleServe, Environment: Environment, Application: targets[0], Targets: targets,
	}, wire.Limits{}, meshtest.Echo)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { r.Close(); <-r.Done() })
}

// Caller connects to call through the proxy, until the test ends.
func (x *Proxy) Caller(application string) *meshtest.Caller {
	x.t.Helper()
	c, err := meshtest.DialCaller("unix", x.Socket, wire.Hello{Environment: Environment, Application: application})
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	return c
}

// Call calls a target, and returns why it failed.
func Call(c *meshtest.Caller, target string) error {
	got, err := c.Call(&wire.RequestHead{Target: []byte(target), Kind: wire.KindUnary}, []byte("x"))
	if err != nil {
		return err
	}
	a := <-got
	if a.Status.Code != wire.OK {
		return fmt.Errorf("%v", a.Status)
	}
	if string(a.Body) != "x" {
		return fmt.Errorf("it answered %q", a.Body)
	}
	return nil
}
