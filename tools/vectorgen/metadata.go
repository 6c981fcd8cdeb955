package main

import (
	"fmt"
	"slices"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func metadataFile() *vector.File {
	return &vector.File{
		Title: "Metadata",
		Notes: []string{
			"kind entry: a user of an SDK sets an entry; key and value are hex. Refused before sending with INVALID_ARGUMENT (3). An SDK may lower upper-case keys instead, if its guide says so (SEM-21).",
			"kind received: the same entry arrives; an SDK leaves out what breaks the rules, and keys that are reserved, and goes on.",
			"kind size: entries of so many bytes of key and value; the limit is the default. Refused with RESOURCE_EXHAUSTED, HEAD_TOO_LARGE before sending.",
		},
		Flags:   map[string]string{"UpperCase": "may be lowered instead of refused", "Reserved": "the SDK's own keys"},
		Vectors: slices.Concat(entryVectors(), sizes()),
	}
}

func entryVectors() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct {
		id, key, value string
		ok             bool
		flags          []string
	}{
		{"plain", "key", "value", true, nil}, {"all-characters", "abc-xyz_0.9", "v", true, nil}, {"one-letter", "k", "", true, nil},
		{"digit-first", "0k", "v", true, nil}, {"dash-first", "-k", "v", true, nil}, {"empty-value", "k", "", true, nil},
		{"all-printable", "k", " !\"#$%&'()*+,-./0123456789:;<=>?@AZ[\\]^_`az{|}~", true, nil}, {"spaces-around", "k", "  v  ", true, nil},
		{"bin-every-byte", "k-bin", string(allBytes()), true, nil}, {"bin-empty", "k-bin", "", true, nil}, {"bin-comma", "k-bin", "a,b", true, nil},
		{"bin-alone", "-bin", "\xff", true, nil}, {"bin-inside", "k-bin-x", "\xff", false, nil}, {"bin-no-dash", "kbin", "\xff", false, nil},
		{"empty-key", "", "v", false, nil}, {"upper", "Key", "v", false, []string{"UpperCase"}}, {"upper-bin", "k-BIN", "v", false, []string{"UpperCase"}},
		{"space-in-key", "a b", "v", false, nil}, {"colon", ":path", "v", false, nil}, {"slash", "a/b", "v", false, nil}, {"nul-in-key", "a\x00", "v", false, nil},
		{"not-ascii-key", "schlüssel", "v", false, nil}, {"tab", "k", "a\tb", false, nil}, {"newline", "k", "a\nb", false, nil}, {"cr", "k", "a\rb", false, nil},
		{"nul", "k", "\x00", false, nil}, {"del", "k", "\x7f", false, nil}, {"unicode", "k", "ä", false, nil}, {"high-byte", "k", "\x80", false, nil},
		{"reserved", "octo-trace", "v", false, []string{"Reserved"}}, {"reserved-bin", "octo-x-bin", "v", false, []string{"Reserved"}},
		{"reserved-prefix-only", "octo-", "v", false, []string{"Reserved"}}, {"not-reserved", "octo", "v", true, nil}, {"not-reserved-longer", "octopus", "v", true, nil},
		{"grpc", "grpc-status", "v", true, nil},
	} {
		in := vector.Map{"key": hexOf(c.key), "value": hexOf(c.value)}
		result := vector.Map{"ok": true}
		if !c.ok {
			result = vector.Map{"ok": false, "code": 3}
		}
		out = append(out,
			vector.Vector{ID: "metadata/entry/" + c.id, Comment: fmt.Sprintf("key %+q", c.key), Rules: []string{"W-HEAD-8", "SEM-24"}, Flags: c.flags, Kind: "entry", Input: in, Result: result},
			vector.Vector{ID: "metadata/received/" + c.id, Comment: fmt.Sprintf("key %+q arrives", c.key), Rules: []string{"W-HEAD-8"}, Flags: c.flags, Kind: "received",
				Input: in, Result: vector.Map{"shown": c.ok}})
	}
	return out
}

func sizes() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct {
		id  string
		in  [][2]int
		sum int
	}{
		{"one-exact", [][2]int{{10, 16384 - 42}}, 16384}, {"one-over", [][2]int{{10, 16384 - 41}}, 16385}, {"none", [][2]int{}, 0},
		{"many-exact", slices.Repeat([][2]int{{16, 16}}, 256), 16384}, {"many-over", append(slices.Repeat([][2]int{{16, 16}}, 256), [2]int{1, 0}), 16417},
		{"empty-values", slices.Repeat([][2]int{{1, 0}}, 496), 16368}, {"empty-values-over", slices.Repeat([][2]int{{1, 0}}, 497), 16401},
	} {
		result := vector.Map{"size": c.sum, "ok": true}
		if c.sum > 16384 {
			result = vector.Map{"size": c.sum, "ok": false, "code": 8, "reason": 23, "disposition": 1}
		}
		groups := []vector.Map{}
		for _, e := range c.in {
			if n := len(groups); n > 0 && groups[n-1]["key_len"] == e[0] && groups[n-1]["value_len"] == e[1] {
				groups[n-1]["count"] = groups[n-1]["count"].(int) + 1
				continue
			}
			groups = append(groups, vector.Map{"count": 1, "key_len": e[0], "value_len": e[1]})
		}
		out = append(out, vector.Vector{ID: "metadata/size/" + c.id, Comment: "key, value and 32 for each entry", Rules: []string{"W-HEAD-10", "SEM-25"}, Kind: "size",
			Input: vector.Map{"entries": groups, "limit": 16384}, Result: result})
	}
	return out
}
