package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
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
	for _, target := range slices.Sorted(maps.Keys(p.madeUp)) {
		want.Endpoints = append(want.Endpoints, p.madeUp[target]...)
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

// snapshot is what a proxy goes by. It is asked for again once there is a newer one: it may be large.
func (p *proxy) snapshot() (*resourcev1.Snapshot, error) {
	generation, err := p.generation()
	if err != nil || generation > 0 && generation == p.known.generation {
		return p.known.snapshot, err
	}
	body, err := p.get("/config")
	if err != nil {
		return nil, err
	}
	var dump struct{ Snapshot json.RawMessage }
	if err := json.Unmarshal(body, &dump); err != nil {
		return nil, err
	}
	s := &resourcev1.Snapshot{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(dump.Snapshot, s); err != nil {
		return nil, err
	}
	p.known = known{generation, s} // or what is newer, and asked for the next time
	return s, nil
}

// known is what a proxy has said that it goes by.
type known struct {
	generation uint64
	snapshot   *resourcev1.Snapshot
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
	where := func(a *actor, pilot string) string { return s.plane.parts[pilot].address }
	for _, l := range s.s.Links {
		if !slices.Contains(pilotsOf(s.plane.ControlPlane), l.To) {
			continue
		}
		made, err := link.To("tcp", "127.0.0.1:0", s.plane.parts[l.To].address)
		if err != nil {
			return nil, err
		}
		s.links[l.Name] = made
		s.cleanup = append(s.cleanup, func() { _ = made.Close() })
		others := where
		where = func(a *actor, pilot string) string {
			if pilot == l.To && (len(l.Only) == 0 || slices.Contains(l.Only, a.Name)) {
				return made.Address()
			}
			return others(a, pilot)
		}
	}
	targets, err := s.targets()
	if err != nil {
		return nil, err
	}
	return func(a *actor) string {
		c := map[string]any{"directory": s.states(a)}
		var pilots []string
		for _, name := range pilotsOf(s.plane.ControlPlane) {
			pilots = append(pilots, where(a, name))
		}
		c["pilots"] = pilots
		if !s.plane.OnDemand {
			c["targets"] = targets
		}
		b, _ := json.Marshal(c) // of strings
		return fmt.Sprintf("control: %s\n", b)
	}, nil
}

// allSteps are steps, and those that they repeat.
func allSteps(steps []*conformancev1.ScenarioStep) iter.Seq[*conformancev1.ScenarioStep] {
	return func(yield func(*conformancev1.ScenarioStep) bool) {
		for _, step := range steps {
			if !yield(step) {
				return
			}
			for inner := range allSteps(step.GetRepeat().GetSteps()) {
				if !yield(inner) {
					return
				}
			}
		}
	}
}

// targets are all of which resources speak, and those that ends serve.
func (s *stage) targets() ([]string, error) {
	all := make(map[string]bool)
	texts := []string{s.s.Resources}
	for step := range allSteps(s.s.Steps) {
		texts = append(texts, step.GetResources(), step.GetUnheard())
		if m := step.GetMadeUp(); m != nil {
			all[m.Target] = true
		}
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

// synced waits until proxies that run, and crowds, go by what they should.
func (s *stage) synced(c *conformancev1.Synced) error {
	want := s.want
	if c != nil && c.Resources != nil {
		text, err := s.expand(c.GetResources())
		if err != nil {
			return err
		}
		if want, err = readResources(text); err != nil {
			return err
		}
	}
	for late := time.Now().Add(s.patience); ; {
		begun, text := time.Now(), ""
		for _, a := range s.ends {
			switch {
			case a.proxy == nil || over(a.proxy.process):
			case len(c.GetProxies()) > 0 && !slices.Contains(c.GetProxies(), a.Name+"-proxy"):
			default:
				if d := s.lags(a.proxy, c, want); d != "" {
					text = a.proxy.name + ": " + d
				}
			}
		}
		for _, crowd := range s.crowds {
			if d := crowd.lags(want); len(c.GetRegistered()) == 0 && len(c.GetProxies()) == 0 && d != "" {
				text = d
			}
		}
		if text == "" {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("not synced within %v: %s", s.patience, text)
		}
		time.Sleep(max(10*poll, time.Since(begun))) // what is large costs those who tell it, too
	}
}

// lags says in what a proxy does not go by what it should, "" if in nothing.
func (s *stage) lags(p *proxy, c *conformancev1.Synced, want *resourcev1.Snapshot) string {
	have, err := p.snapshot()
	if err != nil {
		return err.Error()
	}
	for _, r := range c.GetRegistered() {
		if d := lacks(r, have); d != "" {
			return d
		}
	}
	if len(c.GetRegistered()) > 0 {
		return ""
	}
	if s.plane.Register { // whoever is attached
		have = &resourcev1.Snapshot{Policies: have.Policies, AuthPolicies: have.AuthPolicies}
	}
	return differs(want, have)
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
