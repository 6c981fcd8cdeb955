package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/conformance/faults/link"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// stopSignal ends a part well. A member of an etcd that others have left would wait for them.
func stopSignal(name string) syscall.Signal {
	if strings.HasPrefix(name, "etcd-") {
		return syscall.SIGKILL
	}
	return syscall.SIGTERM
}

// give tells the control plane what resources say: the registry its endpoints, the Config Server its policies.
func (p *plane) give(text string) (*resourcev1.Snapshot, error) {
	want, err := readResources(text)
	if err != nil {
		return nil, err
	}
	if err := p.setRegistry(want); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range want.Policies {
		names = append(names, "policy/"+r.Target)
	}
	for _, r := range want.AuthPolicies {
		names = append(names, "auth/"+r.Target)
	}
	if len(names) > 0 {
		file, err := p.writePolicies(text)
		if err != nil {
			return nil, err
		}
		if err := p.apply(file); err != nil {
			return nil, err
		}
	}
	for _, old := range p.applied {
		if slices.Contains(names, old) {
			continue
		}
		if out, code, err := p.command("delete", old, "-m", "the scenario says so"); err != nil || code != 0 {
			return nil, fmt.Errorf("octo delete %s: %d, %w: %s", old, code, orNone(err), out)
		}
	}
	p.applied = names
	return want, nil
}

// apply applies a file. Where it leads the registry must know, which is asked now and then: so one tries again.
func (p *plane) apply(file string) error {
	for late := time.Now().Add(startTimeout); ; time.Sleep(50 * poll) {
		out, code, err := p.command("apply", "-f", file, "-m", "the scenario says so")
		switch {
		case err == nil && code == 0:
			return nil
		case err != nil || !strings.Contains(out, "leads nowhere") || time.Now().After(late):
			return fmt.Errorf("octo apply: %d, %w: %s", code, orNone(err), out)
		}
	}
}

var errNone = errors.New("no other error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func (p *plane) setRegistry(s *resourcev1.Snapshot) error {
	switch {
	case p.registry != nil:
		return p.registry.set(s.Endpoints)
	case len(s.Endpoints) > 0:
		return errors.New("resources have endpoints, but instances register themselves")
	}
	return nil
}

// readResources reads what proxies' files may say, durations such as "200ms" too.
func readResources(text string) (*resourcev1.Snapshot, error) {
	text = durations.ReplaceAllStringFunc(text, func(value string) string {
		colon, number := value[:strings.IndexByte(value, ':')], strings.TrimSpace(value[strings.IndexByte(value, ':')+1:])
		d, err := time.ParseDuration(number)
		if err != nil {
			return value
		}
		return fmt.Sprintf("%s: %.9fs", colon, d.Seconds())
	})
	s := &resourcev1.Snapshot{}
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	if err := parse([]byte(text), s); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	return s, nil
}

// durations are fields whose value protobuf's JSON does not take.
var durations = regexp.MustCompile(`\w+: *[0-9.]+(ms|us|m|h)\b`)

// writePolicies writes a text without its endpoints, as it is.
func (p *plane) writePolicies(text string) (string, error) {
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		return "", err
	}
	delete(tree, "endpoints")
	b, err := yaml.Marshal(tree)
	if err != nil {
		return "", err
	}
	file := filepath.Join(p.dir, "applied.yaml")
	return file, os.WriteFile(file, b, 0o600)
}

// give tells the control plane what a text says.
func (s *stage) give(text string) error {
	text, err := s.expand(text)
	if err == nil {
		s.want, err = s.plane.give(text)
	}
	return err
}

