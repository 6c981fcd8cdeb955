package resource

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// decoder fills a message from a YAML tree, led by the message's descriptor, and gathers what does not fit.
//
// It goes by the tree rather than through JSON, because protojson cannot say on which line of the YAML
// something stands.
type decoder struct {
	file     string
	problems []Problem
}

func (d *decoder) bad(n *yaml.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: n.Line, Field: path, Text: fmt.Sprintf(format, args...)})
}

// is checks a node's kind, and that it is neither an alias, an anchor nor a null.
func (d *decoder) is(n *yaml.Node, kind yaml.Kind, path, needs string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.bad(n, path, "anchors and aliases are not taken: write the value out")
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.bad(n, path, "has no value: write one, or leave the field out")
	case n.Kind != kind:
		d.bad(n, path, "needs %s, not %s", needs, describe(n))
	default:
		return true
	}
	return false
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(shorten(n.Value))
}

// shorten keeps a value from flooding an error.
func shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

func (d *decoder) message(n *yaml.Node, m protoreflect.Message, path string) {
	if !d.is(n, yaml.MappingNode, path, "a mapping") {
		return
	}
	seen := make(map[protoreflect.FullName]bool) // fields, and oneofs with a field set
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f := d.field(key, m.Descriptor(), path)
		if f == nil {
			continue
		}
		at := join(path, string(f.Name()))
		if seen[f.FullName()] {
			d.bad(key, at, "stands twice")
			continue
		}
		seen[f.FullName()] = true
		if one := f.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if seen[one.FullName()] {
				d.bad(key, at, "excludes the other one of %s that is set: keep one", choices(one))
				continue
			}
			seen[one.FullName()] = true
		}
		d.value(value, m, f, at)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func choices(one protoreflect.OneofDescriptor) string {
	var names []string
	for i := range one.Fields().Len() {
		names = append(names, string(one.Fields().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}

func (d *decoder) field(key *yaml.Node, m protoreflect.MessageDescriptor, path string) protoreflect.FieldDescriptor {
	if key.Kind != yaml.ScalarNode || key.Anchor != "" {
		d.bad(key, path, "a key must be a plain name")
		return nil
	}
	if f := m.Fields().ByName(protoreflect.Name(key.Value)); f != nil {
		return f
	}
	if f := m.Fields().ByJSONName(key.Value); f != nil {
		return f
	}
	at := join(path, shorten(key.Value))
	if near := nearest(key.Value, m); near != "" {
		d.bad(key, at, "is not a field of %s; did you mean %s?", m.Name(), near)
	} else {
		d.bad(key, at, "is not a field of %s", m.Name())
	}
	return nil
}

func (d *decoder) value(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string) {
	switch {
	case f.IsMap():
		d.mapping(n, m.Mutable(f).Map(), f, path)
	case f.IsList():
		if !d.is(n, yaml.SequenceNode, path, "a list") {
			return
		}
		list := m.Mutable(f).List()
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if f.Message() != nil {
				e := list.NewElement()
				d.one(item, e.Message(), at)
				list.Append(e) // also a bad one, so that indexes stay those of the file
			} else if v, ok := d.scalar(item, f, at); ok {
				list.Append(v)
			}
		}
	case f.Message() != nil:
		d.one(n, m.Mutable(f).Message(), path)
	default:
		if v, ok := d.scalar(n, f, path); ok {
			m.Set(f, v)
		}
	}
}

func (d *decoder) mapping(n *yaml.Node, into protoreflect.Map, f protoreflect.FieldDescriptor, path string) {
	if !d.is(n, yaml.MappingNode, path, "a mapping") {
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := fmt.Sprintf("%s[%q]", path, shorten(key.Value))
		k, ok := d.scalar(key, f.MapKey(), at)
		if !ok {
			continue
		}
		if seen[key.Value] {
			d.bad(key, at, "stands twice")
			continue
		}
		seen[key.Value] = true
		if f.MapValue().Message() != nil {
			v := into.NewValue()
			d.one(value, v.Message(), at)
			into.Set(k.MapKey(), v)
		} else if v, ok := d.scalar(value, f.MapValue(), at); ok {
			into.Set(k.MapKey(), v)
		}
	}
}

// one fills a message: a duration from its text, any other one from a mapping.
func (d *decoder) one(n *yaml.Node, m protoreflect.Message, path string) {
	into, isDuration := m.Interface().(*durationpb.Duration)
	if !isDuration {
		d.message(n, m, path)
		return
	}
	const needs = `a duration such as "250ms", "1.5s" or "2m"`
	if !d.is(n, yaml.ScalarNode, path, needs) {
		return
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil || n.Tag != "!!str" {
		d.bad(n, path, "needs %s, not %s", needs, describe(n))
		return
	}
	into.Seconds, into.Nanos = int64(v/time.Second), int32(v%time.Second)
}

// scalar converts a value to its field's type. Nothing is guessed: a number is not a string, nor the other
// way round.
func (d *decoder) scalar(n *yaml.Node, f protoreflect.FieldDescriptor, path string) (v protoreflect.Value, ok bool) {
	needs, tag := shape(f)
	if !d.is(n, yaml.ScalarNode, path, needs) {
		return v, false
	}
	if tag == "!!float" && n.Tag == "!!int" {
		tag = "!!int"
	}
	if n.Tag != tag {
		if tag == "!!str" && f.Enum() == nil {
			d.bad(n, path, "needs %s: write %q", needs, shorten(n.Value))
		} else {
			d.bad(n, path, "needs %s, not %s", needs, describe(n))
		}
		return v, false
	}
	v, err := convert(n.Value, f)
	if err != nil {
		d.bad(n, path, "needs %s, not %s", needs, describe(n))
	}
	return v, err == nil
}

// shape says what a field needs, for people and as YAML's tag.
func shape(f protoreflect.FieldDescriptor) (needs, tag string) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return "a string", "!!str"
	case protoreflect.BytesKind:
		return "bytes in base64", "!!str"
	case protoreflect.BoolKind:
		return "true or false", "!!bool"
	case protoreflect.EnumKind:
		var names []string
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return "one of " + strings.Join(names, ", "), "!!str"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number", "!!float"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return fmt.Sprintf("a whole number from 0 to %d", uint32(math.MaxUint32)), "!!int"
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "a whole number from 0 on", "!!int"
	}
	return "a whole number", "!!int"
}

func convert(text string, f protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.DecodeString(text)
		return protoreflect.ValueOfBytes(b), err
	case protoreflect.BoolKind:
		b, err := strconv.ParseBool(strings.ToLower(text))
		return protoreflect.ValueOfBool(b), err
	case protoreflect.EnumKind:
		e := f.Enum().Values().ByName(protoreflect.Name(text))
		if e == nil {
			return protoreflect.Value{}, strconv.ErrSyntax
		}
		return protoreflect.ValueOfEnum(e.Number()), nil
	case protoreflect.FloatKind:
		x, err := strconv.ParseFloat(text, 32)
		return protoreflect.ValueOfFloat32(float32(x)), err
	case protoreflect.DoubleKind:
		x, err := strconv.ParseFloat(text, 64)
		return protoreflect.ValueOfFloat64(x), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		x, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(x)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		x, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(x), err
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		x, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(x)), err
	}
	x, err := strconv.ParseInt(text, 10, 64)
	return protoreflect.ValueOfInt64(x), err
}

// nearest returns the field whose name is closest to what was written, if it is close enough to be meant.
func nearest(name string, m protoreflect.MessageDescriptor) string {
	best, distance := "", 1+len(name)/3
	for i := range m.Fields().Len() {
		f := string(m.Fields().Get(i).Name())
		if d := edits(plain(name), plain(f)); d <= distance {
			best, distance = f, d-1
		}
	}
	return best
}

// edits is Levenshtein's distance.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
