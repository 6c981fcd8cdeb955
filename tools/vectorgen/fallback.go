package main

import "github.com/octomesh/octomesh/tools/vectorgen/vector"

// fallbackFile holds how one call goes on after an attempt.
func fallbackFile() *vector.File {
	f := &vector.File{
		Title: "How a call goes on after an attempt",
		Notes: []string{
			"An attempt ended with code, reason, origin and disposition, as numbers of octo.wire.v1. first_request: all that was sent is the first REQUEST. resent: how often the call was sent again before. " +
				"other: the other way is open to it (S-AGAIN-11). free_used: it had its free re-send. tokens: the retry budget, in tenths.",
			"result.next: end; same, again by the same way on another connection; other, by the other way. cost is taken from the budget, in tenths; free: the free re-send is used up.",
		},
		Flags: map[string]string{},
	}
	const unavailable, exhausted, deadline = 14, 8, 4
	const unknown, not, processed = 0, 1, 2
	const application, serverSDK, clientProxy, clientSDK = 1, 2, 4, 5
	const draining, unready, unreachable, authDenied, rateLimited, circuitOpen, noEndpoint, queueFull, overloaded, lost, drainDeadline, expired = 1, 2, 3, 10, 11, 12, 13, 14, 15, 40, 41, 42
	type question struct {
		code, reason, origin, disposition int
		idempotent, moved, freeUsed       bool
		resent, tokens                    int
		other                             bool
	}
	add := func(id, comment string, q question, next string, cost int, free bool, rules ...string) {
		f.Vectors = append(f.Vectors, vector.Vector{ID: "fallback/" + id, Comment: comment, Rules: rules,
			Input: vector.Map{"code": q.code, "reason": q.reason, "origin": q.origin, "disposition": q.disposition, "idempotent": q.idempotent, "first_request": !q.moved,
				"free_used": q.freeUsed, "resent": q.resent, "tokens": q.tokens, "other": q.other},
			Result: vector.Map{"next": next, "cost": cost, "free": free}})
	}
	to := "S-AGAIN-10"
	add("dial-failed", "nothing was written: the other way", question{code: unavailable, reason: unreachable, origin: clientSDK, disposition: not, other: true}, "other", 0, false, "S-AGAIN-1", to)
	add("dial-failed-alone", "there is no other: this SDK has tried all", question{code: unavailable, reason: unreachable, origin: clientSDK, disposition: not, idempotent: true, tokens: 100}, "end", 0, false, to, "S-AGAIN-11")
	add("unreachable-behind", "the proxy could reach nobody", question{code: unavailable, reason: unreachable, origin: clientProxy, disposition: not, other: true}, "other", 0, false, "S-AGAIN-1", to)
	add("unreachable-behind-alone", "it may the next time", question{code: unavailable, reason: unreachable, origin: clientProxy, disposition: not}, "same", 0, false, "S-AGAIN-1", to)
	add("unready", "a proxy without configuration", question{code: unavailable, reason: unready, origin: clientProxy, disposition: not, other: true}, "other", 0, false, "S-AGAIN-1", to)
	add("unready-alone", "the same proxy again", question{code: unavailable, reason: unready, origin: clientProxy, disposition: not}, "same", 0, false, "S-AGAIN-1", to)
	add("draining", "a successor is there: a hot restart is no fallback", question{code: unavailable, reason: draining, origin: clientProxy, disposition: not, other: true}, "same", 0, false, "S-AGAIN-1", to, "L-FINE-12", "SEM-40")
	add("draining-again", "the second time it is not trusted", question{code: unavailable, reason: draining, origin: clientProxy, disposition: not, other: true, resent: 1}, "other", 0, false, "S-AGAIN-1", to)
	add("draining-again-alone", "where there is no other", question{code: unavailable, reason: draining, origin: clientProxy, disposition: not, resent: 1}, "same", 0, false, "S-AGAIN-1", to)
	add("final-above", "an id above a final last", question{code: unavailable, reason: draining, origin: clientSDK, disposition: not, other: true}, "same", 0, false, "S-AGAIN-1", to)
	add("server-draining", "a server that is called direct leaves", question{code: unavailable, reason: draining, origin: serverSDK, disposition: not, other: true}, "same", 0, false, "S-AGAIN-1", to)
	add("third", "sent again twice already", question{code: unavailable, reason: unready, origin: clientProxy, disposition: not, other: true, resent: 2}, "end", 0, false, to)
	for _, refusal := range []struct {
		id           string
		code, reason int
	}{
		{"auth-denied", 7, authDenied}, {"rate-limited", exhausted, rateLimited}, {"circuit-open", unavailable, circuitOpen}, {"no-endpoint", unavailable, noEndpoint},
		{"queue-full", exhausted, queueFull}, {"overloaded", exhausted, overloaded}, {"unknown-reason", unavailable, 999}, {"no-reason", unavailable, 0},
	} {
		add("refused/"+refusal.id, "governance does not fall back, even where the other way is open",
			question{code: refusal.code, reason: refusal.reason, origin: clientProxy, disposition: not, idempotent: true, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-2", "E-DISP-7")
	}
	add("lost", "written, and not idempotent", question{code: unavailable, reason: lost, origin: clientSDK, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-3", "S-AGAIN-5")
	add("lost-idempotent", "free, once", question{code: unavailable, reason: lost, origin: clientSDK, idempotent: true, other: true}, "same", 0, true, "S-AGAIN-3", to)
	add("lost-idempotent-twice", "then from the budget", question{code: unavailable, reason: lost, origin: clientSDK, idempotent: true, freeUsed: true, resent: 1, tokens: 10}, "same", 10, false, "S-AGAIN-3")
	add("lost-idempotent-poor", "which is empty", question{code: unavailable, reason: lost, origin: clientSDK, idempotent: true, freeUsed: true, resent: 1, tokens: 9, other: true}, "end", 0, false, "S-AGAIN-3")
	add("lost-behind", "a hop lost it: not free", question{code: unavailable, reason: lost, origin: clientProxy, idempotent: true, tokens: 10}, "same", 10, false, "S-AGAIN-3")
	add("drain-deadline", "cut at the deadline", question{code: unavailable, reason: drainDeadline, origin: clientSDK, idempotent: true, tokens: 10}, "same", 10, false, "S-AGAIN-3")
	add("drain-deadline-not", "and not idempotent", question{code: unavailable, reason: drainDeadline, origin: clientSDK, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-3", "S-AGAIN-5")
	add("deadline", "its time is over", question{code: deadline, reason: expired, origin: clientSDK, idempotent: true, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-5")
	add("application", "the handler's own word", question{code: unavailable, origin: application, disposition: processed, idempotent: true, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-5")
	add("stream", "a stream that sent more than its first REQUEST", question{code: unavailable, reason: unready, origin: clientProxy, disposition: not, moved: true, other: true}, "end", 0, false, "S-AGAIN-4")
	add("stream-lost", "lost with more sent", question{code: unavailable, reason: lost, origin: clientSDK, disposition: unknown, idempotent: true, moved: true, other: true, tokens: 100}, "end", 0, false, "S-AGAIN-4")
	return f
}
