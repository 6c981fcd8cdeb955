package derive

import (
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// recipe says what a derived topic is made of, and how. It is pure.
type recipe struct {
	resource.Topic
	name, variant string
	ofList        bool              // it goes by a list of targets
	target        string            // of a name of one target
	subset        map[string]string // of a cluster
	sound         bool              // there may be something of the name
}

func recipeOf(t resource.Topic) recipe {
	r := recipe{Topic: t}
	r.name, r.variant = t.Parts()
	r.ofList = IsOfList(t.Kind, r.name)
	switch {
	case r.ofList:
	case t.Kind == resource.KindCluster || t.Kind == resource.KindLoadAssignment:
		r.target, r.subset, r.sound = parseCluster(r.name)
	default:
		r.target, r.sound = r.name, resource.IsName(r.name)
	}
	return r
}

// chooses tells whether there is something of the kind for a list of targets.
func (r *recipe) chooses() bool {
	return r.Kind == resource.KindCluster || r.Kind == resource.KindRouteConfiguration
}

func (r *recipe) key(target string) key { return key{r.Environment, target} }

// needs are the targets that it is made of, as far as can be said by what is known of them. Routes are made when it is
// known of all that they lead to whether it is there: so clusters are there before what leads to them.
func (r *recipe) needs(known map[key]*source) map[key]bool {
	var targets []string
	switch {
	case !r.ofList && r.sound:
		targets = []string{r.target}
	case r.ofList && r.chooses():
		targets = targetsOf(r.variant)
	}
	all := make(map[key]bool)
	for _, target := range targets {
		k := r.key(target)
		all[k] = true
		if s := known[k]; s != nil && s.known() && (r.ofList || r.Kind == resource.KindRouteConfiguration) {
			for _, d := range reached(target, s.policy) {
				all[r.key(d.target)] = true
			}
		}
	}
	return all
}

// make makes the resources, by name: the topic's only one is called "".
func (r *recipe) make(of map[key]*source) (map[string]proto.Message, error) {
	if r.ofList {
		return r.makeAll(of)
	}
	s := of[r.key(r.target)]
	if s == nil || !s.exists() {
		return nil, nil
	}
	var m proto.Message
	var err error
	switch r.Kind {
	case resource.KindCluster:
		m, err = cluster(r.name, s.policy)
	case resource.KindLoadAssignment:
		m = assignment(r.name, r.subset, r.variant, s.policy, s.instances)
	case resource.KindListener:
		m, err = listener(r.target)
	case resource.KindRouteConfiguration:
		m, err = routes(r.target, s.policy)
	}
	return map[string]proto.Message{"": m}, err
}

// makeAll makes what stands for all targets that a client lists: its clusters, and a route configuration that chooses among
// the targets. There are no listeners: whose client wants some, it has them in its own file.
func (r *recipe) makeAll(of map[key]*source) (map[string]proto.Message, error) {
	if !r.chooses() {
		return nil, nil
	}
	policies := make(map[string]*resourcev1.ServicePolicy)
	for _, target := range targetsOf(r.variant) {
		if s := of[r.key(target)]; s.exists() {
			policies[target] = s.policy
		}
	}
	out := make(map[string]proto.Message)
	switch r.Kind {
	case resource.KindRouteConfiguration:
		m, err := routesOfAll(r.name, policies)
		if err != nil {
			return nil, err
		}
		out[""] = m
	case resource.KindCluster:
		for target, p := range policies {
			for _, d := range reached(target, p) {
				if s := of[r.key(d.target)]; out[d.name] == nil && s.exists() {
					m, err := cluster(d.name, s.policy)
					if err != nil {
						return nil, err
					}
					out[d.name] = m
				}
			}
		}
	}
	return out, nil
}
