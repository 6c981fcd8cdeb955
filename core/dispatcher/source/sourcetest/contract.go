package sourcetest

import (
	"fmt"
	"testing"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Subject is an adapter on its registry, and what the contract test needs beside it. The functions report what fails
// to the test by themselves; a nil one says that the registry cannot do it, and the cases that need it do not run.
type Subject struct {
	// Source is what is tested.
	Source source.Source
	// Put sets an endpoint in the registry, past the source. It need not wait until the source can see it.
	Put func(t *testing.T, key source.Key, e *resourcev1.Endpoint)
	// Remove deletes an instance on purpose, past the source.
	Remove func(t *testing.T, key source.Key, instance string)
	// Removed is the reason that Remove leads to.
	Removed source.Reason
	// Spoil puts something in the place of an instance that is no endpoint.
	Spoil func(t *testing.T, key source.Key, instance string)
	// Cut keeps the source from the registry; Put and Remove still reach it. Heal ends it.
	Cut, Heal func(t *testing.T)
	// Forget makes the registry forget, while it is cut, whatever a watch could go on from.
	Forget func(t *testing.T)
	// Registrar is another client of the registry; nil: one cannot register. Crash makes it die without a word.
	Registrar func(t *testing.T) (r source.Registrar, crash func())
	// Deregistered and Expired are the reasons that the end of a registration leads to.
	Deregistered, Expired source.Reason
}

// Contract holds an adapter to [source.Source]. fresh makes a subject on an empty part of a registry for each case;
// cases run in parallel.
func Contract(t *testing.T, fresh func(t *testing.T) *Subject) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *Subject)
		can  func(*Subject) bool
	}{
		{"FullSetThenChanges", fullSetThenChanges, nil},
		{"FirstSetHasAll", firstSetHasAll, nil},
		{"NoFinalStateIsLost", noFinalStateIsLost, nil},
		{"KeysAndEnvironmentsNeverMix", keysNeverMix, nil},
		{"ManyKeys", manyKeys, nil},
		{"CancelEndsPromptly", cancelEndsPromptly, nil},
		{"OddNames", oddNames, nil},
		{"UnusableEntry", unusableEntry, func(s *Subject) bool { return s.Spoil != nil }},
		{"Outage", func(t *testing.T, s *Subject) { outage(t, s, false) }, func(s *Subject) bool { return s.Cut != nil }},
		{"OutageWithLoss", func(t *testing.T, s *Subject) { outage(t, s, true) }, func(s *Subject) bool { return s.Forget != nil }},
		{"UnreachableAtFirst", unreachableAtFirst, func(s *Subject) bool { return s.Cut != nil }},
		{"List", list, func(s *Subject) bool { _, ok := s.Source.(source.Lister); return ok }},
		{"RegisterUpdateDeregister", registers, registrable},
		{"RegistrationIsTakenOver", takenOver, registrable},
		{"NewestIncarnationWins", newestWins, registrable},
		{"AbandonedIsAsExpired", abandoned, registrable},
		{"WhoeverRegisteredItIsRemoved", removed, registrable},
		{"ManyRegistrations", manyRegistrations, registrable},
		{"LeaseExpires", leaseExpires, registrable},
		{"UnsoundRegistrationIsRefused", unsoundRegistration, registrable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := fresh(t)
			if c.can != nil && !c.can(s) {
				return // the registry has nothing of the kind, which its subject says on purpose
			}
			c.run(t, s)
		})
	}
}

func registrable(s *Subject) bool { return s.Registrar != nil }

// Endpoint makes one that passes [source.CheckEndpoint]. version tells endpoints of one instance apart; it only grows.
func Endpoint(key source.Key, instance string, version int) *resourcev1.Endpoint {
	weight := uint32(version % 1000)
	return &resourcev1.Endpoint{
		Target: key.Target, Instance: instance, Incarnation: uint64(version), Weight: &weight,
		MeshAddress: fmt.Sprintf("127.0.0.1:%d", 1024+version%60000), Zone: "zone-1", Tags: map[string]string{"lane": "blue"},
	}
}
