package main

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func stateFile() *vector.File {
	return &vector.File{
		Title: "What is kept of targets on disk",
		Notes: []string{
			"input: who looks for a target, and the only file there is of it. result.path: where that stands below the directory, by its names.",
			"whole: what it holds is taken: when it was written, by the host's clock, the address of its only instance, and the share of its mesh switch. Otherwise it is passed over.",
			"Who writes may order and encode fields as protobuf allows: writers are held by reading what they wrote.",
		},
		Vectors: stateVectors(),
	}
}

const (
	stateWritten = 1_700_000_000_000
	stateAddress = "10.0.0.1:7000"
	stateShare   = 50
	stateMagic   = "octo-target-1\n"
)

// stateSaved is an octo.directory.v1.Saved.
func stateSaved(environment, application, target string) []byte {
	endpoint := slices.Concat(raw.Text(1, "shop-1"), raw.Num(2, 7), raw.Text(3, stateAddress), raw.Num(4, 100), raw.Num(8, 1))
	snapshot := slices.Concat(raw.Text(1, environment), raw.Text(2, target), raw.Num(3, 1), raw.Num(6, 500), raw.Text(8, endpoint),
		raw.Num(9, 3), raw.Text(10, slices.Concat(raw.Num(1, stateShare), raw.Num(2, 9))))
	return slices.Concat(raw.Num(1, stateWritten), raw.Text(2, application), raw.Text(3, snapshot))
}

// stateBytes are those of a file with a right checksum.
func stateBytes(content []byte) []byte {
	sum := sha256.Sum256(content)
	return slices.Concat([]byte(stateMagic), sum[:], content)
}

func stateVectors() []vector.Vector {
	var out []vector.Vector
	add := func(id, comment, target, path string, file []byte, whole bool) {
		result := vector.Map{"path": path, "whole": whole}
		if whole {
			result["written_unix_ms"], result["address"], result["permille"] = strconv.Itoa(stateWritten), stateAddress, stateShare
		}
		out = append(out, vector.Vector{ID: "state/" + id, Comment: comment, Rules: []string{"D-WATCH-11", "D-WATCH-14"},
			Input:  vector.Map{"environment": "test", "application": "cart@a", "target": target, "file": hex.EncodeToString(file)},
			Result: result})
	}
	const place = "env-test/app-cart%40a/target-"
	for _, c := range []struct{ id, comment, target, escaped string }{
		{"plain", "a name as most are", "shop.stock", "shop.stock"}, {"dots", "a name that would lead elsewhere", "..", ".."},
		{"slash", "a name with a folder's sign", "../a/b", "..%2Fa%2Fb"}, {"blank", "a blank is a plus", "a b+c", "a+b%2Bc"},
		{"signs", "signs that stay, and that do not", "a-_.~*:'", "a-_.~%2A%3A%27"}, {"utf-8", "bytes of UTF-8", "größe", "gr%C3%B6%C3%9Fe"},
	} {
		add("names/"+c.id, c.comment, c.target, place+c.escaped+"/1", stateBytes(stateSaved("test", "cart@a", c.target)), true)
	}
	const stock, at = "shop.stock", place + "shop.stock/1"
	content := stateSaved("test", "cart@a", stock)
	whole := stateBytes(content)
	changed := slices.Clone(whole)
	changed[len(changed)-1] ^= 0x40
	sum := slices.Clone(whole)
	sum[len(stateMagic)] ^= 0x01
	for _, c := range []struct {
		id, comment string
		file        []byte
		whole       bool
	}{
		{"unknown-field", "a newer writer's field is skipped", stateBytes(slices.Concat(content, raw.Text(99, "later"))), true},
		{"empty", "a file that was not written", nil, false},
		{"cut-magic", "cut within the first line", whole[:5], false},
		{"cut-sum", "cut within the checksum", whole[:len(stateMagic)+31], false},
		{"cut-content", "cut within the content", whole[:len(whole)-1], false},
		{"changed", "a bit of the content is another", changed, false},
		{"changed-sum", "a bit of the checksum is another", sum, false},
		{"longer", "something stands behind it", slices.Concat(whole, []byte{0}), false},
		{"other-format", "a format to come", slices.Concat([]byte("octo-target-2\n"), whole[len(stateMagic):]), false},
		{"no-message", "a right checksum of what is no message", stateBytes([]byte{0xff}), false},
		{"other-target", "of another target", stateBytes(stateSaved("test", "cart@a", "shop.mail")), false},
		{"other-application", "of another application", stateBytes(stateSaved("test", "web", stock)), false},
		{"other-environment", "of another environment", stateBytes(stateSaved("prod", "cart@a", stock)), false},
	} {
		add("file/"+c.id, c.comment, stock, at, c.file, c.whole)
	}
	return out
}
