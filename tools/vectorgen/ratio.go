package main

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func ratioFile() *vector.File {
	return &vector.File{
		Title: "The mesh switch",
		Notes: []string{
			"kind murmur3: murmur3_x86_32 of bytes with seed. kind splitmix64: the first outputs of a seed, as decimal strings.",
			"kind sticky: the hash of \"mesh\" 00 target 00 key, and the decision at a permille.",
			"kind threshold: the smallest permille at which the key goes by the mesh; it does at every greater one, and at none below.",
			"kind block: the 1000 slots of the first block of a seed; call k goes by the mesh if slots[k] < permille.",
			"kind share: how many calls of that block go by the mesh.",
		},
		Flags:   map[string]string{"Published": "a test value that the algorithm's users publish"},
		Vectors: slices.Concat(murmurs(), stickies(), splitmixes(), blocks()),
	}
}

// murmur3 is written from the algorithm's description, four bytes at a time by index.
func murmur3(data []byte, seed uint32) uint32 {
	scramble := func(k uint32) uint32 { return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593 }
	h := seed
	whole := len(data) / 4 * 4
	for i := 0; i < whole; i += 4 {
		var k uint32
		for j := range 4 {
			k |= uint32(data[i+j]) << (8 * j)
		}
		h = bits.RotateLeft32(h^scramble(k), 13)*5 + 0xe6546b64
	}
	var k uint32
	for j, b := range data[whole:] {
		k |= uint32(b) << (8 * j)
	}
	h ^= scramble(k)
	h ^= uint32(len(data))
	for _, step := range []struct {
		shift, factor uint32
	}{{16, 0x85ebca6b}, {13, 0xc2b2ae35}} {
		h ^= h >> step.shift
		h *= step.factor
	}
	return h ^ h>>16
}

func murmurs() []vector.Vector {
	var out []vector.Vector
	add := func(id string, data []byte, seed, want uint32, flags []string) {
		if got := murmur3(data, seed); flags != nil && got != want {
			panic(fmt.Sprintf("murmur3 of %q: %08x, published is %08x", data, got, want))
		}
		out = append(out, vector.Vector{ID: "ratio/murmur3/" + id, Comment: fmt.Sprintf("%d bytes", len(data)), Rules: []string{"S-RATIO-3"}, Flags: flags, Kind: "murmur3",
			Input: vector.Map{"bytes": hex.EncodeToString(data), "seed": seed}, Result: vector.Map{"hash": murmur3(data, seed)}})
	}
	published := []string{"Published"}
	add("empty", nil, 0, 0, published)
	add("empty-seed-1", nil, 1, 0x514E28B7, published)
	add("empty-seed-max", nil, 0xffffffff, 0x81F16F39, published)
	add("ff", []byte{0xff, 0xff, 0xff, 0xff}, 0, 0x76293B50, published)
	add("4321", []byte{0x21, 0x43, 0x65, 0x87}, 0, 0xF55B516B, published)
	add("4321-seed", []byte{0x21, 0x43, 0x65, 0x87}, 0x5082EDEE, 0x2362F9DE, published)
	add("three", []byte{0x21, 0x43, 0x65}, 0, 0x7E4A8634, published)
	add("two", []byte{0x21, 0x43}, 0, 0xA0F7B07A, published)
	add("one", []byte{0x21}, 0, 0x72661CF4, published)
	add("zeros", []byte{0, 0, 0, 0}, 0, 0x2362F9DE, published)
	add("fox", []byte("The quick brown fox jumps over the lazy dog"), 0, 0x2e4ff723, published)
	for _, n := range []int{5, 6, 7, 8, 15, 16, 17, 255} {
		add(fmt.Sprintf("%d-bytes", n), allBytes()[:n], 0, 0, nil)
	}
	return out
}

func stickyHash(target string, key []byte) uint32 {
	return murmur3(slices.Concat([]byte("mesh\x00"), []byte(target), []byte{0}, key), 0)
}

// threshold is the smallest permille that takes a hash into the mesh.
func threshold(h uint32) int { return int(uint64(h)*1000>>32) + 1 }

