package meshtest_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
)

// talkThrough runs a conversation through two proxies and checks that it leaves nothing behind.
func talkThrough(t testing.TB, script []byte) {
	w := newWorld(t, true)
	near, far := w.proxy("near"), w.proxy("far")
	w.add("thing", far.Address)
	talk := meshtest.Talk{Target: "thing", Dial: func(role wire.Role, limits wire.Limits, on func(*meshtest.Raw, *wire.Event)) (*meshtest.Raw, error) {
		at, h := near.Socket, wire.Hello{Role: role, Kind: wire.PeerSDK, Environment: meshtest.Environment, Application: "talk"}
		if role == wire.RoleServe {
			at, h.Targets = far.Socket, []string{"thing"}
		}
		return meshtest.Dial("unix", at, h, limits, on)
	}}
	if err := talk.Run(script); err != nil {
		t.Errorf("script %x: %v", script, err)
	}
	t.Log(talk.Outcomes())
	for _, p := range []*meshtest.Proxy{near, far} {
		eventually(t, "the end of all calls", func() bool { return len(p.OpenCalls()) == 0 })
		for e := range p.Store().Current().Table.Endpoints() {
			eventually(t, "an endpoint without open calls", func() bool { return e.Open.Load() == 0 })
		}
		for target := range p.Store().Current().Table.Targets() {
			eventually(t, "a target without open calls", func() bool { return target.Open() == 0 })
		}
		for target := range p.InboundTargets {
			eventually(t, "an inbound target without open calls", func() bool { return target.Open() == 0 })
		}
		if n := p.Sessions()["upstream"]; n > 1 {
			t.Errorf("%d connections to one peer", n)
		}
	}
	near.Close()
	far.Close()
}

func randomScript(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	script := make([]byte, 0, n)
	for len(script) < n {
		script = binary.LittleEndian.AppendUint64(script, rnd.Uint64())
	}
	return script
}

func TestRandomConversations(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		talkThrough(t, randomScript(seed, 250))
	}
}

func FuzzProxyConversation(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(randomScript(seed, 64))
	}
	f.Fuzz(func(t *testing.T, script []byte) { talkThrough(t, script[:min(len(script), 2000)]) })
}
