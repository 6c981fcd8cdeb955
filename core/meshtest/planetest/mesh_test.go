package planetest_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"

	"github.com/octomesh/octomesh/core/meshtest/planetest"
	"github.com/octomesh/octomesh/core/wire"
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
	at := loopback.Free(t)
	p := programs.Up(t, "--directory", planetest.Environment+"="+at)
	proxy := programs.Proxy(t, "caller-1", p.PilotAddresses(), "")
	beside := func(node string) <-chan *directoryv1.MeshSwitch {
		return switches(t, asks(t, octomesh.WithSocket(proxy.Socket), "web", "web-"+node), "stock", node)
	}
	alone := func(node string) <-chan *directoryv1.MeshSwitch {
		return switches(t, asks(t, octomesh.WithDirect(at), "web", "web-"+node), "stock", node)
	}
	chosen, others := []<-chan *directoryv1.MeshSwitch{beside("n1"), alone("n1")}, []<-chan *directoryv1.MeshSwitch{beside("n2"), alone("n2")}
	set := func(line string) {
		t.Helper()
		if out, err := p.Octo(p.Configs[0], "", append(strings.Fields(line), "-m", "test", "--force")...); err != nil {
			t.Fatal(line, out, err)
		}
	}
	fastest := make(map[string]time.Duration) // of all changes: a busy machine may be late once
	wants := func(line string, onChosen, onOthers uint32) {
		t.Helper()
		begun := time.Now()
		set(line)
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
	set("mesh set web stock 300 --node n1")
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

// octo runs a command that must end with a code and write some texts.
func octo(t *testing.T, p *planetest.Plane, code int, line string, texts ...string) string {
	t.Helper()
	out, err := p.Octo(p.Configs[0], "", strings.Fields(line)...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Errorf("octo %s ended with %d, want %d:\n%s", line, got, code, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("octo %s does not say %q:\n%s", line, text, out)
		}
	}
	return out
}

// row is the line of a table that has all of some texts; empty: none has.
func row(table string, texts ...string) string {
lines:
	for line := range strings.Lines(table) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		return line
	}
	return ""
}

