package main

import (
	"slices"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func timeoutFile() *vector.File {
	return &vector.File{
		Title: "Timeouts",
		Notes: []string{
			"All numbers are decimal strings. kind encode: left_ns is what is left of a deadline; result.timeout_us goes on the wire.",
			"kind decode: timeout_us as received; result.timeout_us as taken, or result.none.",
			"kind remaining: a hop received timeout_us, and elapsed_ns passed on its monotonic clock before it enqueues the frame: " +
				"what it sends, or expired: it answers DEADLINE_EXCEEDED and forwards nothing.",
			"kind user: what an SDK does with a timeout that its user gives: send, or fail before sending.",
		},
		Vectors: slices.Concat(encodes(), decodes(), remainings(), userTimeouts()),
	}
}

const (
	centuryUS = "3153600000000000"
	centuryNS = "3153600000000000000"
)

func encodes() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct{ id, comment, ns, us string }{
		{"1ns", "a sliver is not 0", "1", "1"}, {"999ns", "rounded up", "999", "1"}, {"1us", "exact", "1000", "1"}, {"1001ns", "rounded up, not down", "1001", "2"},
		{"1999ns", "rounded up", "1999", "2"}, {"1ms", "a millisecond", "1000000", "1000"}, {"1s", "a second", "1000000000", "1000000"},
		{"1s-1ns", "rounded up to a whole second", "999999999", "1000000"}, {"1d", "a day", "86400000000000", "86400000000"},
		{"century", "the greatest timeout", centuryNS, centuryUS}, {"century-1ns", "rounded up to the greatest", "3153599999999999999", centuryUS},
		{"over-century", "clamped", "3153600000000001000", centuryUS}, {"int64-max", "a language's greatest duration is clamped", "9223372036854775807", centuryUS},
	} {
		out = append(out, vector.Vector{ID: "timeout/encode/" + c.id, Comment: c.comment, Rules: []string{"W-TIME-1", "W-TIME-2"}, Kind: "encode",
			Input: vector.Map{"left_ns": c.ns}, Result: vector.Map{"timeout_us": c.us}})
	}
	return out
}

func decodes() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct{ id, comment, us, want string }{
		{"1", "the smallest", "1", "1"}, {"1e6", "a second", "1000000", "1000000"}, {"century", "the greatest", centuryUS, centuryUS},
		{"century+1", "clamped", "3153600000000001", centuryUS}, {"2^53", "clamped", "9007199254740992", centuryUS},
		{"2^63", "clamped, not negative", "9223372036854775808", centuryUS}, {"2^64-1", "clamped, not wrapped", "18446744073709551615", centuryUS},
	} {
		out = append(out, vector.Vector{ID: "timeout/decode/" + c.id, Comment: c.comment, Rules: []string{"W-TIME-2"}, Kind: "decode",
			Input: vector.Map{"timeout_us": c.us}, Result: vector.Map{"none": false, "timeout_us": c.want}})
	}
	return append(out, vector.Vector{ID: "timeout/decode/0", Comment: "0 is no deadline", Rules: []string{"W-TIME-1"}, Kind: "decode",
		Input: vector.Map{"timeout_us": "0"}, Result: vector.Map{"none": true}})
}

func remainings() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct{ id, comment, us, elapsed, want string }{
		{"nothing-elapsed", "no time passed", "1000", "0", "1000"}, {"plain", "a hop that took 250 us", "1000", "250000", "750"},
		{"rounded-up", "what is left is rounded up", "1000", "250001", "750"}, {"sliver", "1 ns is left", "1000", "999999", "1"},
		{"exactly-over", "nothing is left", "1000", "1000000", ""}, {"over", "more than all is gone", "1000", "1000001", ""},
		{"long-over", "an hour too late", "1000000", "3600000000000", ""}, {"clamped", "counted from the clamped value", "18446744073709551615", "1000", "3153599999999999"},
	} {
		result := vector.Map{"expired": false, "timeout_us": c.want}
		if c.want == "" {
			result = vector.Map{"expired": true}
		}
		out = append(out, vector.Vector{ID: "timeout/remaining/" + c.id, Comment: c.comment, Rules: []string{"W-TIME-3", "W-TIME-1"}, Kind: "remaining",
			Input: vector.Map{"timeout_us": c.us, "elapsed_ns": c.elapsed}, Result: result})
	}
	return append(out, vector.Vector{ID: "timeout/remaining/none", Comment: "no deadline stays none, however long it took", Rules: []string{"W-TIME-1"}, Kind: "remaining",
		Input: vector.Map{"timeout_us": "0", "elapsed_ns": "3600000000000"}, Result: vector.Map{"expired": false, "timeout_us": "0"}})
}

func userTimeouts() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct{ id, ns, want string }{{"negative", "-1", ""}, {"zero", "0", ""}, {"1ns", "1", "1"}, {"very-negative", "-9223372036854775808", ""}} {
		result := vector.Map{"send": true, "timeout_us": c.want}
		if c.want == "" {
			result = vector.Map{"send": false, "code": 4, "reason": 42, "disposition": 1}
		}
		out = append(out, vector.Vector{ID: "timeout/user/" + c.id, Comment: "a timeout that a user gives", Rules: []string{"W-TIME-4", "SEM-27"}, Kind: "user",
			Input: vector.Map{"timeout_ns": c.ns}, Result: result})
	}
	return out
}
