package ingest_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// alone is set in the process that the test has for itself.
const alone = "OCTO_TEST_ALONE"

// TestWhatNobodyFollowsCostsItsBytes has an environment of 20,000 targets of which one is followed, and bounds what each
// resource costs beside its own bytes.
func TestWhatNobodyFollowsCostsItsBytes(t *testing.T) {
	if os.Getenv(alone) == "" { // what other tests have left goes away whenever it likes
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const targets, perTarget = 20_000, 3
	s := &saying{say: make(chan *configv1.WatchResponse)}
	w := startWith(t, ingest.Config{Linger: 1 << 40, Patience: 1 << 40, ConfigServers: []grpc.ClientConnInterface{s.serve(t)}})
	f := w.watch("p1")
	f.Subscribe(topic(resource.KindServicePolicy, "t7"), nil)
	before := heap()
	s.say <- &configv1.WatchResponse{Begin: true}
	for i := 0; i < targets; i += 100 {
		r := &configv1.WatchResponse{}
		for j := i; j < i+100; j++ {
			target := fmt.Sprintf("t%d", j)
			p := policy(target, uint32(j+1))
			p.Policies[0].Routes = []*resourcev1.Route{{Name: "canary", Match: &resourcev1.Match{Caller: "web"}, Destinations: []*resourcev1.Destination{{Subset: map[string]string{"version": "2"}}}}}
			r.Versions = append(r.Versions,
				&configv1.Version{Name: "policy/" + target, Resource: p},
				&configv1.Version{Name: "auth/" + target, Resource: &resourcev1.Configuration{AuthPolicies: []*resourcev1.AuthPolicy{{Target: target, DryRun: true}}}},
				&configv1.Version{Name: "switch/," + target, Resource: &resourcev1.Configuration{MeshSwitches: []*resourcev1.MeshSwitch{{Target: target, Permille: 7}}}})
		}
		s.say <- r
	}
	s.say <- &configv1.WatchResponse{Complete: true}
	f.await(map[string]string{"ServicePolicy prod/t7": "routes:\n  - name: canary\n    match:\n      caller: web\n    destinations:\n      - subset:\n          version: \"2\"\nlimits:\n  max_open_calls: 8\n"})
	each := (heap() - before) / (targets * perTarget)
	t.Logf("%d targets with 3 resources: %d bytes of the heap for each resource", targets, each)
	if each > 500 || each < 50 { // its own bytes are more than 50: else something else has gone meanwhile
		t.Errorf("a resource that nobody follows costs %d bytes", each)
	}
	runtime.KeepAlive(w)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
