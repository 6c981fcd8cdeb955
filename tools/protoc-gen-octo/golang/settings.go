package golang

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

// settings are the options of lang=go. They have the names and meanings of protoc-gen-go's, so that one
// list serves both plugins.
type settings struct {
	// sourceRelative puts the output beside the proto file's path instead of under its import path.
	sourceRelative bool
	// module is cut from the front of output names.
	module string
	// mapped gives files an import path in place of their go_package; the value may end in ;name.
	mapped map[string]string
	// services is the package of all services, apart from their messages; without an import path they are together.
	services home
}

func readSettings(options []ir.Option) (settings, error) {
	read := settings{mapped: make(map[string]string)}
	seen := make(map[string]bool)
	for _, option := range options {
		if seen[option.Key] {
			return settings{}, fmt.Errorf("option %s is given twice", option.Key)
		}
		seen[option.Key] = true
		if err := read.set(option.Key, option.Value); err != nil {
			return settings{}, err
		}
	}
	if read.sourceRelative && read.module != "" {
		return settings{}, fmt.Errorf("option module does not go with paths=source_relative: " +
			"only names made from import paths have a module in front")
	}
	return read, nil
}

func (s *settings) set(key, value string) error {
	file, isMapping := strings.CutPrefix(key, "M")
	switch {
	case key == "paths" && value == "source_relative":
		s.sourceRelative = true
	case key == "paths" && value == "import":
		s.sourceRelative = false
	case key == "paths":
		return fmt.Errorf("option paths=%s: want paths=import or paths=source_relative", value)
	case key == "module" && value == "":
		return fmt.Errorf("option module needs a Go module path: module=example.com/shop")
	case key == "module":
		s.module = value
	case key == "services":
		return s.setServices(value)
	case isMapping && file != "" && value != "":
		s.mapped[file] = value
	case isMapping:
		return fmt.Errorf("option %s=%s: want M<proto file>=<Go import path>", key, value)
	default:
		return fmt.Errorf("unknown option %q for lang=go: known are paths, module, services and M<proto file>", key)
	}
	return nil
}

// setServices reads the package of services that is apart from the one of their messages.
func (s *settings) setServices(value string) error {
	importPath, name, _ := strings.Cut(value, ";")
	name = cmp.Or(name, identifier(path.Base(importPath)))
	if !strings.ContainsAny(importPath, "./") || identifier(name) != name {
		return fmt.Errorf("option services=%s: want services=<Go import path>, with ;<package name> if it has another one", value)
	}
	s.services = home{importPath: importPath, name: name}
	return nil
}
