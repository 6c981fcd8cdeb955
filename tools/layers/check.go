package main

import (
	"fmt"
	"slices"
	"strings"
)

// place is where a package stands: its layer, and the pattern that put it there.
type place struct {
	layer   int
	pattern string
}

// locate finds the layer of one of our packages. The longest pattern wins, so that core/proxy/route
// can stand below core/proxy.
func (c *config) locate(path string) (place, bool) {
	best, found := place{}, false
	for i, l := range c.Layers {
		for _, p := range l.Packages {
			if c.matches(p, path) && (!found || len(p) > len(best.pattern)) {
				best, found = place{i, p}, true
			}
		}
	}
	return best, found
}

func check(c *config, pkgs []goPackage) []string {
	var out []string
	for _, p := range pkgs {
		out = append(out, checkLayer(c, p)...)
		for _, b := range c.Bans {
			out = append(out, checkBan(c, b, p)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func checkLayer(c *config, p goPackage) []string {
	at, ok := c.locate(p.ImportPath)
	if !ok {
		return []string{fmt.Sprintf("%s: is in no layer; add it to layers.yaml", c.short(p.ImportPath))}
	}
	var out []string
	for _, imp := range p.Imports {
		if !c.own(imp) {
			continue
		}
		to, ok := c.locate(imp)
		if !ok {
			continue // reported for the imported package itself
		}
		from, target := c.Layers[at.layer], c.Layers[to.layer]
		switch {
		case to.layer > at.layer:
			out = append(out, fmt.Sprintf("%s (layer %d %s) imports %s (layer %d %s): imports go downwards only",
				c.short(p.ImportPath), at.layer, from.Name, c.short(imp), to.layer, target.Name))
		case to.layer == at.layer && from.Closed && to.pattern != at.pattern:
			out = append(out, fmt.Sprintf("%s imports %s: layer %s is closed to imports between its members: %s",
				c.short(p.ImportPath), c.short(imp), from.Name, from.Note))
		}
	}
	return out
}

func checkBan(c *config, b ban, p goPackage) []string {
	if !c.matchesAny(b.Packages, p.ImportPath) || c.matchesAny(b.Except, p.ImportPath) {
		return nil
	}
	imports := p.Imports
	if b.Tests {
		imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	}
	var out []string
	for _, imp := range imports {
		if imp == p.ImportPath {
			continue // an external test imports the package it tests
		}
		denied := c.matchesAny(b.Deny, imp)
		unlisted := len(b.Allow) > 0 && !c.matchesAny(b.Allow, imp)
		if denied || unlisted {
			out = append(out, fmt.Sprintf("%s imports %s: %s",
				c.short(p.ImportPath), c.short(imp), strings.Join(strings.Fields(b.Note), " ")))
		}
	}
	return out
}

// short leaves the module path away, for people.
func (c *config) short(path string) string {
	return strings.TrimPrefix(path, c.Module+"/")
}
