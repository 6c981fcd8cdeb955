package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// serviceName is the service that testees serve.
const serviceName = "octo.conformance.v1.Conformance"

// topologies are those that a run has between all pairs of testees, in its order.
var topologies = []conformancev1.Topology{
	conformancev1.Topology_TOPOLOGY_DIRECT,
	conformancev1.Topology_TOPOLOGY_DIRECT_UDS,
	conformancev1.Topology_TOPOLOGY_MESH,
	conformancev1.Topology_TOPOLOGY_MIXED_C,
	conformancev1.Topology_TOPOLOGY_MIXED_S,
	conformancev1.Topology_TOPOLOGY_DIRECT_TLS,
	conformancev1.Topology_TOPOLOGY_MESH_TLS,
	conformancev1.Topology_TOPOLOGY_MIXED_C_TLS,
	conformancev1.Topology_TOPOLOGY_MIXED_S_TLS,
}

// bridged are the topologies that have gRPC's own client or server at one end.
var bridged = []conformancev1.Topology{conformancev1.Topology_TOPOLOGY_BRIDGE_IN, conformancev1.Topology_TOPOLOGY_BRIDGE_OUT}

// withoutTLS are the topologies that differ from others by TLS alone.
var withoutTLS = map[conformancev1.Topology]conformancev1.Topology{
	conformancev1.Topology_TOPOLOGY_DIRECT_TLS:  conformancev1.Topology_TOPOLOGY_DIRECT,
	conformancev1.Topology_TOPOLOGY_MESH_TLS:    conformancev1.Topology_TOPOLOGY_MESH,
	conformancev1.Topology_TOPOLOGY_MIXED_C_TLS: conformancev1.Topology_TOPOLOGY_MIXED_C,
	conformancev1.Topology_TOPOLOGY_MIXED_S_TLS: conformancev1.Topology_TOPOLOGY_MIXED_S,
}

// plain is the topology but for TLS.
func plain(t conformancev1.Topology) conformancev1.Topology {
	if p := withoutTLS[t]; p != 0 {
		return p
	}
	return t
}

// readSuites reads all suites of a directory.
func readSuites(dir string) ([]*conformancev1.TestSuite, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no suites", dir)
	}
	var all []*conformancev1.TestSuite
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s := &conformancev1.TestSuite{}
		if err := parse(b, s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// parse reads one YAML document: what the message does not have is an error, and so is a key that stands twice.
func parse(b []byte, into proto.Message) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(text, into)
}

// job is one case to run between two testees in one topology.
type job struct {
	name           string // suite/case
	c              *conformancev1.Case
	scenario       *conformancev1.Scenario // instead of a case
	result         *conformancev1.CaseResult
	topology       conformancev1.Topology
	client, server *program
	testee         *program // beside the reference peer, which is the other end or both
	gap            string   // why it does not apply; empty: it does
}

// id names the job in lists of known failures.
func (j *job) id() string {
	return fmt.Sprintf("%s@%s:%s-%s", j.name, topologyName(j.topology), j.client.name, j.server.name)
}

// expand makes the cases of a suite of its templates.
func expand(s *conformancev1.TestSuite) ([]*conformancev1.Case, error) {
	var all []*conformancev1.Case
	seen := make(map[string]bool)
	for _, template := range s.Cases {
		variants := template.Variants
		if len(variants) == 0 {
			variants = []*conformancev1.Case{{}}
		}
		for _, v := range variants {
			c := proto.CloneOf(template)
			c.Variants = nil
			proto.Merge(c, v)
			c.Raw = mergedRaw(template.Raw, v.Raw)
			c.Name = s.Suite + "/" + template.Name
			if v.Name != "" {
				c.Name += "/" + v.Name
			}
			if len(c.Topologies) == 0 {
				c.Topologies = s.Topologies
			}
			if err := complete(c); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
			for _, c := range placed(c) {
				if seen[c.Name] {
					return nil, fmt.Errorf("%s: there are two of that name", c.Name)
				}
				seen[c.Name] = true
				all = append(all, c)
			}
		}
	}
	return all, nil
}

