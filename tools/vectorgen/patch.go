package main

import (
	"encoding/hex"
	"slices"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// patchFile holds what hops do to heads. Results are written by hand, as bytes put together from pieces.
func patchFile() *vector.File {
	return &vector.File{
		Title: "Patching of heads by hops",
		Notes: []string{
			"kind patch: a hop gets input.head, writes timeout_us (0: it has none to write), and appends input.append and, where it splits, total_length, " +
				"in that order. result.head is what it forwards. 64-bit numbers are decimal strings.",
			"kind effective: what an end reads from a head after hop fields have been applied. hop_verified_caller is absent where no hop spoke.",
			"kind admit: may the head come from there? from is sdk or proxy. The head is given in chunks: hex, or so many zero bytes. " +
				"If not, the call ends with result.code, reason and disposition (numbers of octo.wire.v1).",
			"kind overflow: the lengths of a head as it came, and of what the hop would append.",
		},
		Flags: map[string]string{
			"Splits":         "the hop appends total_length because it splits the message",
			"ForeignEncoder": "the timeout stands where no SDK writes it",
		},
		Vectors: slices.Concat(patches(), effectives(), admissions(), overflows()),
	}
}

type hopField struct {
	Number int    `json:"number"`
	Bytes  string `json:"bytes,omitempty"`
	Varint string `json:"varint,omitempty"`
	Empty  bool   `json:"empty,omitempty"`
}

func patch(id, comment string, head []byte, timeout, total string, add []hopField, want []byte, flags []string, rules ...string) vector.Vector {
	if add == nil {
		add = []hopField{}
	}
	return vector.Vector{
		ID: "patch/" + id, Comment: comment, Rules: append(rules, "W-HEAD-6"), Flags: flags, Kind: "patch",
		Input:  vector.Map{"head": hex.EncodeToString(head), "timeout_us": timeout, "append": add, "total_length": total},
		Result: vector.Map{"head": hex.EncodeToString(want)},
	}
}

func patches() []vector.Vector {
	tail := slices.Concat(raw.Text(3, "t"), raw.Text(4, "s"), raw.Text(5, "m"))
	with := func(us uint64) []byte { return slices.Concat(raw.Fixed64(1, us), tail) }
	foreign := []string{"ForeignEncoder"}
	unknown := slices.Concat(with(9), raw.Num(50, 7), raw.Text(60, "keep"))
	return []vector.Vector{
		patch("in-place", "the timeout is overwritten where it stands", with(1_000_000), "999000", "0", nil, with(999_000), nil, "W-HEAD-3", "W-TIME-3"),
		patch("in-place-short", "a value of one byte takes the same place", with(1<<60), "1", "0", nil, with(1), nil, "W-HEAD-3"),
		patch("prepended", "a head without a timeout gets one in front", tail, "500", "0", nil, with(500), nil, "W-HEAD-3"),
		patch("empty-head", "an empty head gets a timeout", nil, "500", "0", nil, raw.Fixed64(1, 500), nil, "W-HEAD-3"),
		patch("no-deadline", "without a deadline nothing is written", tail, "0", "0", nil, tail, nil, "W-TIME-1"),
		patch("unknown-kept", "unknown fields are forwarded as they came", unknown, "8", "0", nil,
			slices.Concat(with(8), raw.Num(50, 7), raw.Text(60, "keep")), nil, "W-HEAD-4", "W-HEAD-3"),
		patch("elsewhere", "a timeout that does not stand first is overruled by one at the end", slices.Concat(tail, raw.Fixed64(1, 77)), "70", "0", nil,
			slices.Concat(tail, raw.Fixed64(1, 77), raw.Fixed64(1, 70)), foreign, "W-HEAD-3"),
		patch("twice", "of two timeouts the last would win, so a third is appended", slices.Concat(with(77), raw.Fixed64(1, 88)), "70", "0", nil,
			slices.Concat(with(77), raw.Fixed64(1, 88), raw.Fixed64(1, 70)), foreign, "W-HEAD-3"),
		patch("long-tag", "a timeout whose tag takes two bytes is not patched in place", slices.Concat([]byte{0x89, 0x00}, raw.Fixed64(1, 77)[1:], tail), "70", "0", nil,
			slices.Concat([]byte{0x89, 0x00}, raw.Fixed64(1, 77)[1:], tail, raw.Fixed64(1, 70)), foreign, "W-HEAD-3"),
		patch("zero-elsewhere", "a spelled-out timeout of 0 behind other fields is overruled too", slices.Concat(tail, raw.Fixed64(1, 0)), "70", "0", nil,
			slices.Concat(tail, raw.Fixed64(1, 0), raw.Fixed64(1, 70)), foreign, "W-HEAD-3"),
		patch("hop-caller", "a hop field is appended", with(9), "8", "0", []hopField{{Number: 100, Bytes: hexOf("shop.web")}},
			slices.Concat(with(8), raw.Text(100, "shop.web")), nil, "W-HOP-1"),
		patch("hop-empty", "an empty hop field says something: not verified", tail, "0", "0", []hopField{{Number: 101, Empty: true}},
			slices.Concat(tail, raw.Text(101, "")), nil, "W-HOP-6"),
		patch("hop-number-0", "a number of 0 is written too, since it must win", tail, "0", "0", []hopField{{Number: 102, Varint: "0"}},
			slices.Concat(tail, raw.Num(102, 0)), nil, "W-HOP-2"),
		patch("hop-several", "several hop fields behind those of an earlier hop", slices.Concat(with(9), raw.Text(104, "old")), "8", "0",
			[]hopField{{Number: 101, Bytes: hexOf("spiffe://a")}, {Number: 102, Varint: "3"}, {Number: 104, Bytes: hexOf("new")}},
			slices.Concat(with(8), raw.Text(104, "old"), raw.Text(101, "spiffe://a"), raw.Num(102, 3), raw.Text(104, "new")), nil, "W-HOP-2"),
		patch("split", "a relay that splits appends total_length last", with(9), "8", "70000", []hopField{{Number: 104, Bytes: hexOf("l")}},
			slices.Concat(with(8), raw.Text(104, "l"), raw.Num(2, 70_000)), []string{"Splits"}, "W-MSG-9"),
	}
}

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

func effective(id, comment string, head []byte, want vector.Map, rules ...string) vector.Vector {
	full := vector.Map{"timeout_us": "0", "total_length": "0", "attempt": 0, "traceparent": "", "caller": "", "lane": ""}
	for k, v := range want {
		full[k] = v
	}
	return vector.Vector{
		ID: "patch/effective/" + id, Comment: comment, Rules: append(rules, "W-HOP-2"), Kind: "effective",
		Input: vector.Map{"head": hex.EncodeToString(head)}, Result: full,
	}
}

func effectives() []vector.Vector {
	return []vector.Vector{
		effective("own", "without hop fields the head's own count", slices.Concat(raw.Text(8, "own"), raw.Num(12, 2)),
			vector.Map{"traceparent": hexOf("own"), "attempt": 2}),
		effective("hop-over-own", "hop fields win over the head's own", slices.Concat(raw.Text(8, "own"), raw.Num(12, 2), raw.Num(102, 3), raw.Text(103, "hop")),
			vector.Map{"traceparent": hexOf("hop"), "attempt": 3}),
		effective("last-hop", "the last hop field wins", slices.Concat(raw.Text(103, "a"), raw.Text(103, "b"), raw.Text(104, "x"), raw.Text(104, "y"), raw.Text(100, "c1"), raw.Text(100, "c2")),
			vector.Map{"traceparent": hexOf("b"), "lane": hexOf("y"), "caller": hexOf("c2")}),
		effective("hop-zero", "an attempt of 0 from a hop wins over 2", slices.Concat(raw.Num(12, 2), raw.Num(102, 0)), nil),
		effective("hop-empty", "an empty traceparent from a hop wins", slices.Concat(raw.Text(8, "own"), raw.Text(103, "")), nil),
		effective("verified-empty", "a hop said: not verified", raw.Text(101, ""), vector.Map{"verified_caller": ""}, "W-HOP-6"),
		effective("verified", "a later hop's word on the caller wins", slices.Concat(raw.Text(101, ""), raw.Text(101, "spiffe://a")),
			vector.Map{"verified_caller": hexOf("spiffe://a")}, "W-HOP-6"),
		effective("appended-total", "a relay's total_length wins over the sender's", slices.Concat(raw.Num(2, 10), raw.Text(3, "t"), raw.Num(2, 20)),
			vector.Map{"total_length": "20"}, "W-MSG-9"),
		effective("appended-timeout", "an appended timeout wins", slices.Concat(raw.Fixed64(1, 9), raw.Text(3, "t"), raw.Fixed64(1, 8)),
			vector.Map{"timeout_us": "8"}, "W-HEAD-3"),
		effective("hop-target", "where a route led to another target that one counts", slices.Concat(raw.Text(3, "shop.cart"), raw.Text(106, "shop.cart-v2")),
			vector.Map{"target": hexOf("shop.cart-v2")}, "W-HOP-8"),
		effective("hop-target-twice", "of several routes the last", slices.Concat(raw.Text(3, "a"), raw.Text(106, "b"), raw.Text(106, "c"), raw.Text(3, "d")),
			vector.Map{"target": hexOf("c")}, "W-HOP-8"),
		effective("own-target", "without a hop's word the head's own target counts", raw.Text(3, "a"), vector.Map{"target": hexOf("a")}, "W-HOP-8"),
		effective("hop-shadow", "a copy", raw.Num(107, 1), vector.Map{"shadow": true}, "W-HOP-9"),
		effective("hop-shadow-not", "no copy, spelled out", slices.Concat(raw.Num(107, 1), raw.Num(107, 0)), vector.Map{"shadow": false}, "W-HOP-9"),
		effective("read-to-the-end", "own fields behind hop fields do not win back", slices.Concat(raw.Text(103, "hop"), raw.Text(8, "own")),
			vector.Map{"traceparent": hexOf("hop")}),
	}
}

func admit(id, comment, kind, from string, head []raw.Chunk, reason wirev1.Reason, rules ...string) vector.Vector {
	result := vector.Map{"ok": true}
	switch reason {
	case wirev1.Reason_REASON_BAD_HEAD:
		result = vector.Map{"ok": false, "code": 3, "reason": 22, "disposition": 1}
	case wirev1.Reason_REASON_HEAD_TOO_LARGE:
		result = vector.Map{"ok": false, "code": 8, "reason": 23, "disposition": 1}
	}
	return vector.Vector{
		ID: "patch/admit/" + id, Comment: comment, Rules: rules, Kind: "admit",
		Input: vector.Map{"head": head, "from": from, "message": kind}, Result: result,
	}
}

func admissions() []vector.Vector {
	const good, bad, large = wirev1.Reason_REASON_UNSPECIFIED, wirev1.Reason_REASON_BAD_HEAD, wirev1.Reason_REASON_HEAD_TOO_LARGE
	call := slices.Concat(raw.Fixed64(1, 9), raw.Text(3, "t"), raw.Text(7, raw.Text(1, "k")), raw.Text(7, raw.Text(1, "k")))
	var out []vector.Vector
	both := func(id, comment string, b []byte, reason wirev1.Reason) {
		out = append(out,
			admit(id+"/sdk", comment, "RequestHead", "sdk", raw.Bytes(b), reason, "W-HOP-3"),
			admit(id+"/proxy", comment+": accepted from a proxy", "RequestHead", "proxy", raw.Bytes(b), good, "W-HOP-6"))
	}
	out = append(out, admit("plain", "repeated fields may repeat", "RequestHead", "sdk", raw.Bytes(call), good, "W-HOP-3"))
	for _, n := range []uint64{100, 101, 103, 104} {
		both("hop-"+string([]byte{'1', '0', byte('0' + n - 100)}), "a hop field of bytes", slices.Concat(call, raw.Text(n, "x")), bad)
	}
	both("hop-102", "hop_attempt", slices.Concat(call, raw.Num(102, 1)), bad)
	both("hop-106", "hop_target", slices.Concat(call, raw.Text(106, "x")), bad)
	both("hop-107", "hop_shadow", slices.Concat(call, raw.Num(107, 1)), bad)
	both("hop-unknown", "a hop field that version 1 does not define", slices.Concat(call, raw.Num(127, 1)), bad)
	both("timeout-twice", "a timeout twice", slices.Concat(call, raw.Fixed64(1, 9)), bad)
	both("target-twice", "a target twice", slices.Concat(call, raw.Text(3, "u")), bad)
	both("path-twice", "the highest singular field twice", slices.Concat(call, raw.Text(19, "u"), raw.Text(19, "u")), bad)
	out = append(out,
		admit("number-128", "a field above the hop fields is merely unknown", "RequestHead", "sdk", raw.Bytes(slices.Concat(call, raw.Num(128, 1))), good, "W-HEAD-4"),
		admit("number-99", "a field below the hop fields is merely unknown", "RequestHead", "sdk", raw.Bytes(slices.Concat(call, raw.Num(99, 1), raw.Num(99, 1))), good, "W-HEAD-4"),
		admit("hop-wire-type/proxy", "a hop field in another wire type is bad from everybody", "RequestHead", "proxy", raw.Bytes(slices.Concat(call, raw.Num(103, 1))), bad, "W-HOP-4"))
	padded := func(n int) []raw.Chunk {
		head := raw.Varint(raw.Tag(nil, 18, 2), uint64(n), 3)
		return []raw.Chunk{{Hex: hex.EncodeToString(head)}, {Fill: n}}
	}
	const overhead = 2 + 3
	out = append(out,
		admit("sdk-60k", "a head of exactly 61440 bytes", "RequestHead", "sdk", padded(61440-overhead), good, "W-HEAD-9"),
		admit("sdk-over-60k", "one byte more", "RequestHead", "sdk", padded(61441-overhead), large, "W-HEAD-9"),
		admit("proxy-over-60k", "a proxy's head may be longer", "RequestHead", "proxy", padded(61441-overhead), good, "W-HEAD-9"))
	return out
}

func overflows() []vector.Vector {
	over := func(id, comment, message string, head, add int, result vector.Map) vector.Vector {
		return vector.Vector{
			ID: "patch/overflow/" + id, Comment: comment, Rules: []string{"W-HEAD-9"}, Kind: "overflow",
			Input: vector.Map{"message": message, "head_len": head, "append_len": add}, Result: result,
		}
	}
	ends := vector.Map{"forward": false, "code": 8, "reason": 23, "disposition": 1}
	return []vector.Vector{
		over("fits", "1024 bytes on top of the greatest head of an SDK", "RequestHead", 61440, 1024, vector.Map{"forward": true, "head_len": 62464}),
		over("fits-exactly", "65535 bytes in all", "RequestHead", 65000, 535, vector.Map{"forward": true, "head_len": 65535}),
		over("request", "a request over 65535 ends", "RequestHead", 65000, 536, ends),
		over("response-drops-timings", "a response goes on without its new timings", "ResponseHead", 65000, 536, vector.Map{"forward": true, "head_len": 65000}),
	}
}
