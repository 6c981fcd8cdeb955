package planetest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"

	"github.com/octomesh/octomesh/core/meshtest/planetest"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// soon is how late running SDKs may learn of a switch.
const soon = 2 * time.Second

// asks is an SDK that asks a Directory.
func asks(t *testing.T, way octomesh.DialOption, application, instance string) sdkdirectory.DirectoryClient {
	t.Helper()
	ch, err := octomesh.Dial("octo.directory", way, octomesh.WithApplication(application), octomesh.WithInstance(instance),
		octomesh.WithEnvironment(planetest.Environment))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return sdkdirectory.NewDirectoryClient(ch)
}

// switches is what one node's SDK is told of the switch of a target, as "permille@node" of each new word.
func switches(t *testing.T, c sdkdirectory.DirectoryClient, target, node string) <-chan *directoryv1.MeshSwitch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.Watch(ctx, &directoryv1.WatchRequest{Target: target, Node: node, Features: []string{"switch", "fallback", "report"}, Runtime: "go1.26"})
	if err != nil {
		t.Fatal(err)
	}
	told, over := make(chan *directoryv1.MeshSwitch, 1000), make(chan struct{})
	go func() {
		defer close(over)
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			told <- m.GetMeshSwitch()
		}
	}()
	t.Cleanup(func() { cancel(); <-over })
	return told
}

// heard waits until a switch has a share.
func heard(t *testing.T, who string, told <-chan *directoryv1.MeshSwitch, permille uint32) {
	t.Helper()
	late := time.After(planetest.Long)
	for {
		select {
		case s := <-told:
			if s != nil && s.GetPermille() == permille {
				return
			}
		case <-late:
			t.Fatalf("%s never heard of %d", who, permille)
		}
	}
}

// TestASwitchReachesRunningSDKs: with a proxy and without, on chosen nodes and on all, after a restart of everything too.
func TestASwitchReachesRunningSDKs(t *testing.T) {
	t.Parallel()
	at := planetest.Free(t)
	p := programs.Up(t, "--directory", planetest.Environment+"="+at)
	proxy := programs.Proxy(t, "caller-1", p.PilotAddresses(), "")
	beside := func(node string) <-chan *directoryv1.MeshSwitch {
		return switches(t, asks(t, octomesh.WithSocket(proxy.Socket), "web", "web-"+node), "stock", node)
	}
	alone := func(node string) <-chan *directoryv1.MeshSwitch {
		return switches(t, asks(t, octomesh.WithDirect(at), "web", "web-"+node), "stock", node)
	}
	chosen, others := []<-chan *directoryv1.MeshSwitch{beside("n1"), alone("n1")}, []<-chan *directoryv1.MeshSwitch{beside("n2"), alone("n2")}
	octo := func(line string) {
		t.Helper()
		if out, err := p.Octo(p.Configs[0], "", append(strings.Fields(line), "-m", "test", "--force")...); err != nil {
			t.Fatal(line, out, err)
		}
	}
	fastest := make(map[string]time.Duration) // of all changes: a busy machine may be late once
	wants := func(line string, onChosen, onOthers uint32) {
		t.Helper()
		begun := time.Now()
		octo(line)
		for i, where := range []string{"beside the proxy", "without a proxy"} {
			for _, of := range []struct {
				node string
				told <-chan *directoryv1.MeshSwitch
				want uint32
			}{{"n1", chosen[i], onChosen}, {"n2", others[i], onOthers}} {
				who := of.node + " " + where
				heard(t, who, of.told, of.want)
				took := time.Since(begun)
				if best, ok := fastest[who]; !ok || took < best {
					fastest[who] = took
				}
			}
		}
	}
	wants("mesh set web stock 10", 10, 10)
	wants("mesh set web stock 700 --node n1", 700, 10)
	wants("mesh set web stock 20", 700, 20)
	wants("mesh off web stock", 0, 0)
	for who, took := range fastest {
		if t.Logf("%s heard after %v", who, took); took > soon {
			t.Errorf("%s heard after %v at best", who, took)
		}
	}
	octo("mesh set web stock 300 --node n1")
	if out, err := p.Octo(p.Configs[0], "", "mesh", "get", "web", "stock"); err != nil || !strings.Contains(out, "300") {
		t.Fatal(out, err)
	}
	// What is set stands in the store: who comes after a restart is told the same.
	p.Configs[0].Kill()
	p.Configs[0].Restart()
	for node, want := range map[string]uint32{"n1": 300, "n2": 0} {
		heard(t, fmt.Sprint("a new SDK on ", node), alone(node), want)
		heard(t, fmt.Sprint("a new SDK beside the proxy on ", node), beside(node), want)
	}
}