func stickies() []vector.Vector {
	var out []vector.Vector
	keys := []struct {
		id, target string
		key        []byte
	}{
		{"user-1", "shop.cart", []byte("user-1")}, {"user-2", "shop.cart", []byte("user-2")}, {"user-3", "shop.cart", []byte("user-3")},
		{"other-target", "shop.stock", []byte("user-1")}, {"empty-target", "", []byte("k")}, {"empty-key", "shop.cart", nil},
		{"trace-id", "shop.cart", []byte{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c}},
		{"zeros", "shop.cart", make([]byte, 16)}, {"not-utf8", "\xff\xfe", []byte{0xc0, 0x00}}, {"long", "shop.cart", slices.Repeat([]byte("k"), 300)},
	}
	for _, k := range keys {
		h := stickyHash(k.target, k.key)
		in := vector.Map{"target": hexOf(k.target), "key": hex.EncodeToString(k.key)}
		out = append(out, vector.Vector{ID: "ratio/threshold/" + k.id, Comment: "raising the share never moves a key back", Rules: []string{"S-RATIO-3"}, Kind: "threshold",
			Input: in, Result: vector.Map{"hash": h, "permille": threshold(h)}})
		for _, r := range []int{0, 1, threshold(h) - 1, threshold(h), 500, 999, 1000} {
			out = append(out, vector.Vector{ID: fmt.Sprintf("ratio/sticky/%s/%d", k.id, r), Comment: "a decision by key", Rules: []string{"S-RATIO-3", "S-RATIO-1", "SEM-42"}, Kind: "sticky",
				Input:  vector.Map{"target": in["target"], "key": in["key"], "permille": r},
				Result: vector.Map{"mesh": r >= threshold(h)}})
		}
	}
	return dedupe(out)
}

// dedupe drops vectors whose id came before: a threshold may be one of the round shares.
func dedupe(in []vector.Vector) []vector.Vector {
	seen := map[string]bool{}
	return slices.DeleteFunc(in, func(v vector.Vector) bool {
		was := seen[v.ID]
		seen[v.ID] = true
		return was
	})
}

type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9E3779B97F4A7C15
	z := uint64(*s)
	z ^= z >> 30
	z *= 0xBF58476D1CE4E5B9
	z ^= z >> 27
	z *= 0x94D049BB133111EB
	return z ^ z>>31
}

func splitmixes() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct {
		seed  uint64
		first uint64
		flags []string
	}{{0, 0xE220A8397B1DCDAF, []string{"Published"}}, {1234567, 6457827717110365317, []string{"Published"}}, {1, 0, nil}, {1<<64 - 1, 0, nil}} {
		s := splitmix(c.seed)
		var values []string
		for range 5 {
			values = append(values, strconv.FormatUint(s.next(), 10))
		}
		if c.flags != nil && values[0] != strconv.FormatUint(c.first, 10) {
			panic("splitmix64 differs from the published value")
		}
		out = append(out, vector.Vector{ID: fmt.Sprintf("ratio/splitmix64/%d", c.seed), Comment: "five outputs", Rules: []string{"S-RATIO-5"}, Flags: c.flags, Kind: "splitmix64",
			Input: vector.Map{"seed": strconv.FormatUint(c.seed, 10)}, Result: vector.Map{"outputs": values}})
	}
	return out
}

func permutation(seed uint64) []int {
	s := splitmix(seed)
	p := make([]int, 1000)
	for i := range p {
		p[i] = i
	}
	for i := 999; i >= 1; i-- {
		j := s.next() % uint64(i+1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

func blocks() []vector.Vector {
	var out []vector.Vector
	for _, seed := range []uint64{0, 1, 0x0123456789ABCDEF} {
		in := strconv.FormatUint(seed, 10)
		slots := permutation(seed)
		out = append(out, vector.Vector{ID: "ratio/block/" + in, Comment: "a whole block", Rules: []string{"S-RATIO-4", "S-RATIO-5"}, Kind: "block",
			Input: vector.Map{"seed": in}, Result: vector.Map{"slots": slots}})
		for _, r := range []int{0, 1, 10, 500, 999, 1000} {
			first := slices.IndexFunc(slots, func(v int) bool { return v < r })
			out = append(out, vector.Vector{ID: fmt.Sprintf("ratio/share/%s/%d", in, r), Comment: "the share of a block is exact; first is the first call that goes by the mesh, -1 if none does",
				Rules: []string{"S-RATIO-4", "SEM-42"}, Kind: "share",
				Input: vector.Map{"seed": in, "permille": r}, Result: vector.Map{"mesh": r, "first": first}})
		}
	}
	return out
}
