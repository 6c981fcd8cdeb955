package main

import (
	"encoding/hex"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// headFile holds heads: their bytes come from protobuf's own library.
func headFile() *vector.File {
	return &vector.File{
		Title: "Heads",
		Notes: []string{
			"input.bytes is a head of the message kind; result.fields are its fields by their proto names, defaults left out.",
			"Bytes are hex, 64-bit numbers are decimal strings, other numbers and enums are numbers.",
			"With result.canonical, encoding the fields gives the same bytes. Else the bytes only decode to them.",
			"Hop fields stand under their own names here; patch.json has which value wins.",
			"An invalid head is a bad head (W-END-7) on a call's stream and a protocol error (W-CONN-6) on stream 0.",
		},
		Flags: map[string]string{
			"NonCanonical": "valid, but not as a sender writes it",
			"UnknownField": "has fields that version 1 does not define",
			"NotUTF8":      "has text that is no UTF-8",
		},
		Vectors: slices.Concat(requestHeads(), responseHeads(), otherHeads(), oddHeads(), badHeads()),
	}
}

// fieldsOf renders a message as the notes say.
func fieldsOf(m protoreflect.Message) vector.Map {
	out := vector.Map{}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !fd.IsList() {
			out[string(fd.Name())] = valueOf(fd, v)
			return true
		}
		list := []any{}
		for i := range v.List().Len() {
			list = append(list, valueOf(fd, v.List().Get(i)))
		}
		out[string(fd.Name())] = list
		return true
	})
	return out
}

func valueOf(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.BytesKind:
		return hex.EncodeToString(v.Bytes())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.FormatUint(v.Uint(), 10)
	case protoreflect.EnumKind:
		return int32(v.Enum())
	case protoreflect.MessageKind:
		return fieldsOf(v.Message())
	}
	return v.Interface()
}

func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // a message of this file that cannot be written is a bug of this file
	}
	return b
}

func canonicalHead(id, comment string, m proto.Message, rules ...string) vector.Vector {
	return vector.Vector{
		ID: "head/" + id, Comment: comment, Rules: append(rules, "W-HEAD-1", "W-HEAD-2"),
		Kind:   string(m.ProtoReflect().Descriptor().Name()),
		Input:  vector.Map{"bytes": hex.EncodeToString(mustMarshal(m))},
		Result: vector.Map{"valid": true, "canonical": true, "fields": fieldsOf(m.ProtoReflect())},
	}
}

// oddHead is a head that decodes to m though no sender writes it so.
func oddHead(id, comment string, b []byte, m proto.Message, flags []string, rules ...string) vector.Vector {
	return vector.Vector{
		ID: "head/" + id, Comment: comment, Rules: rules, Flags: flags,
		Kind:   string(m.ProtoReflect().Descriptor().Name()),
		Input:  vector.Map{"bytes": hex.EncodeToString(b)},
		Result: vector.Map{"valid": true, "canonical": false, "fields": fieldsOf(m.ProtoReflect())},
	}
}

func badHead(id, comment, kind string, b []byte, rules ...string) vector.Vector {
	return vector.Vector{
		ID: "head/" + id, Comment: comment, Rules: append(rules, "W-HEAD-4"), Kind: kind,
		Input:  vector.Map{"bytes": hex.EncodeToString(b)},
		Result: vector.Map{"valid": false},
	}
}

func oddHeads() []vector.Vector {
	odd := []string{"NonCanonical"}
	call := &wirev1.RequestHead{TimeoutUs: 7, Target: []byte("t"), Service: []byte("s"), Method: []byte("m")}
	return []vector.Vector{
		oddHead("odd/order", "fields in descending order",
			slices.Concat(raw.Text(5, "m"), raw.Text(4, "s"), raw.Text(3, "t"), raw.Fixed64(1, 7)), call, odd, "W-HEAD-2", "W-HEAD-3"),
		oddHead("odd/default-spelled-out", "a default value is written",
			slices.Concat(raw.Num(2, 0), raw.Text(3, "t"), raw.Num(14, 0), raw.Text(13, "")), &wirev1.RequestHead{Target: []byte("t")}, odd, "W-HEAD-2"),
		oddHead("odd/long-varint", "total_length 5 in ten bytes",
			raw.Varint(raw.Tag(nil, 2, 0), 5, 10), &wirev1.MessageHead{TotalLength: 5}, odd, "W-HEAD-2"),
		oddHead("odd/long-tag", "the tag of field 2 in two bytes",
			[]byte{0x90, 0x00, 0x05}, &wirev1.MessageHead{TotalLength: 5}, odd, "W-HEAD-2"),
		oddHead("odd/long-length", "the length of target in three bytes",
			append(raw.Varint(raw.Tag(nil, 3, 2), 1, 3), 't'), &wirev1.RequestHead{Target: []byte("t")}, odd, "W-HEAD-2"),
		oddHead("odd/twice", "a singular field twice: the last one wins",
			slices.Concat(raw.Num(2, 5), raw.Num(2, 9)), &wirev1.MessageHead{TotalLength: 9}, odd, "W-HEAD-5"),
		oddHead("odd/bool-2", "a bool of 2 is true",
			slices.Concat(raw.Num(14, 2)), &wirev1.RequestHead{Idempotent: true}, odd, "W-HEAD-2"),
		oddHead("odd/unknown-varint", "an unknown field is skipped, and kept by hops",
			slices.Concat(raw.Num(2, 5), raw.Num(50, 1)), &wirev1.MessageHead{TotalLength: 5}, []string{"UnknownField"}, "W-HEAD-4"),
		oddHead("odd/unknown-kinds", "unknown fields of all four wire types",
			slices.Concat(raw.Num(40, 1<<63), raw.Fixed64(41, 1), raw.Text(42, "x"), raw.Fixed32(43, 1), raw.Text(3, "t")),
			&wirev1.RequestHead{Target: []byte("t")}, []string{"UnknownField"}, "W-HEAD-4"),
		oddHead("odd/highest-number", "the highest field number",
			slices.Concat(raw.Text(3, "t"), raw.Num(536870911, 1)), &wirev1.RequestHead{Target: []byte("t")}, []string{"UnknownField"}, "W-HEAD-4"),
		oddHead("odd/unknown-hop-field", "hop field 127, which version 1 does not define",
			slices.Concat(raw.Text(3, "t"), raw.Text(127, "z")), &wirev1.RequestHead{Target: []byte("t")}, []string{"UnknownField"}, "W-HOP-4"),
		oddHead("odd/status-unknown-field", "an unknown field inside of a status",
			raw.Text(1, slices.Concat(raw.Num(1, 5), raw.Num(30, 7))), &wirev1.Reset{Status: &wirev1.Status{Code: 5}}, []string{"UnknownField"}, "W-HEAD-4"),
	}
}

