package python

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// keywords cannot be names, nor what stands behind a dot.
var keywords = map[string]bool{
	"False": true, "None": true, "True": true, "and": true, "as": true, "assert": true, "async": true, "await": true,
	"break": true, "class": true, "continue": true, "def": true, "del": true, "elif": true, "else": true, "except": true,
	"finally": true, "for": true, "from": true, "global": true, "if": true, "import": true, "in": true, "is": true,
	"lambda": true, "nonlocal": true, "not": true, "or": true, "pass": true, "raise": true, "return": true, "try": true,
	"while": true, "with": true, "yield": true,
}

// methodName is the Python name of a method: GetItem is get_item, HTTPGet is http_get. It never starts with an
// underscore, which would make it private and could hide what the client and the base class have for themselves.
func methodName(name string) string {
	var out strings.Builder
	for i := range len(name) {
		c := name[i]
		if isUpper(c) {
			beforeLower := i+1 < len(name) && isLower(name[i+1])
			if i > 0 && name[i-1] != '_' && (!isUpper(name[i-1]) || beforeLower) {
				out.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		out.WriteByte(c)
	}
	snake := strings.TrimLeft(out.String(), "_")
	switch {
	case snake == "" || '0' <= snake[0] && snake[0] <= '9':
		return "rpc_" + snake
	case keywords[snake]:
		return snake + "_"
	}
	return snake
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

// module is the name of the Python module that a plugin writes for a proto file: protoc's rule, with its own suffix.
func module(file protoreflect.FileDescriptor, suffix string) string {
	path := file.Path()
	for _, extension := range []string{".protodevel", ".proto"} {
		if base, ok := strings.CutSuffix(path, extension); ok {
			path = base
			break
		}
	}
	return strings.NewReplacer("-", "_", "/", ".").Replace(path) + suffix
}

// speakable tells whether code can write a name with dots in it: no part is a keyword, or would be mangled in a class.
func speakable(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if keywords[part] || strings.HasPrefix(part, "__") {
			return false
		}
	}
	return true
}

// scope is a set of names in use. A name that is taken gets _ behind it.
type scope map[string]bool

func (s scope) claim(name string) string {
	for s[name] || keywords[name] {
		name += "_"
	}
	s[name] = true
	return name
}
