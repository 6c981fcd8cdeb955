package identity_test

import (
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

func TestAnIDSaysWhichRolesItsProcessMayHave(t *testing.T) {
	for name, roles := range map[string]string{
		"control/pilot-1": "pilot", "control/config.dispatcher-a-b": "config dispatcher", "control/all-1": "pilot config dispatcher directory",
		"control/pilot": "", "control/pilot-": "", "control/pilots-1": "", "proxy/pilot-1": "", "control": "", "control/-1": "", "control/all": "",
	} {
		id := identity.ID{TrustDomain: "example.org", Environment: "prod", Name: name}
		for _, role := range []string{"pilot", "config", "dispatcher", "directory"} {
			err := identity.MayBe(id, role)
			if may := strings.Contains(roles, role); may != (err == nil) {
				t.Errorf("%s as %s: %v", name, role, err)
			}
			if err != nil && !strings.Contains(err.Error(), "spiffe://example.org/prod/control/"+role+"-NAME") {
				t.Error(err)
			}
		}
	}
}

func TestARoleIsOfTheOwnEnvironment(t *testing.T) {
	own := load(t, identitytest.New(t).Files(t.TempDir(), "spiffe://example.org/prod/proxy/a"))
	expect := own.HasRole("pilot")
	for id, ok := range map[string]bool{
		"spiffe://example.org/prod/control/pilot-1": true, "spiffe://example.org/test/control/pilot-1": false,
		"spiffe://example.com/prod/control/pilot-1": false, "spiffe://example.org/prod/control/config-1": false, "spiffe://example.org/prod/proxy/b": false,
	} {
		peer, err := identity.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := expect(peer); ok != (err == nil) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestAProxySpeaksForItselfAlone(t *testing.T) {
	id := identity.ID{TrustDomain: "example.org", Environment: "prod", Name: "proxy/web-1"}
	for _, c := range []struct {
		environment, instance string
		ok                    bool
	}{{"prod", "web-1", true}, {"test", "web-1", false}, {"prod", "web-2", false}, {"prod", "", false}} {
		if err := identity.SpeaksFor(id, c.environment, c.instance); c.ok != (err == nil) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := identity.SpeaksFor(identity.ID{TrustDomain: "example.org", Environment: "prod", Name: "app/web-1"}, "prod", "web-1"); err == nil {
		t.Error("an application speaks for a proxy")
	}
}
