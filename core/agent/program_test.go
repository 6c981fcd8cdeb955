package agent_test

import (
	"maps"
	"strings"
	"testing"
)

// A host has a gateway and two proxies: neither's binary is put under the other.
func TestUpgradePutsNoProgramUnderAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "gate", "one", "two")
	h.write("gate.yaml", "environment: test\ninstance: gate\nadmin_socket: gate.adm\nresources_file: gate.r.yaml\ndrain_deadline: 5s\ngrpc: {application: outside, address: \"127.0.0.1:0\"}\n")
	h.write("agent.yaml", strings.Replace(readText(t, h.path("agent.yaml")), "{name: gate,", "{name: gate, binary: "+octoGateway+",", 1))
	h.run()
	before := h.pids()
	for args, want := range map[string]string{
		"--all --binary " + octoProxy:      "is octo-proxy, but gate runs octo-gateway (" + octoGateway + "); nothing was begun: name those it is for, one two",
		"--binary " + octoGateway + " one": "is octo-gateway, but one runs octo-proxy (" + octoProxy + "); nothing was begun\n",
	} {
		if code, out, errs := h.octo(append([]string{"upgrade"}, strings.Fields(args)...)...); code != 3 || !strings.Contains(errs, want) {
			t.Errorf("upgrade %s: %d\n%s%s", args, code, out, errs)
		}
	}
	if !maps.Equal(h.pids(), before) {
		t.Errorf("%v ran, %v run", before, h.pids())
	}
	for _, args := range []string{"--binary " + octoProxy + " two one", "--binary " + octoGateway + " gate", "--all"} {
		if out := h.must(append([]string{"upgrade"}, strings.Fields(args)...)...); !strings.Contains(out, " upgraded") {
			t.Errorf("upgrade %s:\n%s", args, out)
		}
	}
}
