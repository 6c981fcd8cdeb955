package python

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The modules of the standard library that generated code names.
const (
	typing      = "typing"
	collections = "collections.abc"
)

// imports are the modules that one generated file names. Ours make way for what the proto names: a service Any is the class Any,
// and typing's Any is then Any_.
type imports struct {
	names  scope
	byName map[string]string // the name in the file, by "module" or "module:name"
}

func newImports(declared scope) *imports {
	return &imports{names: declared, byName: make(map[string]string)}
}

// from imports one name of a module.
func (i *imports) from(module, name string) string { return i.get(module+":"+name, name) }

// module imports a module. Where two have the same last part, the second is called by all its parts.
func (i *imports) module(name string) string {
	short := name[strings.LastIndexByte(name, '.')+1:]
	if _, known := i.byName[name]; !known && i.names[short] {
		short = strings.ReplaceAll(name, ".", "_")
	}
	return i.get(name, short)
}

func (i *imports) get(key, wanted string) string {
	name, ok := i.byName[key]
	if !ok {
		name = i.names.claim(wanted)
		i.byName[key] = name
	}
	return name
}

// message says how code names a message's class, and how annotations do: those know Any of what no dotted name reaches.
func (i *imports) message(message protoreflect.MessageDescriptor) (class, annotation string) {
	file := message.ParentFile()
	from := module(file, "_pb2")
	class = i.module(from)
	name := strings.TrimPrefix(string(message.FullName()), string(file.Package())+".")
	if speakable(name) && speakable(from) {
		return class + "." + name, class + "." + name
	}
	for part := range strings.SplitSeq(name, ".") {
		if speakable(part) {
			class += "." + part
		} else {
			class = fmt.Sprintf("getattr(%s, %q)", class, part)
		}
	}
	return class, i.from(typing, "Any")
}

// importLines are the statements, each block sorted as Python's tools sort them.
type importLines struct {
	Standard, Others []string
	// ByText are modules that no import statement can name.
	ByText []string
}

func (i *imports) lines() importLines {
	var lines importLines
	names := make(map[string][]string) // by the module that they come from
	var plain []string
	for key, name := range i.byName {
		from, imported, single := strings.Cut(key, ":")
		last := strings.LastIndexByte(from, '.')
		switch {
		case single:
			names[from] = append(names[from], as(imported, name))
		case !speakable(from):
			lines.ByText = append(lines.ByText, fmt.Sprintf("%s = importlib.import_module(%q)", name, from))
		case last >= 0:
			names[from[:last]] = append(names[from[:last]], as(from[last+1:], name))
		default:
			plain = append(plain, "import "+as(from, name))
		}
	}
	if len(lines.ByText) > 0 {
		lines.Standard = append(lines.Standard, "import importlib")
	}
	slices.Sort(plain)
	lines.Others = plain
	for _, from := range slices.Sorted(maps.Keys(names)) {
		slices.Sort(names[from])
		line := "from " + from + " import " + strings.Join(names[from], ", ")
		if from == typing || from == collections {
			lines.Standard = append(lines.Standard, line)
		} else {
			lines.Others = append(lines.Others, line)
		}
	}
	slices.Sort(lines.ByText)
	return lines
}

func as(imported, name string) string {
	if imported == name {
		return imported
	}
	return imported + " as " + name
}