func badHeads() []vector.Vector {
	ten := []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return []vector.Vector{
		badHead("bad/number-0", "field number 0", "RequestHead", []byte{0x02, 0x01, 'x'}),
		badHead("bad/number-too-high", "a field number above 536870911", "RequestHead", raw.Varint(raw.Varint(nil, 536870912<<3, 0), 1, 0)),
		badHead("bad/group-start", "wire type 3", "RequestHead", []byte{0xa3, 0x06, 0xa4, 0x06}),
		badHead("bad/group-end", "wire type 4", "RequestHead", []byte{0xa4, 0x06}),
		badHead("bad/wire-type-6", "wire type 6", "RequestHead", []byte{0x1e, 0x01}),
		badHead("bad/wire-type-7", "wire type 7", "RequestHead", []byte{0x1f, 0x01}),
		badHead("bad/length-beyond", "a length beyond the head's end", "RequestHead", []byte{0x1a, 0x05, 'a', 'b'}),
		badHead("bad/length-huge", "a length of 2^64-1", "RequestHead", append(raw.Tag(nil, 3, 2), append(ten[1:], 0x01)...)),
		badHead("bad/cut-tag", "the head ends inside a tag", "RequestHead", []byte{0xa2}),
		badHead("bad/cut-varint", "the head ends inside a varint", "MessageHead", []byte{0x10, 0x80}),
		badHead("bad/cut-fixed64", "the head ends inside the timeout", "RequestHead", []byte{0x09, 1, 2, 3, 4, 5, 6, 7}),
		badHead("bad/cut-fixed32", "the head ends inside four bytes", "RequestHead", append(raw.Tag(nil, 40, 5), 1, 2, 3)),
		badHead("bad/varint-65-bits", "a varint of more than 64 bits", "MessageHead", append(slices.Clone(ten), 0x02)),
		badHead("bad/varint-11-bytes", "a varint of eleven bytes", "MessageHead", append(slices.Clone(ten), 0x80, 0x00)),
		badHead("bad/timeout-as-varint", "timeout_us in another wire type than its own", "RequestHead", raw.Num(1, 5)),
		badHead("bad/target-as-varint", "target in another wire type than its own", "RequestHead", raw.Num(3, 5)),
		badHead("bad/total-as-bytes", "total_length in another wire type than its own", "MessageHead", raw.Text(2, "5")),
		badHead("bad/metadata-entry", "a metadata entry that does not parse", "RequestHead", raw.Text(7, []byte{0x0a, 0x05, 'a'})),
		badHead("bad/entry-key-as-varint", "a metadata key in another wire type", "RequestHead", raw.Text(7, raw.Num(1, 1))),
		badHead("bad/status", "a status that does not parse", "ResponseHead", raw.Text(1, []byte{0x08})),
		badHead("bad/status-code-as-bytes", "a code in another wire type", "Reset", raw.Text(1, raw.Text(1, "5"))),
		badHead("bad/hop-attempt-as-bytes", "hop_attempt in another wire type", "RequestHead", raw.Text(102, "1"), "W-HOP-4"),
		badHead("bad/hop-caller-as-varint", "hop_caller in another wire type", "RequestHead", raw.Num(100, 1), "W-HOP-4"),
		badHead("bad/hop-target-as-varint", "hop_target in another wire type", "RequestHead", raw.Num(106, 1), "W-HOP-4"),
		badHead("bad/hop-shadow-as-bytes", "hop_shadow in another wire type", "RequestHead", raw.Text(107, "1"), "W-HOP-4"),
		badHead("bad/hop-timings-as-varint", "hop_timings in another wire type", "ResponseHead", raw.Num(105, 1), "W-HOP-4"),
		badHead("bad/hello-limits", "limits that do not parse", "Hello", raw.Text(12, []byte{0x08})),
		badHead("bad/goaway-last-as-bytes", "last in another wire type", "GoAway", raw.Text(2, "5")),
	}
}
