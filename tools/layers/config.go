package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// config is layers.yaml. Patterns are those of the go command: a package, or a folder and all below
// it with "/...". "./" at the front stands for our own module path; "std" is any standard package.
type config struct {
	Module string  `yaml:"module"`
	Layers []layer `yaml:"layers"` // from the bottom to the top
	Bans   []ban   `yaml:"bans"`
}

type layer struct {
	Name     string   `yaml:"name"`
	Packages []string `yaml:"packages"`
	// Closed forbids imports between the patterns of this layer; within one pattern they stay free.
	Closed bool   `yaml:"closed"`
	Note   string `yaml:"note"`
}

// ban narrows what some packages may import beyond their layer: nothing of Deny, and, if Allow is
// not empty, only what Allow names.
type ban struct {
	Packages []string `yaml:"packages"`
	Except   []string `yaml:"except"`
	Deny     []string `yaml:"deny"`
	Allow    []string `yaml:"allow"`
	Tests    bool     `yaml:"tests"` // test files are held to it as well
	Note     string   `yaml:"note"`
}

func loadConfig(file string) (*config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true) // a misspelt key must not switch a rule off
	var c config
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &c, nil
}

func (c *config) validate() error {
	if c.Module == "" || len(c.Layers) == 0 {
		return errors.New("module and layers are needed")
	}
	seen := map[string]string{}
	for _, l := range c.Layers {
		if l.Name == "" || len(l.Packages) == 0 {
			return fmt.Errorf("layer %q: a name and packages are needed", l.Name)
		}
		for _, p := range l.Packages {
			if !strings.HasPrefix(p, "./") {
				return fmt.Errorf("layer %s: %q does not begin with ./", l.Name, p)
			}
			if other, twice := seen[p]; twice {
				return fmt.Errorf("%q is in layer %s and in layer %s", p, other, l.Name)
			}
			seen[p] = l.Name
		}
	}
	for i, b := range c.Bans {
		if b.Note == "" {
			return fmt.Errorf("ban %d (%v) has no note: say why", i+1, b.Packages)
		}
		if len(b.Packages) == 0 || len(b.Deny)+len(b.Allow) == 0 {
			return fmt.Errorf("ban %d bans nothing", i+1)
		}
	}
	return nil
}

// matches says whether an import path is meant by a pattern.
func (c *config) matches(pattern, path string) bool {
	if pattern == "std" {
		return isStandard(path)
	}
	if rest, own := strings.CutPrefix(pattern, "./"); own {
		pattern = c.Module
		if rest == "..." {
			return path == c.Module || strings.HasPrefix(path, c.Module+"/")
		}
		if rest != "" {
			pattern += "/" + rest
		}
	}
	if folder, all := strings.CutSuffix(pattern, "/..."); all {
		return path == folder || strings.HasPrefix(path, folder+"/")
	}
	return path == pattern
}

func (c *config) matchesAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if c.matches(p, path) {
			return true
		}
	}
	return false
}

func (c *config) own(path string) bool {
	return path == c.Module || strings.HasPrefix(path, c.Module+"/")
}

// isStandard goes by the rule that the go command itself reserves: no dot in the first element.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
