// Package python is the back-end for lang=python.
//
// For each proto file with services it writes <file>_octo.py beside protoc's <file>_pb2.py, whose classes it names: for each service
// a client for asyncio, a client for threads, and the base class of servers, all of them typed. python.tmpl is what comes out,
// names.go has Python's names, and imports.go what a file imports.
package python

import (
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

//go:embed python.tmpl
var templateText string

// Generate is the back-end. Files without services give no output.
func Generate(request ir.Request, options []ir.Option) ([]ir.Output, error) {
	for _, option := range options {
		return nil, fmt.Errorf("unknown option %q for lang=python: it has none; what Python imports follows from the folders of the proto files", option.Key)
	}
	page := template.Must(template.New("python").Parse(templateText))
	var outputs []ir.Output
	sources := make(map[string]string)
	for _, file := range request.Files {
		if len(file.Services) == 0 {
			continue
		}
		name := strings.ReplaceAll(module(file.Descriptor, "_octo"), ".", "/") + ".py"
		if other, taken := sources[name]; taken {
			return nil, ir.Errorf(file.Descriptor, "%s is also the Python file of %s: rename one of the two", name, other)
		}
		sources[name] = file.Descriptor.Path()
		var content bytes.Buffer
		if err := page.Execute(&content, viewOf(file, request.Version)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		outputs = append(outputs, ir.Output{Name: name, Content: strings.TrimRight(content.String(), "\n") + "\n"})
	}
	return outputs, nil
}

// The views are what the template sees: text that is ready to print.
type (
	fileView struct {
		Version, Source string
		SDK             string // what the file calls the SDK
		Unpack          string
		Doc             string
		Imports         importLines
		Services        []serviceView
	}
	serviceView struct {
		Server, Client, ClientSync          string // classes
		ProtoName, Target                   string
		ServerDoc, ClientDoc, ClientSyncDoc string
		Methods                             []methodView
	}
	methodView struct {
		Name, ProtoName string
		Variable        string // of the method's description
		Kind            ir.Kind
		Input, Output   string // the messages' classes, for annotations
		InputClass      string // and for code
		OutputClass     string
		Doc             string
		Idempotent      bool
		Timeout         string // in seconds
		AsyncIterator   string
		Coroutine, Any  string
	}
)

// KindName is the SDK's word for the kind.
func (m methodView) KindName() string {
	return strings.ToUpper(methodName(m.Kind.String()))
}

// Shape is the SDK's word for the kind in the names of its methods.
func (m methodView) Shape() string {
	return map[ir.Kind]string{
		ir.Unary: "unary", ir.ClientStreaming: "client_stream", ir.ServerStreaming: "server_stream", ir.BidiStreaming: "bidi_stream",
	}[m.Kind]
}

// StreamsIn says that the client sends a stream.
func (m methodView) StreamsIn() bool {
	return m.Kind == ir.ClientStreaming || m.Kind == ir.BidiStreaming
}

// StreamsOut says that the server sends a stream.
func (m methodView) StreamsOut() bool {
	return m.Kind == ir.ServerStreaming || m.Kind == ir.BidiStreaming
}

func viewOf(file ir.File, version string) fileView {
	declared := scope{"getattr": true, "importlib": true} // what the template names outside of classes
	var services []serviceView
	for _, service := range file.Services {
		name := string(service.Descriptor.Name())
		services = append(services, serviceView{
			Server: declared.claim(name), Client: declared.claim(name + "Client"), ClientSync: declared.claim(name + "ClientSync"),
		})
	}
	// Annotations in a class look for names among its methods first, so that imports keep away from these too.
	methods := make([][]string, len(services))
	all := make(scope)
	for i, service := range file.Services {
		taken := make(scope)
		for _, method := range service.Methods {
			name := taken.claim(methodName(string(method.Descriptor.Name())))
			methods[i] = append(methods[i], name)
			all[name] = true
		}
	}
	for _, service := range services {
		all[service.Server], all[service.Client], all[service.ClientSync] = true, true, true
	}
	imports := newImports(all)
	view := fileView{
		Version: version,
		Source:  file.Descriptor.Path(),
		SDK:     imports.module("octomesh"),
		Doc:     docstring("", "Clients and servers of "+file.Descriptor.Path()+"."),
	}
	for i, service := range file.Services {
		shown := services[i]
		describe(&shown, service)
		for j, method := range service.Methods {
			shown.Methods = append(shown.Methods, methodOf(method, methods[i][j], all.claim("_"+shown.Server+"_"+methods[i][j]), imports))
		}
		if len(shown.Methods) > 0 {
			view.Unpack = imports.from(typing, "Unpack")
		}
		view.Services = append(view.Services, shown)
	}
	view.Imports = imports.lines()
	return view
}

func describe(view *serviceView, service ir.Service) {
	view.ProtoName, view.Target = string(service.Descriptor.FullName()), service.Target
	note := deprecated(service.Descriptor, service.Deprecated)
	view.ServerDoc = docstring("    ", "Implements "+view.ProtoName+": a method that is not overridden answers UNIMPLEMENTED.", service.Comment, note)
	view.ClientDoc = docstring("    ", "Calls "+view.ProtoName+" through a channel of asyncio.", service.Comment, note)
	view.ClientSyncDoc = docstring("    ", "Calls "+view.ProtoName+" from threads.", service.Comment, note)
}

func methodOf(method ir.Method, name, variable string, imports *imports) methodView {
	view := methodView{
		Name: name, ProtoName: string(method.Descriptor.Name()), Variable: variable, Kind: method.Kind, Idempotent: method.Idempotent,
	}
	view.InputClass, view.Input = imports.message(method.Input)
	view.OutputClass, view.Output = imports.message(method.Output)
	if method.Kind == ir.Unary {
		view.Coroutine, view.Any = imports.from(collections, "Coroutine"), imports.from(typing, "Any")
	} else {
		view.AsyncIterator = imports.from(collections, "AsyncIterator")
	}
	if method.Timeout > 0 {
		view.Timeout = strconv.FormatFloat(method.Timeout.Seconds(), 'f', -1, 64)
	}
	view.Doc = docstring("        ", method.Comment, evasion(name, view.ProtoName), deprecated(method.Descriptor, method.Deprecated))
	return view
}

// evasion says which method it is where the Python name is not the one that a reader would expect.
func evasion(name, protoName string) string {
	if name == methodName(protoName) {
		return ""
	}
	return fmt.Sprintf("Calls of %s: another method has the Python name %s.", protoName, methodName(protoName))
}

func deprecated(descriptor protoreflect.Descriptor, marked bool) string {
	file := descriptor.ParentFile()
	switch {
	case file.Options().(*descriptorpb.FileOptions).GetDeprecated():
		return "Deprecated: the entire proto file " + file.Path() + " is marked as deprecated."
	case marked:
		return "Deprecated: marked as deprecated in " + file.Path() + "."
	default:
		return ""
	}
}

var docEscapes = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`, "\r", "")

// docstring joins paragraphs into a docstring, and gives none where all are empty.
func docstring(indent string, paragraphs ...string) string {
	var lines []string
	for _, paragraph := range paragraphs {
		paragraph = strings.Trim(paragraph, "\n")
		if strings.TrimSpace(paragraph) == "" {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			line = strings.TrimRight(strings.TrimPrefix(line, " "), " \t\r")
			if line != "" && len(lines) > 0 {
				line = indent + docEscapes.Replace(line)
			} else {
				line = strings.TrimLeft(docEscapes.Replace(line), " \t")
			}
			lines = append(lines, line)
		}
	}
	switch len(lines) {
	case 0:
		return ""
	case 1:
		if text := lines[0]; strings.HasSuffix(text, `"`) {
			lines[0] = strings.TrimSuffix(text, `"`) + `\"`
		}
		return `"""` + lines[0] + `"""`
	}
	return `"""` + strings.Join(lines, "\n") + "\n" + indent + `"""`
}
