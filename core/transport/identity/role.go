package identity

import (
	"fmt"
	"slices"
	"strings"
)

// Names of ids begin with what they are of.
const (
	// ProxyPrefix is of proxies: "proxy/<instance>".
	ProxyPrefix = "proxy/"
	// AppPrefix is of applications: "app/<application>".
	AppPrefix = "app/"
	// ControlPrefix is of processes of the control plane: "control/<roles>-<anything>", see [MayBe].
	ControlPrefix = "control/"
	// everyRole stands for all roles.
	everyRole = "all"
)

// MayBe tells whether an id may have a role of the control plane: nil, or why not. Its name is
// "control/<roles>-<anything>", with roles parted by dots, or "all" for every role: "control/pilot-1",
// "control/config.dispatcher-a", "control/all-1".
func MayBe(id ID, role string) error {
	name, ok := strings.CutPrefix(id.Name, ControlPrefix)
	roles, rest, dashed := strings.Cut(name, "-")
	if ok && dashed && rest != "" && (roles == everyRole || slices.Contains(strings.Split(roles, "."), role)) {
		return nil
	}
	return fmt.Errorf("octo: %s may not have the role %s of the control plane: its id would be spiffe://%s/%s/%s%s-NAME, or %s%s-NAME",
		id, role, id.TrustDomain, id.Environment, ControlPrefix, role, ControlPrefix, everyRole)
}

// HasRole lets in peers of the own trust domain and environment that may have a role of the control plane.
func (s *Source) HasRole(role string) Expect {
	return func(peer ID) error {
		if err := s.SameEnvironment(peer); err != nil {
			return err
		}
		return MayBe(peer, role)
	}
}

// SpeaksFor tells whether an id is that of a proxy's instance in an environment: nil, or why not.
func SpeaksFor(id ID, environment, instance string) error {
	if id.Environment != environment || id.Name != ProxyPrefix+instance {
		return fmt.Errorf("octo: %s is not the proxy %q of environment %q: its id would be spiffe://%s/%s/%s%s",
			id, instance, environment, id.TrustDomain, environment, ProxyPrefix, instance)
	}
	return nil
}

// ApplicationOf is the application of an environment that an id is of.
func ApplicationOf(id ID, environment string) (string, error) {
	name, ok := strings.CutPrefix(id.Name, AppPrefix)
	if !ok || name == "" || id.Environment != environment {
		return "", fmt.Errorf("octo: %s is no application of environment %q: its id would be spiffe://%s/%s/%sNAME",
			id, environment, id.TrustDomain, environment, AppPrefix)
	}
	return name, nil
}
