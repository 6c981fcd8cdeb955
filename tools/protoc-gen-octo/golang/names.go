package golang

import (
	"go/token"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// camelCase turns a proto name into the Go name that protoc-gen-go gives it; the generated code names
// types of the .pb.go file, so every oddity is kept: a dot becomes _, a leading _ becomes X, and an
// underscore goes only in front of a lower-case letter.
func camelCase(name string) string {
	var out strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		beforeLower := i+1 < len(name) && isLower(name[i+1])
		switch {
		case c == '.' && beforeLower:
		case c == '.':
			out.WriteByte('_')
		case c == '_' && (i == 0 || name[i-1] == '.'):
			out.WriteByte('X')
		case c == '_' && beforeLower:
		case '0' <= c && c <= '9':
			out.WriteByte(c)
		default:
			if isLower(c) {
				c -= 'a' - 'A'
			}
			out.WriteByte(c)
			for i+1 < len(name) && isLower(name[i+1]) {
				i++
				out.WriteByte(name[i])
			}
		}
	}
	return out.String()
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

// identifier turns any text into a Go identifier, as protoc-gen-go does for package names.
func identifier(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return '_'
	}, text)
	if first, _ := utf8.DecodeRuneInString(text); token.IsKeyword(text) || !unicode.IsLetter(first) {
		return "_" + text
	}
	return text
}

// unexported starts a Go name with a lower-case letter. All names given to it end in a suffix of ours, so
// the result is never a keyword or predeclared.
func unexported(name string) string {
	return strings.ToLower(name[:1]) + name[1:]
}

// typeName is the Go name of a message or enum without its package: Outer_Inner for a nested one.
func typeName(descriptor protoreflect.Descriptor) string {
	pkg := string(descriptor.ParentFile().Package())
	return camelCase(strings.TrimPrefix(string(descriptor.FullName()), pkg+"."))
}

// scope is a set of names in use. A name that is taken gets _ behind it, which is protoc-gen-go's way out
// of the same trouble and lets people generate from protos that they cannot change.
type scope map[string]bool

func (s scope) claim(name string) string {
	for s[name] {
		name += "_"
	}
	s[name] = true
	return name
}

// claimProtobuf adds the package-level names that protoc-gen-go declares for a file.
func (s scope) claimProtobuf(file protoreflect.FileDescriptor) {
	s["File_"+identifier(file.Path())] = true
	s.claimExtensions("E_", file.Extensions())
	s.claimEnums("", file.Enums())
	s.claimMessages(file.Messages())
}

func (s scope) claimMessages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		if message.IsMapEntry() {
			continue
		}
		name := typeName(message)
		s[name] = true
		fields := message.Fields()
		for j := range fields.Len() {
			field := name + "_" + camelCase(string(fields.Get(j).Name()))
			s["Default_"+field] = true
			if fields.Get(j).ContainingOneof() != nil {
				// The wrapper of a oneof's member, also in its evasive form.
				s[field], s[field+"_"] = true, true
			}
		}
		oneofs := message.Oneofs()
		for j := range oneofs.Len() {
			s["is"+name+"_"+camelCase(string(oneofs.Get(j).Name()))] = true
		}
		s.claimExtensions("E_"+name+"_", message.Extensions())
		s.claimEnums(name, message.Enums())
		s.claimMessages(message.Messages())
	}
}

// claimEnums takes the parent's name, because values of a nested enum carry that in place of the enum's.
func (s scope) claimEnums(parent string, enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		name := typeName(enums.Get(i))
		s[name], s[name+"_name"], s[name+"_value"] = true, true, true
		prefix := name
		if parent != "" {
			prefix = parent
		}
		values := enums.Get(i).Values()
		for j := range values.Len() {
			s[prefix+"_"+string(values.Get(j).Name())] = true
		}
	}
}

func (s scope) claimExtensions(prefix string, extensions protoreflect.ExtensionDescriptors) {
	for i := range extensions.Len() {
		s[prefix+camelCase(string(extensions.Get(i).Name()))] = true
	}
}

// serviceNames are the Go names declared for one service.
type serviceNames struct {
	FullName, Target                                   string // constants
	Client, NewClient, Server, Unimplemented, Register string // exported
	ClientType, MethodVars                             string // unexported
}

// claimService declares the names of a service in its package.
func (s scope) claimService(service protoreflect.ServiceDescriptor) serviceNames {
	name := camelCase(string(service.Name()))
	return serviceNames{
		FullName:      s.claim(name + "ServiceName"),
		Target:        s.claim(name + "Target"),
		Client:        s.claim(name + "Client"),
		NewClient:     s.claim("New" + name + "Client"),
		Server:        s.claim(name + "Server"),
		Unimplemented: s.claim("Unimplemented" + name),
		Register:      s.claim("Register" + name),
		ClientType:    s.claim(unexported(name + "Client")),
		MethodVars:    s.claim(unexported(name + "Methods")),
	}
}

// deprecated is the paragraph that Go tools look for; protoc-gen-go writes the same words.
func deprecated(descriptor protoreflect.Descriptor, marked bool) string {
	file := descriptor.ParentFile()
	switch {
	case file.Options().(*descriptorpb.FileOptions).GetDeprecated():
		return "Deprecated: The entire proto file " + file.Path() + " is marked as deprecated."
	case marked:
		return "Deprecated: Marked as deprecated in " + file.Path() + "."
	default:
		return ""
	}
}