var kinds = map[string]wirev1.CallKind{
	"Unary": wirev1.CallKind_CALL_KIND_UNARY, "Idempotent": wirev1.CallKind_CALL_KIND_UNARY,
	"Relay": wirev1.CallKind_CALL_KIND_UNARY, "Throw": wirev1.CallKind_CALL_KIND_UNARY,
	"Unimplemented": wirev1.CallKind_CALL_KIND_UNARY, "ServerStream": wirev1.CallKind_CALL_KIND_SERVER_STREAM,
	"ClientStream": wirev1.CallKind_CALL_KIND_CLIENT_STREAM, "Bidi": wirev1.CallKind_CALL_KIND_BIDI_STREAM,
}

// complete fills in what follows from the rest, and refuses what makes no sense.
func complete(c *conformancev1.Case) error {
	if len(c.Semantics) == 0 {
		return errors.New("names no semantic")
	}
	if c.Kind == 0 {
		c.Kind = kinds[c.Method]
	}
	if err := rawComplete(c); err != nil {
		return err
	}
	if c.Kind == 0 && (len(c.Raw) == 0 || c.Method != "") {
		return fmt.Errorf("of what kind is method %q?", c.Method)
	}
	if len(c.Requests) == 0 && single(c.Kind, true) {
		c.Requests = []*conformancev1.Payload{{}}
	}
	if c.Options == nil {
		c.Options = &conformancev1.CallOptions{}
	}
	if c.Response == nil {
		c.Response = &conformancev1.ResponseDefinition{}
	}
	if c.Expect == nil {
		c.Expect = &conformancev1.Expect{}
	}
	if m := c.Expect.MaxMs; m > 0 && m < 1000 {
		return errors.New("an upper bound of time under 1 s depends on the machine")
	}
	if (len(c.Relay) > 0) != (c.Method == "Relay") || len(c.Relay) == 1 {
		return errors.New("method Relay and two or more sides in relay come together")
	}
	if len(c.Steps) > 0 && c.Parallel > 1 {
		return errors.New("steps are of one call, not of several")
	}
	for _, payloads := range [][]*conformancev1.Payload{c.Requests, c.Response.Responses} {
		for _, p := range payloads {
			if p.Text != "" {
				p.Data, p.Text = []byte(p.Text), ""
			}
			if p.Noise > 0 {
				p.Data, p.Noise = make([]byte, p.Noise), 0
				_, _ = rand.NewChaCha8([32]byte{}).Read(p.Data)
			}
		}
	}
	for _, entries := range [][]*conformancev1.Entry{c.Options.Metadata, c.Options.Baggage, c.Response.Headers, c.Response.Trailers} {
		for _, e := range entries {
			if e.Text += strings.Repeat("x", int(e.Size)); e.Text != "" {
				e.Value, e.Text, e.Size = []byte(e.Text), "", 0
			}
		}
	}
	return nil
}

// single tells whether a kind of call has exactly one message in a direction.
func single(k wirev1.CallKind, request bool) bool {
	switch k {
	case wirev1.CallKind_CALL_KIND_UNARY:
		return true
	case wirev1.CallKind_CALL_KIND_SERVER_STREAM:
		return request
	case wirev1.CallKind_CALL_KIND_CLIENT_STREAM:
		return !request
	}
	return false
}

// plan is all jobs: each case in each of its topologies, between all pairs of testees or with a bridge, and each scenario.
func plan(suites []*conformancev1.TestSuite, testees []*program, b *bridge) ([]*job, error) {
	var jobs []*job
	for _, s := range suites {
		cases, err := expand(s)
		if err != nil {
			return nil, err
		}
		for _, c := range cases {
			if len(c.Raw) > 0 {
				jobs = append(jobs, rawJobs(c, testees)...)
				continue
			}
			for _, topology := range topologies {
				if len(c.Topologies) > 0 && !slices.Contains(c.Topologies, plain(topology)) {
					continue
				}
				for _, client := range testees {
					for _, server := range testees {
						jobs = append(jobs, &job{name: c.Name, c: c, topology: topology, client: client, server: server})
					}
				}
			}
			jobs = append(jobs, b.jobs(c, testees)...)
		}
		scenarios, err := expandScenarios(s)
		if err != nil {
			return nil, err
		}
		for _, c := range scenarios {
			for _, t := range testees { // each with itself
				jobs = append(jobs, &job{
					name: c.Name, c: &conformancev1.Case{Name: c.Name, Semantics: c.Semantics, Isolated: true}, scenario: c,
					topology: conformancev1.Topology_TOPOLOGY_SCENARIO, client: t, server: t,
				})
			}
		}
	}
	return jobs, nil
}
