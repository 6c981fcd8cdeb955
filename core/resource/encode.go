package resource

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Format writes a message as YAML that [Parse] reads: fields that are set, in the order of the message, durations as text.
func Format(m proto.Message) []byte {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	// Neither can fail: the tree is ours, and a buffer takes everything.
	_ = enc.Encode(node(m.ProtoReflect()))
	_ = enc.Close()
	return out.Bytes()
}

// fieldsOf are the fields of a message, in the order in which its file declares them.
func fieldsOf(m protoreflect.Message) []protoreflect.FieldDescriptor {
	var out []protoreflect.FieldDescriptor
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); m.Has(f) {
			out = append(out, f)
		}
	}
	return out
}

func node(m protoreflect.Message) *yaml.Node {
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: d.AsDuration().String()}
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, f := range fieldsOf(m) {
		n.Content = append(n.Content, text(string(f.Name())), valueNode(f, m.Get(f)))
	}
	return n
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func valueNode(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch {
	case f.IsMap():
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, k := range mapKeys(v.Map()) {
			n.Content = append(n.Content, scalarNode(f.MapKey(), k.Value()), single(f.MapValue(), v.Map().Get(k)))
		}
		return n
	case f.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.List().Len() {
			n.Content = append(n.Content, single(f, v.List().Get(i)))
		}
		return n
	}
	return single(f, v)
}

func mapKeys(m protoreflect.Map) []protoreflect.MapKey {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool { keys = append(keys, k); return true })
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

func single(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	if f.Message() != nil {
		return node(v.Message())
	}
	return scalarNode(f, v)
}

func scalarNode(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	_, tag := shape(f)
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: scalarText(f, v)}
}

func scalarText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	}
	return v.String()
}

// Field is one value in a message: a scalar, a duration, or a message or list that is there and empty.
type Field struct {
	// Path such as routes["canary"].timeout: entries of lists that have names go by them, others by their index.
	Path  string
	Value string
}

// Fields are the values of a message that are set, in its order.
func Fields(m proto.Message) []Field { return appendFields(nil, m.ProtoReflect(), "") }

func appendFields(out []Field, m protoreflect.Message, path string) []Field {
	for _, f := range fieldsOf(m) {
		at, v := join(path, string(f.Name())), m.Get(f)
		switch {
		case f.IsMap():
			for _, k := range mapKeys(v.Map()) {
				out = appendField(out, f.MapValue(), v.Map().Get(k), fmt.Sprintf("%s[%q]", at, k.String()))
			}
		case f.IsList():
			for i := range v.List().Len() {
				out = appendField(out, f, v.List().Get(i), at+"["+index(f, v.List(), i)+"]")
			}
		default:
			out = appendField(out, f, v, at)
		}
	}
	return out
}

func appendField(out []Field, f protoreflect.FieldDescriptor, v protoreflect.Value, at string) []Field {
	if f.Kind() == protoreflect.BytesKind { // nobody compares base64
		sum := sha256.Sum256(v.Bytes())
		return append(out, Field{at, fmt.Sprintf("%d bytes, sha256 %x", len(v.Bytes()), sum[:6])})
	}
	if f.Message() == nil {
		return append(out, Field{at, scalarText(f, v)})
	}
	if d, ok := v.Message().Interface().(*durationpb.Duration); ok {
		return append(out, Field{at, d.AsDuration().String()})
	}
	before := len(out)
	if out = appendFields(out, v.Message(), at); len(out) == before {
		out = append(out, Field{at, "{}"})
	}
	return out
}

// index is how an entry of a list is called: by its name, if it is the only one of it.
func index(f protoreflect.FieldDescriptor, list protoreflect.List, i int) string {
	name := func(j int) string {
		if f.Message() == nil {
			return ""
		}
		n := f.Message().Fields().ByName("name")
		if n == nil || n.Kind() != protoreflect.StringKind || n.IsList() {
			return ""
		}
		return list.Get(j).Message().Get(n).String()
	}
	own := name(i)
	for j := range list.Len() {
		if own == "" || j != i && name(j) == own {
			return strconv.Itoa(i)
		}
	}
	return strconv.Quote(own)
}

// FieldChange is a field that differs between two messages; an empty value: it is not there.
type FieldChange struct{ Path, Before, After string }

// Compare returns what differs between two messages of one type, in the order of its fields: what is gone comes where it was.
// Order counts: that named entries of a list stand otherwise is a change of the list.
func Compare(before, after proto.Message) []FieldChange {
	old, now := Fields(before), Fields(after)
	was, is := make(map[string]string, len(old)), make(map[string]string, len(now))
	for _, f := range old {
		was[f.Path] = f.Value
	}
	for _, f := range now {
		is[f.Path] = f.Value
	}
	var out []FieldChange
	for _, f := range old {
		if v, ok := is[f.Path]; !ok {
			out = append(out, FieldChange{f.Path, f.Value, ""})
		} else if v != f.Value {
			out = append(out, FieldChange{f.Path, f.Value, v})
		}
	}
	for _, f := range now {
		if _, ok := was[f.Path]; !ok {
			out = append(out, FieldChange{f.Path, "", f.Value})
		}
	}
	if len(out) == 0 && !proto.Equal(before, after) {
		out = append(out, FieldChange{"order of entries", strings.Join(paths(old), " "), strings.Join(paths(now), " ")})
	}
	return out
}

// paths are the names of fields whose order differs, shortened to what people can read.
func paths(fields []Field) []string {
	var out []string
	for _, f := range fields {
		if list, ok := strings.CutSuffix(f.Path, ".name"); ok {
			out = append(out, list)
		}
	}
	return out
}
