package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// registry is somebody's registry behind HTTP, as docs/guides/registry-adapter.md has it. It gives no reasons.
type registry struct {
	url    string
	server *http.Server

	mu      sync.Mutex
	answers map[string][]byte // by target
}

func newRegistry() (*registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{url: "http://" + l.Addr().String(), answers: make(map[string][]byte)}
	r.server = &http.Server{Handler: r}
	go func() { _ = r.server.Serve(l) }()
	return r, nil
}

func (r *registry) close() { _ = r.server.Close() }

// set replaces all endpoints.
func (r *registry) set(endpoints []*resourcev1.Endpoint) error {
	byTarget := make(map[string]*resourcev1.Snapshot)
	for _, e := range endpoints {
		if byTarget[e.Target] == nil {
			byTarget[e.Target] = &resourcev1.Snapshot{}
		}
		byTarget[e.Target].Endpoints = append(byTarget[e.Target].Endpoints, e)
	}
	answers := make(map[string][]byte)
	for target, s := range byTarget {
		b, err := protojson.Marshal(s)
		if err != nil {
			return err
		}
		answers[target] = b
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = answers
	return nil
}

// ServeHTTP implements http.Handler.
func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	b := r.answers[strings.TrimPrefix(q.URL.Path, "/"+environment+"/")]
	r.mu.Unlock()
	if b == nil {
		http.NotFound(w, q)
		return
	}
	_, _ = w.Write(b)
}

// churn changes the weights of endpoints by chance.
func (p *plane) churn(c *conformancev1.Churn, want *resourcev1.Snapshot, round uint64) error {
	if p.registry == nil || len(want.GetEndpoints()) == 0 {
		return errors.New("churn is for a registry of the scenario's, with endpoints")
	}
	dice := rand.New(rand.NewPCG(c.Seed+round, 0))
	for range c.Changes {
		e := want.Endpoints[dice.IntN(len(want.Endpoints))]
		e.Weight = proto.Uint32(1 + dice.Uint32N(1000))
		if err := p.setRegistry(want); err != nil {
			return err
		}
		time.Sleep(time.Duration(dice.IntN(100)) * time.Millisecond) // some changes are seen one by one, some together
	}
	return nil
}

// makeUp has the registry say that a target has instances that there are not.
func (p *plane) makeUp(c *conformancev1.MadeUp, want *resourcev1.Snapshot) error {
	if p.registry == nil || c.Instances == 0 || c.Bytes > maxTags*maxTag {
		return fmt.Errorf("what is made up is for a registry of the scenario's, and has instances, with at most %d bytes", maxTags*maxTag)
	}
	dice := rand.New(rand.NewPCG(c.Seed, 0))
	of := func(e *resourcev1.Endpoint) bool { return e.Target == c.Target }
	want.Endpoints = slices.DeleteFunc(want.Endpoints, of)
	made := make([]*resourcev1.Endpoint, c.Instances)
	for i := range made {
		made[i] = &resourcev1.Endpoint{Target: c.Target, Instance: fmt.Sprintf("made-up-%d", i), MeshAddress: "127.0.0.1:9", Tags: make(map[string]string)}
		for left := int(c.Bytes); left > 0; left -= maxTag {
			value := make([]byte, min(left, maxTag)/2)
			for at := range value {
				value[at] = byte(dice.Uint32())
			}
			made[i].Tags[fmt.Sprintf("tag-%d", left)] = hex.EncodeToString(value)
		}
	}
	p.madeUp[c.Target] = made
	want.Endpoints = append(want.Endpoints, made...)
	return p.setRegistry(want)
}

// An endpoint may have so many tags, with a little more in each.
const (
	maxTags = 64
	maxTag  = 200
)
