package main

import (
	"slices"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// retryFile holds what may be concluded of attempts, and when a call goes again.
func retryFile() *vector.File {
	return &vector.File{
		Title: "Dispositions of attempts, and sending again",
		Notes: []string{
			"An attempt's event: dial_failed; unwritten (removed whole from the buffer before any flush touched it); flush_failed (a flush of the buffer that held it failed); " +
				"lost (the connection, after it was written); reset (with the peer's disposition and reason); final_above and final_below (a final GOAWAY, last below or at its id); " +
				"timer_before and timer_after (the hop's own deadline, before or after it wrote a byte upstream).",
			"kind attempt: the status that one attempt alone comes to. kind conclude: the disposition that a hop answers with after several, and whether its caller may take another path for it.",
			"kind again: may a client SDK send the call again after this attempt? first_request: all that was sent is the first REQUEST. tokens is the retry budget in tenths; " +
				"result.cost is what is taken from it, in tenths. free_used: the call had its free re-send already.",
		},
		Flags:   map[string]string{},
		Vectors: slices.Concat(attempts(), conclusions(), agains()),
	}
}

type attempt struct {
	Event       string `json:"event"`
	Disposition *int   `json:"disposition,omitempty"`
	Reason      *int   `json:"reason,omitempty"`
}

func resetAs(disposition, reason int) attempt { return attempt{"reset", &disposition, &reason} }

func attempts() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct {
		a                         attempt
		code, reason, disposition int
		rules                     []string
	}{
		{attempt{Event: "dial_failed"}, 14, 3, 1, []string{"E-DISP-2", "S-AGAIN-1"}},
		{attempt{Event: "unwritten"}, 14, 3, 1, []string{"L-FINE-4", "E-DISP-2"}},
		{attempt{Event: "flush_failed"}, 14, 40, 0, []string{"L-FINE-4", "W-CONN-4"}},
		{attempt{Event: "lost"}, 14, 40, 0, []string{"W-CONN-4"}},
		{attempt{Event: "final_above"}, 14, 1, 1, []string{"L-FINAL-3", "E-DISP-3"}},
		{attempt{Event: "final_below"}, 14, 41, 0, []string{"L-FINAL-3"}},
		{attempt{Event: "timer_before"}, 4, 42, 1, []string{"E-TABLE-2", "E-DISP-2"}},
		{attempt{Event: "timer_after"}, 4, 42, 0, []string{"L-FINE-5", "E-TABLE-2"}},
	} {
		out = append(out, vector.Vector{ID: "retry/attempt/" + c.a.Event, Comment: "what one attempt comes to", Rules: c.rules, Kind: "attempt",
			Input: c.a, Result: vector.Map{"code": c.code, "reason": c.reason, "disposition": c.disposition}})
	}
	return out
}

func conclusions() []vector.Vector {
	const unknown, not, processed = 0, 1, 2
	const pathReason, policyReason = 2, 11
	dial, lost := attempt{Event: "dial_failed"}, attempt{Event: "lost"}
	var out []vector.Vector
	for _, c := range []struct {
		id, comment string
		in          []attempt
		disposition int
		path        bool
		rules       []string
	}{
		{"passed-on", "NOT_PROCESSED from upstream is passed on", []attempt{resetAs(not, pathReason)}, not, true, []string{"E-DISP-3", "E-DISP-7"}},
		{"all-not", "every attempt was one", []attempt{dial, resetAs(not, pathReason), {Event: "final_above"}}, not, true, []string{"E-DISP-3"}},
		{"one-lost", "one of them was lost", []attempt{lost, resetAs(not, pathReason)}, unknown, false, []string{"E-DISP-4"}},
		{"lost-last", "the order does not matter", []attempt{resetAs(not, pathReason), lost}, unknown, false, []string{"E-DISP-4"}},
		{"processed-first", "a handler saw one of them", []attempt{resetAs(processed, 0), resetAs(not, pathReason)}, processed, false, []string{"E-DISP-4"}},
		{"policy", "a refusal by policy is final", []attempt{resetAs(not, policyReason)}, not, false, []string{"L-FINE-6", "S-AGAIN-2", "E-DISP-7"}},
		{"policy-dominates", "and dominates a path reason", []attempt{resetAs(not, pathReason), resetAs(not, policyReason)}, not, false, []string{"L-FINE-6", "E-DISP-5"}},
		{"timer", "the hop's own timer after forwarding", []attempt{{Event: "timer_after"}}, unknown, false, []string{"L-FINE-5"}},
		{"timer-after-refusal", "a timer before the second attempt was written", []attempt{resetAs(not, pathReason), {Event: "timer_before"}}, not, false, []string{"E-DISP-3", "E-DISP-5"}},
		{"flush-failed", "a flush that failed is not unwritten", []attempt{{Event: "flush_failed"}}, unknown, false, []string{"L-FINE-4"}},
		{"unknown-reason", "an unknown reason permits nothing", []attempt{resetAs(not, 999)}, not, false, []string{"E-REASON-1", "E-DISP-7"}},
		{"no-reason", "nor does none", []attempt{resetAs(not, 0)}, not, false, []string{"E-DISP-7"}},
	} {
		out = append(out, vector.Vector{ID: "retry/conclude/" + c.id, Comment: c.comment, Rules: c.rules, Kind: "conclude",
			Input: vector.Map{"attempts": c.in}, Result: vector.Map{"disposition": c.disposition, "other_path": c.path}})
	}
	return out
}

