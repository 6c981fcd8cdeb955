package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

const (
	vectorsDir = "../../conformance/vectors"
	specDir    = "../../proto/spec"
)

// TestCommittedFilesAreWhatTheToolMakes: a hand-edited vector would vanish with the next run.
func TestCommittedFilesAreWhatTheToolMakes(t *testing.T) {
	made := files()
	for name, f := range made {
		want, err := f.Format()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(vectorsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: go run ./tools/vectorgen", name)
		}
	}
	for _, pattern := range []string{"*.json", "machine/*.json"} {
		found, err := filepath.Glob(filepath.Join(vectorsDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			name, _ := filepath.Rel(vectorsDir, path)
			if made[filepath.ToSlash(name)] == nil {
				t.Errorf("%s is made by nobody", name)
			}
		}
	}
}

func TestEveryFileFitsItsSchema(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	for name, f := range files() {
		schema, err := compiler.Compile(filepath.Join(vectorsDir, f.Schema))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(vectorsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemasRefuse: a schema that lets everything pass would prove nothing.
func TestSchemasRefuse(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(vectorsDir, "schema/frame.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(vectorsDir, "frame.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`"cost": 0`, `"cost": -1`}, {`"rules": [`, `"rules": ["w-1", `}, {`"header"`, `"heder"`}, {`"id": "frame`, `"id": "Frame`}} {
		broken := strings.Replace(string(b), change[0], change[1], 1)
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(broken))
		if err != nil {
			t.Fatal(err)
		}
		if broken == string(b) || schema.Validate(value) == nil {
			t.Errorf("with %s the file still fits its schema", change[1])
		}
	}
}

var ruleName = regexp.MustCompile(`(?m)^- \*\*([A-Z]+-(?:[A-Z]+-)?[0-9]+)\*\* `)

// specRules are the rules of proto/spec.
func specRules(t *testing.T) map[string]bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(specDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ruleName.FindAllStringSubmatch(string(b), -1) {
			if rules[m[1]] {
				t.Errorf("%s: rule %s stands twice", path, m[1])
			}
			rules[m[1]] = true
		}
	}
	return rules
}

func TestVectorsNameRulesThatExist(t *testing.T) {
	rules := specRules(t)
	if len(rules) < 200 {
		t.Fatalf("found %d rules in proto/spec", len(rules))
	}
	ids := map[string]string{}
	for name, f := range files() {
		used := map[string]bool{}
		for _, v := range f.Vectors {
			if was := ids[v.ID]; was != "" {
				t.Errorf("%s stands in %s and in %s", v.ID, was, name)
			}
			ids[v.ID] = name
			for _, r := range v.Rules {
				if !rules[r] {
					t.Errorf("%s: no rule %s in proto/spec", v.ID, r)
				}
			}
			for _, flag := range v.Flags {
				used[flag] = true
				if f.Flags[flag] == "" {
					t.Errorf("%s: flag %s is not explained", v.ID, flag)
				}
			}
		}
		for flag := range f.Flags {
			if !used[flag] {
				t.Errorf("%s: no vector has flag %s", name, flag)
			}
		}
	}
}

// TestSpecCitesRulesThatExist: a rule that cites another must not outlive it.
func TestSpecCitesRulesThatExist(t *testing.T) {
	rules := specRules(t)
	cited := regexp.MustCompile(`\b([WELSVD]-[A-Z]+-[0-9]+|SEM-[0-9]+)\b`)
	paths, _ := filepath.Glob(filepath.Join(specDir, "*.md"))
	for _, path := range append(paths, "../../docs/adr/0003-wire-clarifications.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range cited.FindAllString(string(b), -1) {
			if !rules[r] {
				t.Errorf("%s cites %s, which does not exist", filepath.Base(path), r)
			}
		}
	}
}

func TestSemanticsAreFortySix(t *testing.T) {
	rules := specRules(t)
	for n := range 46 {
		if name := "SEM-" + strconv.Itoa(n+1); !rules[name] {
			t.Errorf("no %s", name)
		}
	}
}

// TestErrorsTableIsTheProtos: errors.md repeats the options of octo.wire.v1.Reason for readers.
func TestErrorsTableIsTheProtos(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(specDir, "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([0-9]+) \\| `([A-Z_]+)` \\| `([A-Z_]+)` \\| (yes|no) \\| [^|]+ \\| [^|]+ \\|$")
	var listed []wirev1.Reason
	for _, m := range row.FindAllStringSubmatch(string(b), -1) {
		n, _ := strconv.Atoi(m[2])
		r := wirev1.Reason(n)
		rule := reasonRule(r)
		if rule == nil {
			t.Errorf("%s: reason %d has no options", m[1], n)
			continue
		}
		listed = append(listed, r)
		want := []string{
			strings.TrimPrefix(r.String(), "REASON_"), m[2], strings.TrimPrefix(wirev1.Code(rule.Code).String(), "CODE_"),
			strings.TrimPrefix(wirev1.Disposition(rule.Disposition).String(), "DISPOSITION_"), map[bool]string{true: "yes", false: "no"}[rule.Path],
		}
		if !slices.Equal(m[1:6], want) {
			t.Errorf("errors.md has %v, the proto %v", m[1:6], want)
		}
	}
	for _, r := range reasons() {
		if r != 0 && !slices.Contains(listed, r) {
			t.Errorf("errors.md does not list %v", r)
		}
	}
}
