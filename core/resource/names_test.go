package resource_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/resource"
)

func TestDerivedTopicsHaveNames(t *testing.T) {
	for k := resource.Kinds; k < resource.AllKinds; k++ {
		if got, ok := resource.DerivedKindOf(k.TypeURL()); !ok || got != k || !k.Derived() {
			t.Error(k, got, ok)
		}
		if _, ok := resource.KindOf(k.TypeURL()); ok {
			t.Errorf("%v is one of ours", k)
		}
		one, other := resource.DerivedTopic(k, "prod", "shop/cart?v=1", ""), resource.DerivedTopic(k, "prod", "shop/cart?v=1", "z")
		if name, variant := other.Parts(); one == other || name != "shop/cart?v=1" || variant != "z" {
			t.Error(k, name, variant)
		}
		if one.Name() != "shop/cart?v=1" || other.FullName("") != one.Name() || other.FullName("x") != "x" {
			t.Error(one.Name(), other.FullName(""), other.FullName("x"))
		}
	}
	if resource.KindLoadAssignment.String() != "ClusterLoadAssignment" || resource.KindEndpoint.String() != "Endpoint" {
		t.Error(resource.KindLoadAssignment, resource.KindEndpoint)
	}
	if resource.IsDerivedName("") || resource.IsDerivedName("a\x00b") || !resource.IsDerivedName("a?b=%00") {
		t.Error("names")
	}
}

func TestTopicsHaveNames(t *testing.T) {
	stock := resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "shop.stock"}
	policy := resource.Topic{Kind: resource.KindServicePolicy, Environment: "prod", Target: "shop.stock"}
	switches := resource.Topic{Kind: resource.KindMeshSwitch, Environment: "prod", Target: "shop.stock"}
	if full := switches.FullName(resource.EveryApplication); full == switches.Name() {
		t.Errorf("%q is a switch, and all of them", full)
	} else if name, ok := switches.LocalName(full); !ok || name != resource.EveryApplication {
		t.Errorf("%q is the name of %q", full, name)
	}
	slashed := resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "shop/stock:v1"}
	for _, topic := range []resource.Topic{stock, policy, switches, slashed} {
		if k, ok := resource.KindOf(topic.Kind.TypeURL()); !ok || k != topic.Kind {
			t.Error(topic.Kind, k, ok)
		}
		if got, err := resource.TopicOf(topic.Kind, topic.FullName("x/1")); err != nil || got != topic {
			t.Error(topic, got, err)
		}
		if got, err := resource.ParseTopic(topic.Kind, topic.Name()); err != nil || got != topic {
			t.Errorf("%q: %v, %v", topic.Name(), got, err)
		}
		if name, ok := topic.LocalName(topic.FullName("x/1")); !ok || topic.Kind == resource.KindEndpoint && name != "x/1" {
			t.Error(topic, name, ok)
		}
		if _, ok := topic.LocalName("prod/shop.stocking/x"); ok {
			t.Error("another target's resource")
		}
	}
	for _, name := range []string{"", "/", "prod", "prod/", "/x", "prod/a/b/*", "prod/a", "*", "prod/*"} {
		if topic, err := resource.ParseTopic(resource.KindEndpoint, name); err == nil {
			t.Errorf("%q: %v", name, topic)
		}
	}
}
