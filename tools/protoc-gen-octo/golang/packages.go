package golang

import (
	"cmp"
	"path"
	"regexp"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

// home is the Go package that holds a proto file's code.
type home struct {
	// importPath is empty where nobody gave one; directory then says which files share the package.
	importPath string
	directory  string
	name       string
}

// homes knows the Go package of each file that has one.
type homes struct {
	settings settings
	byPath   map[string]home
}

// howToPlace ends every error about a missing import path.
const howToPlace = "let buf's managed mode set it (go_package_prefix in buf.gen.yaml), " +
	"write option go_package in the file, or pass the option M%s=<Go import path>"

func findHomes(files []protoreflect.FileDescriptor, settings settings) (homes, error) {
	found := homes{settings: settings, byPath: make(map[string]home)}
	for _, file := range files {
		at, known, err := settings.home(file)
		if err != nil {
			return homes{}, err
		}
		if known {
			found.byPath[file.Path()] = at
		}
	}
	return found, found.check(files)
}

// home follows protoc-gen-go: an M option wins over go_package for the import path, and go_package's last
// element names the package even then, unless either says ;name.
func (s settings) home(file protoreflect.FileDescriptor) (at home, known bool, err error) {
	optionPath, optionName, _ := strings.Cut(file.Options().(*descriptorpb.FileOptions).GetGoPackage(), ";")
	mappedPath, mappedName, _ := strings.Cut(s.mapped[file.Path()], ";")
	importPath := cmp.Or(mappedPath, optionPath)
	if importPath == "" {
		return s.homeByRule(file)
	}
	if !strings.ContainsAny(importPath, "./") {
		return home{}, false, ir.Errorf(file, "Go import path %q has neither a dot nor a slash: "+
			"it looks like a package name; an import path is wanted", importPath)
	}
	name := cmp.Or(mappedName, optionName, identifier(path.Base(cmp.Or(optionPath, importPath))))
	if identifier(name) != name {
		return home{}, false, ir.Errorf(file, "%q cannot be a Go package name", name)
	}
	return home{importPath: importPath, name: name}, true, nil
}

// homeByRule serves files without any Go package, whose output still has a place under source_relative.
func (s settings) homeByRule(file protoreflect.FileDescriptor) (at home, known bool, err error) {
	if !s.sourceRelative || file.Package() == "" {
		return home{}, false, nil
	}
	return home{directory: path.Dir(file.Path()), name: packageByRule(file.Package())}, true, nil
}

// version is what buf takes for a version: v1, v1beta2, v2alpha1, v1test, v1p1beta1.
var version = regexp.MustCompile(`^v[1-9][0-9]*(test.*|(p[1-9][0-9]*)?(alpha|beta)([1-9][0-9]*)?)?$`)

// packageByRule names a Go package by buf's managed-mode rule: the last part of the proto package, with
// the part in front of it when the last is a version, so that foo.v1 becomes foov1.
func packageByRule(pkg protoreflect.FullName) string {
	last := string(pkg.Name())
	if version.MatchString(last) {
		last = string(pkg.Parent().Name()) + last
	}
	return identifier(last)
}

// check refuses what the Go compiler would refuse later with a worse text.
func (h homes) check(files []protoreflect.FileDescriptor) error {
	first := make(map[home]protoreflect.FileDescriptor)
	ruled := make(map[string]protoreflect.FileDescriptor)
	for _, file := range files {
		at, known := h.byPath[file.Path()]
		if !known {
			continue
		}
		key := home{importPath: at.importPath, directory: at.directory}
		if other, ok := first[key]; ok && h.byPath[other.Path()].name != at.name {
			return ir.Errorf(file, "Go package name %s, but %s of the same Go package has %s",
				at.name, other.Path(), h.byPath[other.Path()].name)
		}
		first[key] = file
		if at.importPath == "" {
			ruled[at.directory] = file
		}
	}
	for _, file := range files {
		other, mixed := ruled[path.Dir(file.Path())]
		if at, known := h.byPath[file.Path()]; mixed && known && at.importPath != "" {
			return ir.Errorf(other, "no Go import path, but %s of the same directory has one (%s): "+howToPlace,
				file.Path(), at.importPath, other.Path())
		}
	}
	return nil
}

// services returns the package for the services of a file whose messages are at home in messages.
func (h homes) services(messages home) home {
	if h.settings.services.importPath != "" {
		return h.settings.services
	}
	return messages
}

// of returns the package that a file's code is generated into.
func (h homes) of(file protoreflect.FileDescriptor) (home, error) {
	at, known := h.byPath[file.Path()]
	if !known && h.settings.sourceRelative {
		return home{}, ir.Errorf(file, "neither a Go import path nor a proto package to name the Go package by: "+
			howToPlace, file.Path())
	}
	if !known {
		return home{}, ir.Errorf(file, "no Go import path: "+howToPlace, file.Path())
	}
	return h.services(at), nil
}

// outputName is where the generated file goes.
func (h homes) outputName(file protoreflect.FileDescriptor, at home) (string, error) {
	base := file.Path()
	if extension := path.Ext(base); extension == ".proto" || extension == ".protodevel" {
		base = strings.TrimSuffix(base, extension)
	}
	name := base + "_octo.go"
	if h.settings.sourceRelative {
		return name, nil
	}
	name = path.Join(at.importPath, path.Base(name))
	if h.settings.module == "" {
		return name, nil
	}
	inModule, ok := strings.CutPrefix(name, h.settings.module+"/")
	if !ok {
		return "", ir.Errorf(file, "Go import path %s is not inside module=%s", at.importPath, h.settings.module)
	}
	return inModule, nil
}