// churn changes the weights of endpoints, and which are there, by chance, and at the end as they should be.
func (p *plane) churn(c *conformancev1.Churn, want *resourcev1.Snapshot) error {
	if p.registry == nil || len(want.GetEndpoints()) == 0 {
		return errors.New("churn is for a registry of the scenario's, with endpoints")
	}
	dice := rand.New(rand.NewPCG(c.Seed, 0))
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

// snapshot is what a proxy goes by.
func (p *proxy) snapshot() (*resourcev1.Snapshot, error) {
	body, err := p.get("/config")
	if err != nil {
		return nil, err
	}
	var dump struct{ Snapshot json.RawMessage }
	if err := json.Unmarshal(body, &dump); err != nil {
		return nil, err
	}
	s := &resourcev1.Snapshot{}
	return s, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(dump.Snapshot, s)
}

// differs says in what a proxy's resources are others than they should be, "" if in nothing.
func differs(want, have *resourcev1.Snapshot) string {
	for _, list := range []struct {
		what       string
		want, have map[string]proto.Message
	}{
		{"endpoint", byName(want.Endpoints), byName(have.Endpoints)},
		{"policy", byName(want.Policies), byName(have.Policies)},
		{"auth policy", byName(want.AuthPolicies), byName(have.AuthPolicies)},
	} {
		for name, m := range list.want {
			if !proto.Equal(m, list.have[name]) {
				return fmt.Sprintf("%s %s is %v and not %v", list.what, name, list.have[name], m)
			}
		}
		for name := range list.have {
			if list.want[name] == nil {
				return fmt.Sprintf("%s %s should not be there", list.what, name)
			}
		}
	}
	return ""
}

func byName[M interface {
	proto.Message
	GetTarget() string
}](list []M) map[string]proto.Message {
	all := make(map[string]proto.Message, len(list))
	for _, m := range list {
		name := m.GetTarget()
		if e, ok := any(m).(*resourcev1.Endpoint); ok {
			name += "/" + e.Instance
		}
		all[name] = m
	}
	return all
}

// lacks says in what a proxy's instances of a target are others than they should be, "" if in nothing.
func lacks(want *conformancev1.Registered, have *resourcev1.Snapshot) string {
	var instances []string
	for _, e := range have.Endpoints {
		if e.Target == want.Target {
			instances = append(instances, e.Instance)
		}
	}
	slices.Sort(instances)
	expected := slices.Sorted(slices.Values(want.Instances))
	if slices.Equal(instances, expected) {
		return ""
	}
	return fmt.Sprintf("target %s has the instances %v and not %v", want.Target, instances, expected)
}

// govern starts the control plane, if there is one, and says what proxies are to know of it.
func (s *stage) govern() (told func(*actor) string, err error) {
	if s.plane == nil {
		return func(*actor) string { return "" }, nil
	}
	if err := s.plane.start(); err != nil {
		return nil, err
	}
	at := make(map[string]string)
	for _, name := range pilotsOf(s.plane.ControlPlane) {
		at[name] = s.plane.parts[name].address
	}
	for _, l := range s.s.Links {
		if at[l.To] == "" {
			continue
		}
		made, err := link.To("tcp", "127.0.0.1:0", s.plane.parts[l.To].address)
		if err != nil {
			return nil, err
		}
		s.links[l.Name], at[l.To] = made, made.Address()
		s.cleanup = append(s.cleanup, func() { _ = made.Close() })
	}
	targets, err := s.targets()
	if err != nil {
		return nil, err
	}
	return func(a *actor) string {
		c := map[string]any{"directory": filepath.Join(s.dir, a.Name+"-states")}
		var pilots []string
		for _, name := range pilotsOf(s.plane.ControlPlane) {
			pilots = append(pilots, at[name])
		}
		c["pilots"] = pilots
		if !s.plane.OnDemand {
			c["targets"] = targets
		}
		b, _ := json.Marshal(c) // of strings
		return fmt.Sprintf("control: %s\n", b)
	}, nil
}

// targets are all of which resources speak, and those that ends serve.
func (s *stage) targets() ([]string, error) {
	all := make(map[string]bool)
	texts := []string{s.s.Resources}
	for _, step := range s.s.Steps {
		texts = append(texts, step.GetResources(), step.GetUnheard())
	}
	for _, text := range texts {
		r, err := readResources(text)
		if err != nil {
			return nil, err
		}
		for _, e := range r.Endpoints {
			all[e.Target] = true
		}
		for _, p := range r.Policies {
			all[p.Target] = true
		}
		for _, p := range r.AuthPolicies {
			all[p.Target] = true
		}
	}
	for _, e := range s.s.Ends {
		if e.Target != "" {
			all[e.Target] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// synced waits until all proxies that run go by what they should.
func (s *stage) synced(c *conformancev1.Synced) error {
	for late := time.Now().Add(s.patience); ; {
		text := ""
		for _, a := range s.ends {
			if a.proxy == nil || over(a.proxy.process) {
				continue
			}
			have, err := a.proxy.snapshot()
			switch {
			case err != nil:
				text = err.Error()
			case len(c.GetRegistered()) == 0:
				if s.plane.Register {
					have.Endpoints = nil // whoever is attached
				}
				if d := differs(s.want, have); d != "" {
					text = a.proxy.name + ": " + d
				}
			}
			for _, r := range c.GetRegistered() {
				if d := lacks(r, have); err == nil && d != "" {
					text = a.proxy.name + ": " + d
				}
			}
		}
		if text == "" {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("not synced within %v: %s", s.patience, text)
		}
		time.Sleep(10 * poll)
	}
}

// command runs a command of the operator's, and judges it.
func (s *stage) command(c *conformancev1.Octo) error {
	var arguments []string
	for _, a := range c.Arguments {
		text, err := s.expand(a)
		if err != nil {
			return err
		}
		arguments = append(arguments, text)
	}
	if c.File != "" {
		text, err := s.expand(c.File)
		if err != nil {
			return err
		}
		file := filepath.Join(s.dir, "step.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		arguments = append(arguments, "-f", file)
	}
	for late := time.Now().Add(s.patience); ; {
		out, code, err := s.plane.command(arguments...)
		if err != nil {
			return err
		}
		problem := ""
		if code != int(c.Code) {
			problem = fmt.Sprintf("ended with %d, expected %d", code, c.Code)
		}
		for _, text := range c.Says {
			if !strings.Contains(out, text) {
				problem = fmt.Sprintf("does not say %q", text)
			}
		}
		if problem == "" {
			return nil
		}
		if !c.Until || time.Now().After(late) {
			return fmt.Errorf("octo %s %s:\n%s", strings.Join(arguments, " "), problem, out)
		}
		time.Sleep(50 * poll)
	}
}
