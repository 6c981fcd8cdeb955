package golang

import (
	"go/types"
	"sort"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

// imports are the packages that one generated file names.
type imports struct {
	own   home
	names scope
	// alias is by import path.
	alias map[string]string
}

// Import paths of what generated code always or often needs.
const (
	contextPath = "context"
	timePath    = "time"
	sdkPath     = "github.com/octomesh/octomesh/sdks/go"
)

// localNames are the parameters and receivers of generated functions, which would hide a package of the
// same name, and our own imports, which the template writes out.
var localNames = [...]string{
	"c", "caller", "ctx", "impl", "in", "opts", "out", "registrar", "req", "stream",
	"context", "octomesh", "time",
}

func newImports(own home, declared scope) *imports {
	names := make(scope)
	for name := range declared {
		names[name] = true
	}
	for _, name := range localNames {
		names[name] = true
	}
	return &imports{own: own, names: names, alias: map[string]string{sdkPath: "octomesh"}}
}

// standard imports a package of the standard library under its own name.
func (i *imports) standard(importPath string) { i.alias[importPath] = importPath }

// message returns how generated code names a message, and imports its package if need be.
func (i *imports) message(
	at protoreflect.Descriptor, message protoreflect.MessageDescriptor, homes homes,
) (string, error) {
	file := message.ParentFile()
	theirs, known := homes.byPath[file.Path()]
	if known && theirs == i.own {
		return typeName(message), nil
	}
	if !known || theirs.importPath == "" {
		return "", ir.Errorf(at, "%s is in %s, which has no Go import path: "+howToPlace,
			message.FullName(), file.Path(), file.Path())
	}
	alias, ok := i.alias[theirs.importPath]
	if !ok {
		alias = i.free(theirs.name)
		i.alias[theirs.importPath] = alias
	}
	return alias + "." + typeName(message), nil
}

// free returns a name for a package that nothing else in the file has: the package's own if possible.
func (i *imports) free(name string) string {
	alias := name
	for n := 1; i.names[alias] || types.Universe.Lookup(alias) != nil; n++ {
		alias = name + strconv.Itoa(n)
	}
	i.names[alias] = true
	return alias
}

// importLine is one line of an import block; Alias is empty where the path says the name.
type importLine struct {
	Alias, Path string
}

// lines returns the standard library's imports and the others, each sorted by path.
func (i *imports) lines() (standard, others []importLine) {
	for importPath, alias := range i.alias {
		if importPath == contextPath || importPath == timePath {
			standard = append(standard, importLine{Path: importPath})
			continue
		}
		others = append(others, importLine{Alias: alias, Path: importPath})
	}
	for _, lines := range [][]importLine{standard, others} {
		sort.Slice(lines, func(a, b int) bool { return lines[a].Path < lines[b].Path })
	}
	return standard, others
}
