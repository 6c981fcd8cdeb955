// Package golang is the back-end for lang=go.
//
// For each proto file with services it writes <file>_octo.go into the package of protoc-gen-go's
// <file>.pb.go, whose types it names, or into the package that option services names: then messages are
// for everybody, and only who calls or serves imports the SDK. Where names and import paths come from is in packages.go, what
// happens when a name is taken is in names.go, and golang.tmpl is what comes out.
package golang

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/format"
	"strings"
	"text/template"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

//go:embed golang.tmpl
var templateText string

// Generate is the back-end. Files without services give no output.
func Generate(request ir.Request, options []ir.Option) ([]ir.Output, error) {
	settings, err := readSettings(options)
	if err != nil {
		return nil, err
	}
	homes, err := findHomes(request.All, settings)
	if err != nil {
		return nil, err
	}
	run := run{
		version:  request.Version,
		homes:    homes,
		packages: declare(request.All, homes),
		page:     template.Must(template.New("golang").Parse(templateText)),
	}
	var outputs []ir.Output
	for _, file := range request.Files {
		if len(file.Services) == 0 {
			continue
		}
		output, err := run.file(file)
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, output)
	}
	return outputs, nil
}

// run is what the files of one request share.
type run struct {
	version  string
	homes    homes
	packages map[home]declared
	page     *template.Template
}

// declared are the package-level names of one Go package.
type declared struct {
	names    scope
	services map[protoreflect.FullName]serviceNames
}

// declare gives names package by package: all of protobuf's first, so that ours make way and never the
// reverse, then the services in order of path, so that the result does not depend on the files asked for.
func declare(files []protoreflect.FileDescriptor, homes homes) map[home]declared {
	packages := make(map[home]declared)
	for _, file := range files {
		at, known := homes.byPath[file.Path()]
		if !known {
			continue
		}
		for _, each := range []home{at, homes.services(at)} {
			if _, ok := packages[each]; !ok {
				packages[each] = declared{names: make(scope), services: make(map[protoreflect.FullName]serviceNames)}
			}
		}
		packages[at].names.claimProtobuf(file)
	}
	for _, file := range files {
		at, known := homes.byPath[file.Path()]
		if !known {
			continue
		}
		services, at := file.Services(), homes.services(at)
		for i := range services.Len() {
			packages[at].services[services.Get(i).FullName()] = packages[at].names.claimService(services.Get(i))
		}
	}
	return packages
}

// The views are what the template sees: text that is ready to print.
type (
	fileView struct {
		Version, Source, Package string
		Standard, Others         []importLine
		Services                 []serviceView
	}
	serviceView struct {
		serviceNames
		ProtoName, TargetName string
		ClientDoc, ServerDoc  string
		DeprecatedNote        string
		Methods               []methodView
	}
	methodView struct {
		Name, ProtoName string
		Kind            ir.Kind
		Input, Output   string
		Doc             string
		Idempotent      bool
		Timeout         string
	}
)

// Shape is the SDK's word for the kind in the names of its functions: CallUnary, ServerStreamHandler.
func (m methodView) Shape() string { return strings.TrimSuffix(m.Kind.String(), "ing") }

// StreamsIn says that the client sends a stream.
func (m methodView) StreamsIn() bool {
	return m.Kind == ir.ClientStreaming || m.Kind == ir.BidiStreaming
}

// StreamsOut says that the server sends a stream.
func (m methodView) StreamsOut() bool {
	return m.Kind == ir.ServerStreaming || m.Kind == ir.BidiStreaming
}

func (r run) file(file ir.File) (ir.Output, error) {
	at, err := r.homes.of(file.Descriptor)
	if err != nil {
		return ir.Output{}, err
	}
	name, err := r.homes.outputName(file.Descriptor, at)
	if err != nil {
		return ir.Output{}, err
	}
	view := fileView{Version: r.version, Source: file.Descriptor.Path(), Package: at.name}
	imports := newImports(at, r.packages[at].names)
	for _, service := range file.Services {
		shown, err := r.service(service, r.packages[at].services[service.Descriptor.FullName()], imports)
		if err != nil {
			return ir.Output{}, err
		}
		view.Services = append(view.Services, shown)
	}
	view.Standard, view.Others = imports.lines()
	var page bytes.Buffer
	if err := r.page.Execute(&page, view); err != nil {
		return ir.Output{}, fmt.Errorf("%s: %w", name, err)
	}
	content, err := format.Source(page.Bytes())
	if err != nil {
		return ir.Output{}, fmt.Errorf("%s: the generated code is not Go; please report this with your proto: %w",
			name, err)
	}
	return ir.Output{Name: name, Content: string(content)}, nil
}

func (r run) service(service ir.Service, names serviceNames, imports *imports) (serviceView, error) {
	protoName := string(service.Descriptor.FullName())
	note := deprecated(service.Descriptor, service.Deprecated)
	view := serviceView{
		serviceNames:   names,
		ProtoName:      protoName,
		TargetName:     service.Target,
		ClientDoc:      comment(names.Client+" calls "+protoName+".", service.Comment, note),
		ServerDoc:      comment(names.Server+" is what implements "+protoName+".", service.Comment, note),
		DeprecatedNote: comment(note),
	}
	taken := make(scope)
	for _, method := range service.Methods {
		wanted := camelCase(string(method.Descriptor.Name()))
		shown, err := r.method(method, taken.claim(wanted), wanted, imports)
		if err != nil {
			return serviceView{}, err
		}
		view.Methods = append(view.Methods, shown)
	}
	return view, nil
}

func (r run) method(method ir.Method, name, wanted string, imports *imports) (methodView, error) {
	input, err := imports.message(method.Descriptor, method.Input, r.homes)
	if err != nil {
		return methodView{}, err
	}
	output, err := imports.message(method.Descriptor, method.Output, r.homes)
	if err != nil {
		return methodView{}, err
	}
	imports.standard(contextPath)
	var evasion string
	if name != wanted {
		evasion = fmt.Sprintf("%s calls %s: another method has the Go name %s.", name, method.Descriptor.Name(), wanted)
	}
	view := methodView{
		Name:       name,
		ProtoName:  string(method.Descriptor.Name()),
		Kind:       method.Kind,
		Input:      input,
		Output:     output,
		Doc:        comment(method.Comment, evasion, deprecated(method.Descriptor, method.Deprecated)),
		Idempotent: method.Idempotent,
	}
	if method.Timeout > 0 {
		imports.standard(timePath)
		view.Timeout = durationExpression(method.Timeout)
	}
	return view, nil
}

// durationExpression writes a duration in the largest unit that divides it.
func durationExpression(value time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{
		{time.Hour, "time.Hour"}, {time.Minute, "time.Minute"}, {time.Second, "time.Second"},
		{time.Millisecond, "time.Millisecond"}, {time.Microsecond, "time.Microsecond"},
	} {
		if value%unit.size == 0 {
			return fmt.Sprintf("%d * %s", value/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%d * time.Nanosecond", value)
}

// comment joins paragraphs into a Go comment and leaves out empty ones. Each line starts with a blank, so
// that no text of a proto file becomes a directive such as //go:embed.
func comment(paragraphs ...string) string {
	var lines []string
	for _, paragraph := range paragraphs {
		paragraph = strings.Trim(paragraph, "\n")
		if strings.TrimSpace(paragraph) == "" {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "//")
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			line = strings.TrimRight(line, " \t\r")
			if line != "" && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
				line = " " + line
			}
			lines = append(lines, "//"+line)
		}
	}
	return strings.Join(lines, "\n")
}