func agains() []vector.Vector {
	const unknown, not, processed = 0, 1, 2
	lost := attempt{Event: "lost"}
	var out []vector.Vector
	add := func(id, comment string, a attempt, idempotent, first, freeUsed bool, tokens int, again bool, cost int, rules ...string) {
		out = append(out, vector.Vector{ID: "retry/again/" + id, Comment: comment, Rules: rules, Kind: "again",
			Input:  vector.Map{"attempt": a, "idempotent": idempotent, "first_request": first, "free_used": freeUsed, "tokens": tokens},
			Result: vector.Map{"again": again, "cost": cost}})
	}
	add("dial-failed", "nothing was written", attempt{Event: "dial_failed"}, false, true, false, 0, true, 0, "S-AGAIN-1")
	add("unwritten", "removed whole before a flush", attempt{Event: "unwritten"}, false, true, false, 0, true, 0, "S-AGAIN-1", "L-FINE-4")
	add("path-reason", "NOT_PROCESSED with a path reason", resetAs(not, 1), false, true, false, 0, true, 0, "S-AGAIN-1")
	add("final-above", "an id above a final last", attempt{Event: "final_above"}, false, true, false, 0, true, 0, "S-AGAIN-1")
	add("policy", "a refusal by policy, though idempotent", resetAs(not, 11), true, true, false, 100, false, 0, "S-AGAIN-2")
	add("overload", "a refusal by overload, though idempotent", resetAs(not, 14), true, true, false, 100, false, 0, "S-AGAIN-2")
	add("lost", "a lost call that is not idempotent", lost, false, true, false, 100, false, 0, "S-AGAIN-3", "S-AGAIN-5")
	add("lost-idempotent-free", "the first re-send after its connection died is free", lost, true, true, false, 0, true, 0, "S-AGAIN-3")
	add("lost-idempotent", "the second takes a token", lost, true, true, true, 10, true, 10, "S-AGAIN-3")
	add("lost-idempotent-poor", "which must be there", lost, true, true, true, 9, false, 0, "S-AGAIN-3")
	add("reset-unknown", "UNKNOWN from a hop: idempotent, with a token", resetAs(unknown, 40), true, true, false, 10, true, 10, "S-AGAIN-3")
	add("reset-unknown-not", "UNKNOWN and not idempotent", resetAs(unknown, 40), false, true, false, 100, false, 0, "S-AGAIN-3")
	add("processed", "a handler's own word is final", resetAs(processed, 0), true, true, false, 100, false, 0, "S-AGAIN-5")
	add("stream-moved-on", "a stream that sent more than its first REQUEST", lost, true, false, false, 100, false, 0, "S-AGAIN-4")
	add("stream-moved-on-path", "even where it was surely not processed", resetAs(not, 1), false, false, false, 100, false, 0, "S-AGAIN-4")
	add("deadline", "no time is left", attempt{Event: "timer_after"}, true, true, false, 100, false, 0, "S-AGAIN-5", "L-FINE-5")
	return out
}