// TestNodesAreCheckedBeforeASwitch: who is where comes from real proxies and from the Directory, and who is not eligible is
// refused, and told why.
func TestNodesAreCheckedBeforeASwitch(t *testing.T) {
	t.Parallel()
	at := loopback.Free(t)
	p := programs.Up(t, "--directory", planetest.Environment+"="+at)
	proxy := programs.Proxy(t, "host-1", p.PilotAddresses(), "")
	watching := func(way octomesh.DialOption, node string, features ...string) {
		t.Helper()
		stream, err := asks(t, way, "web", "web-"+node).Watch(t.Context(), &directoryv1.WatchRequest{Target: "stock", Node: node, Features: features, Runtime: "go1.26.1"})
		if err == nil {
			_, err = stream.Receive()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	watching(octomesh.WithSocket(proxy.Socket), "n1", "switch", "fallback", "report")
	watching(octomesh.WithDirect(at), "n2", "switch", "fallback", "report")
	watching(octomesh.WithSocket(proxy.Socket), "n3", "switch")
	planetest.Await(t, "the nodes of web", func() error {
		out, err := p.Octo(p.Configs[0], "", "mesh", "nodes", "web")
		if row(out, "n1", "web-n1", "go 0.1.0", "go1.26.1", "fallback,report,switch", "stock", "host-1 0.1.0", "well") == "" ||
			row(out, "n2", "web-n2", "go 0.1.0", "go1.26.1", "none") == "" || row(out, "n3", "host-1") == "" {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
	out := octo(t, p, 4, "mesh set web stock 10 -m x", "2 of 3 processes are not eligible", "Nothing was written")
	if row(out, "n2", "web-n2", "it has no proxy", "start octo-proxy") == "" || row(out, "n3", "does not go direct when its proxy fails") == "" || row(out, "n1") != "" {
		t.Errorf("it says\n%s", out)
	}
	octo(t, p, 5, "mesh get web", "no switch is set for web")
	octo(t, p, 4, "mesh set web stock 10 --dry-run", "1 of 3 processes are eligible", "nothing", "not written")
	octo(t, p, 0, "mesh set web stock 10 --node n1 --others 0 -m x", "1 of 1 processes are eligible")
	octo(t, p, 4, "mesh set web stock 20 --node n1,n9 -m x", "n9", "nobody has heard of web there", "OCTO_NODE")
	octo(t, p, 0, "mesh set web stock 10 --force -m it-must-be")
	octo(t, p, 0, "mesh history web stock", "mesh set, forced", "it-must-be")
	octo(t, p, 0, "mesh set web stock 5 -m less")       // fewer calls than before need no check
	octo(t, p, 4, "mesh set web stock 6 -m more-again") // more do
	octo(t, p, 0, "mesh off web stock -m out")
	octo(t, p, 5, "mesh set wbe stock 10 -m x", `nobody knows an application "wbe"`)
	octo(t, p, 5, "mesh set -e prod web stock 10 -m x", `"web" in environment prod`)
	octo(t, p, 2, "mesh set web stock 1001 -m x", "from 0")
	proxy.Kill() // whom it spoke for is not heard of any more
	planetest.Await(t, "the end of the nodes", func() error {
		out, err := p.Octo(p.Configs[0], "", "mesh", "nodes")
		if err != nil || row(out, "n1") != "" || row(out, "n3") != "" || row(out, "n2") == "" {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
	octo(t, p, 4, "mesh set web stock 10 --node n1 -m x", "nobody has heard of web there")
}

// report has an SDK say what it has measured.
func report(t *testing.T, way octomesh.DialOption, instance string, paths ...*directoryv1.PathReport) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), planetest.Long)
	defer cancel()
	res, err := asks(t, way, "web", instance).Report(ctx, &directoryv1.ReportRequest{
		Environment: planetest.Environment, Application: "web", Instance: instance, Incarnation: octomesh.ProcessIncarnation(), Paths: paths,
	})
	if err != nil || res.GetIntervalMs() == 0 {
		t.Fatal(res, err)
	}
}

func onPath(path directoryv1.PathReport_Path, calls, saved, failed uint64, bucket int) *directoryv1.PathReport {
	return &directoryv1.PathReport{
		Target: "stock", Path: path, Calls: calls, SavedByFallback: saved, LatencyBuckets: append(make([]uint64, bucket), calls),
		Errors: []*directoryv1.ErrorCount{{Code: int32(wire.Unavailable), Origin: int32(wire.OriginServerProxy), Count: failed}},
	}
}

// compared waits until a comparison has these rows.
func compared(t *testing.T, p *planetest.Plane, rows ...[]string) {
	t.Helper()
	planetest.Await(t, "the comparison", func() error {
		out, err := p.Octo(p.Configs[0], "", "mesh", "compare", "web", "stock")
		for _, want := range rows {
			got := row(out, want[0])
			if fields := strings.Join(strings.Fields(got), " "); fields != strings.Join(want, " ") {
				return fmt.Errorf("%v: want %q in\n%s", err, want, out)
			}
		}
		return nil
	})
}

const mesh, direct = directoryv1.PathReport_PATH_MESH, directoryv1.PathReport_PATH_DIRECT

// TestBothPathsAreComparedOverTheWholeFleet: what SDKs report beside proxies of either Pilot, and to either Directory, is in one sum,
// each call once.
func TestBothPathsAreComparedOverTheWholeFleet(t *testing.T) {
	t.Parallel()
	p := programs.Cluster(t)
	at := loopback.Free(t)
	p.Add(t, "directory", "--directory", planetest.Environment+"="+at)
	for i, r := range p.Pilots {
		proxy := programs.Proxy(t, fmt.Sprint("host-", i), []string{r.Address}, "")
		for n := range 3 {
			report(t, octomesh.WithSocket(proxy.Socket), fmt.Sprint("web-", i, "-", n), onPath(mesh, 100, 1, 2, 10), onPath(direct, 10, 0, 0, 9))
		}
		if err := proxy.Stop(); err != nil { // it says what it has when it leaves
			t.Error(err)
		}
	}
	report(t, octomesh.WithDirect(at), "alone", onPath(direct, 40, 0, 4, 12))
	compared(t, p, []string{"calls", "606", "100"}, []string{"failed", "18", "(2.970", "%)", "4", "(4.000", "%)"}, []string{"saved by fallback", "6", "0"},
		[]string{"UNAVAILABLE by SERVER_PROXY", "12", "4"}, []string{"p50 at most", "1.024ms", "512µs"}, []string{"p99 at most", "1.024ms", "4.096ms"})
	octo(t, p, 0, "mesh compare web stock -o json", `"tried": "606"`, `"saved_by_fallback": "6"`)
	octo(t, p, 0, "mesh compare web stock", "share in force: no switch is set", "UNAVAILABLE by SERVER_PROXY")
	octo(t, p, 5, "mesh compare web mail", "nobody has reported a call of web to mail")
	octo(t, p, 2, "mesh compare web stock --since 2h", "at most 1h")
	// A Pilot that does not answer is told to be missing, and what the others have is shown.
	p.Pilots[0].Pause()
	defer p.Pilots[0].Resume()
	octo(t, p, 1, "mesh compare web stock", "does not answer, and what it knows is missing", "calls")
}

// TestAProxyPassesReportsOn: at its Pilot's pace, while it runs.
func TestAProxyPassesReportsOn(t *testing.T) {
	t.Parallel()
	p := programs.Up(t)
	proxy := programs.Proxy(t, "host-1", p.PilotAddresses(), "")
	octo(t, p, 0, "mesh set web stock 300 --force -m x")
	report(t, octomesh.WithSocket(proxy.Socket), "a", onPath(mesh, 10, 0, 1, 3))
	report(t, octomesh.WithSocket(proxy.Socket), "a", onPath(mesh, 10, 0, 1, 3))
	compared(t, p, []string{"calls", "20", "0"}, []string{"share in force: 300", "of 1000 for web, nodes: all"})
}

// TestARealCallerIsSwitchedShownAndCompared: the Go SDK by itself, from its first call to the operator's table.
func TestARealCallerIsSwitchedShownAndCompared(t *testing.T) {
	t.Parallel()
	p := programs.Up(t)
	proxy := programs.Proxy(t, "host-1", p.PilotAddresses(), "")
	p.Put("stock", "stock-1", proxy.Inbound)
	proxy.Echo("stock")
	ch, err := octomesh.Dial("stock", octomesh.WithSocket(proxy.Socket), octomesh.WithApplication("web"), octomesh.WithInstance("web-1"),
		octomesh.WithEnvironment(planetest.Environment))
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	method := octomesh.Method{Service: "shop.v1.Stock", Name: "Get"}
	call := func() error {
		_, err := octomesh.CallUnary[directoryv1.WatchRequest, directoryv1.WatchRequest](t.Context(), ch, &method, &directoryv1.WatchRequest{Target: "x"}, nil)
		return err
	}
	planetest.Await(t, "the first call", call)
	planetest.Await(t, "the caller among the nodes", func() error {
		out, err := p.Octo(p.Configs[0], "", "mesh", "nodes", "web")
		if row(out, "web-1", "go 0.1.0", "go1.", "fallback,report,switch", "stock", "host-1", "well") == "" {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
	octo(t, p, 0, "mesh set web stock 1000 -m all-of-it", "1 of 1 processes are eligible")
	for range 200 {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	planetest.Await(t, "what was measured", func() error {
		out, err := p.Octo(p.Configs[0], "", "mesh", "compare", "web", "stock")
		var reported int
		if _, scan := fmt.Sscanf(row(out, "calls"), "calls %d", &reported); scan != nil || reported < 200 || row(out, "share in force: 1000 of 1000") == "" {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	})
}
