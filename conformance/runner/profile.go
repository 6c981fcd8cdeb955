package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// readProfiles reads what the testees declare.
func readProfiles(dir string, testees []*program) error {
	for _, t := range testees {
		b, err := os.ReadFile(filepath.Join(dir, t.name+".yaml"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p := &conformancev1.Profile{}
		if err == nil {
			err = parse(b, p)
		}
		if err == nil && p.Owner == "" {
			err = errors.New("a profile needs an owner")
		}
		if err != nil {
			return fmt.Errorf("profile of %s: %w", t.name, err)
		}
		t.profile = p
	}
	return nil
}

// lacks is the first feature of some that a program has not declared.
func (p *program) lacks(some []conformancev1.Feature) (conformancev1.Feature, bool) {
	if p.profile == nil {
		return 0, false
	}
	for _, f := range some {
		if !slices.Contains(p.profile.Features, f) {
			return f, true
		}
	}
	return 0, false
}

// needs are the features that a job asks of both its ends.
func (j *job) needs() []conformancev1.Feature {
	all := slices.Clone(j.c.Requires)
	if k := j.c.Kind; k != 0 && (!single(k, true) || !single(k, false)) {
		all = append(all, conformancev1.Feature_FEATURE_STREAMS)
	}
	if streamsRaw(j.c) {
		all = append(all, conformancev1.Feature_FEATURE_STREAMS)
	}
	if j.c.GetOptions().GetCompression() == "gzip" {
		all = append(all, conformancev1.Feature_FEATURE_COMPRESSION)
	}
	if j.c.GetResponse().GetThrow() == conformancev1.ResponseDefinition_THROW_CRASH {
		all = append(all, conformancev1.Feature_FEATURE_CRASH)
	}
	if withoutTLS[j.topology] != 0 {
		all = append(all, conformancev1.Feature_FEATURE_TLS)
	}
	return all
}

// skip takes out the jobs for which an end lacks something, and reports them.
func (r *run) skip(jobs []*job) []*job {
	var rest []*job
	for _, j := range jobs {
		lacking := ""
		for _, p := range []*program{j.client, j.server} {
			if f, yes := p.lacks(j.needs()); yes {
				lacking = fmt.Sprintf("%s does not have %v", p.name, strings.ToLower(strings.TrimPrefix(f.String(), "FEATURE_")))
			}
		}
		if lacking == "" {
			rest = append(rest, j)
			continue
		}
		r.add(j, []string{lacking}, 0)
		j.result.Verdict = conformancev1.CaseResult_VERDICT_SKIPPED
	}
	return rest
}

// streamsRaw tells whether the reference peer makes a call other than a unary one.
func streamsRaw(c *conformancev1.Case) bool {
	for _, p := range c.Raw {
		for _, script := range p.Conversations {
			for _, s := range script.Steps {
				method := s.GetSend().GetCall().GetMethod()
				if k := kinds[method]; k != 0 && k != wirev1.CallKind_CALL_KIND_UNARY {
					return true
				}
			}
		}
	}
	return false
}
