package configserver

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// The kinds of resources, as names begin.
const (
	KindApplication = "application"
	KindPolicy      = "policy"
	KindAuth        = "auth"
	KindSwitch      = "switch"
	KindInstance    = "instance"
	KindSchema      = "schema"
)

// Kinds are all of them.
var kinds = []string{KindApplication, KindPolicy, KindAuth, KindSwitch, KindInstance, KindSchema}

// item is one resource of a configuration.
type item struct {
	name  string // kind/name
	field string // where it stands, such as "policies[0]"
	one   *resourcev1.Configuration
}

// split takes a configuration apart, in the order of its fields.
func split(c *resourcev1.Configuration) []item {
	var out []item
	add := func(kind, name, list string, i int, one *resourcev1.Configuration) {
		out = append(out, item{kind + "/" + name, fmt.Sprintf("%s[%d]", list, i), one})
	}
	for i, a := range c.GetApplications() {
		add(KindApplication, a.GetName(), "applications", i, &resourcev1.Configuration{Applications: []*resourcev1.Application{a}})
	}
	for i, p := range c.GetPolicies() {
		add(KindPolicy, p.GetTarget(), "policies", i, &resourcev1.Configuration{Policies: []*resourcev1.ServicePolicy{p}})
	}
	for i, p := range c.GetAuthPolicies() {
		add(KindAuth, p.GetTarget(), "auth_policies", i, &resourcev1.Configuration{AuthPolicies: []*resourcev1.AuthPolicy{p}})
	}
	for i, s := range c.GetMeshSwitches() {
		add(KindSwitch, s.GetApplication()+","+s.GetTarget(), "mesh_switches", i,
			&resourcev1.Configuration{MeshSwitches: []*resourcev1.MeshSwitch{s}})
	}
	for i, o := range c.GetInstances() {
		add(KindInstance, o.GetTarget()+","+o.GetInstance(), "instances", i,
			&resourcev1.Configuration{Instances: []*resourcev1.InstanceOverride{o}})
	}
	for i, s := range c.GetSchemas() {
		add(KindSchema, s.GetTarget(), "schemas", i, &resourcev1.Configuration{Schemas: []*resourcev1.Schema{s}})
	}
	return out
}

// merge puts a resource into a configuration.
func merge(into, one *resourcev1.Configuration) {
	into.Applications = append(into.Applications, one.GetApplications()...)
	into.Policies = append(into.Policies, one.GetPolicies()...)
	into.AuthPolicies = append(into.AuthPolicies, one.GetAuthPolicies()...)
	into.MeshSwitches = append(into.MeshSwitches, one.GetMeshSwitches()...)
	into.Instances = append(into.Instances, one.GetInstances()...)
	into.Schemas = append(into.Schemas, one.GetSchemas()...)
}

// parseName takes a resource's name apart.
func parseName(name string) (kind, local string, err error) {
	kind, local, ok := strings.Cut(name, "/")
	switch {
	case !slices.Contains(kinds, kind):
		return "", "", fmt.Errorf("%q: a name begins with one of %s", name, strings.Join(kinds, ", "))
	case !ok || local == "":
		return "", "", fmt.Errorf("%q: want kind/name, such as policy/shop.cart", name)
	case kind == KindSwitch && !strings.Contains(local, ","):
		return "", "", fmt.Errorf("%q: want switch/APPLICATION,TARGET, or switch/,TARGET for every application's", name)
	case kind == KindInstance && !strings.Contains(local, ","):
		return "", "", fmt.Errorf("%q: want instance/TARGET,INSTANCE", name)
	}
	return kind, local, nil
}

// Keys in the store. Names may hold slashes, and prefixes must not meet names that begin alike, hence the escapes.
const (
	currentPrefix = "config/current/"
	historyPrefix = "config/history/"
)

// below is the part of a key that an environment's resources have in common, or those of a kind.
func below(environment, kind string) string {
	out := url.PathEscape(environment) + "/"
	if kind != "" {
		out += kind + "/"
	}
	return out
}

func keyOf(environment, name string) string {
	kind, local, _ := strings.Cut(name, "/")
	return below(environment, kind) + url.PathEscape(local)
}

func currentKey(environment, name string) string { return currentPrefix + keyOf(environment, name) }

// historyKey orders revisions of a resource as numbers.
func historyKey(environment, name string, revision uint64) string {
	return historyPrefix + keyOf(environment, name) + fmt.Sprintf("/%020d", revision)
}
