package resource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// MaxFile bounds a file, in bytes.
const MaxFile = 64 << 20

// Document is a file that was read, and knows where in it each field stands.
type Document struct {
	File string
	root *yaml.Node
}

// ReadFile reads a YAML file into a message, as [Parse] does.
func ReadFile(path string, into proto.Message) (*Document, error) {
	data, err := ReadBytes(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, into)
}

// ReadBytes reads a file of at most [MaxFile] bytes.
func ReadBytes(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, &Error{[]Problem{{File: path, Text: fmt.Sprintf("is larger than %d bytes", MaxFile)}}}
	}
	return data, nil
}

// Parse reads one YAML document into a message, whose fields it merges over. It is strict: each field is
// known and stands once, each value has its field's type, and there are no anchors, aliases, nulls or
// further documents. What is wrong comes back as an [*Error] with all problems.
func Parse(file string, data []byte, into proto.Message) (*Document, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		// An empty file is more likely half-written than meant.
		return nil, &Error{[]Problem{{File: file, Line: 1, Text: "is empty; a document without any field is written {}"}}}
	case err != nil:
		return nil, &Error{[]Problem{syntaxProblem(file, err)}}
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, &Error{[]Problem{{File: file, Line: more.Line, Text: "holds a second document; only one is read"}}}
	} else if !errors.Is(err, io.EOF) {
		return nil, &Error{[]Problem{syntaxProblem(file, err)}}
	}
	doc := &Document{File: file, root: root.Content[0]}
	d := decoder{file: file}
	d.message(doc.root, into.ProtoReflect(), "")
	return doc, Errors(d.problems)
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntaxProblem takes the line out of the parser's text.
func syntaxProblem(file string, err error) Problem {
	text, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return Problem{File: file, Line: line, Text: "is not YAML: " + strings.TrimPrefix(text, "yaml: ")}
}

// Locate sets file and line of problems that say a field of this document, or of the nearest field
// around it that the file holds.
func (d *Document) Locate(problems []Problem) {
	for i := range problems {
		problems[i].File, problems[i].Line = d.File, d.line(problems[i].Field)
	}
}

// LocateError does the same for an error that holds an [*Error], and returns it.
func (d *Document) LocateError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		d.Locate(e.Problems)
	}
	return err
}

var pathStep = regexp.MustCompile(`^(?:\.?([A-Za-z0-9_]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\])`)

// line follows a field's path through the tree as far as it goes.
func (d *Document) line(path string) int {
	n, line := d.root, d.root.Line
	for path != "" && n != nil {
		m := pathStep.FindStringSubmatch(path)
		if m == nil {
			break
		}
		path = path[len(m[0]):]
		var at *yaml.Node // where the step stands: the key, or the item
		switch {
		case m[2] != "":
			at, n = item(n, m[2])
		case m[1] != "":
			at, n = entry(n, func(key string) bool { return plain(key) == plain(m[1]) })
		default:
			key, _ := strconv.Unquote(`"` + m[3] + `"`)
			at, n = entry(n, func(k string) bool { return k == key })
		}
		if at != nil {
			line = at.Line
		}
	}
	return line
}

// plain makes the two spellings of a field's name equal: max_park and maxPark.
func plain(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

func item(n *yaml.Node, index string) (at, value *yaml.Node) {
	i, err := strconv.Atoi(index)
	if err != nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
		return nil, nil
	}
	return n.Content[i], n.Content[i]
}

func entry(n *yaml.Node, is func(key string) bool) (at, value *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if is(n.Content[i].Value) {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
