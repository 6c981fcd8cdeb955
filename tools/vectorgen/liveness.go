package main

import "github.com/octomesh/octomesh/tools/vectorgen/vector"

// livenessFile scripts the ticks of one side.
func livenessFile() *vector.File {
	f := &vector.File{
		Title: "Liveness",
		Notes: []string{
			"Each step is one tick of 500 ms: received (a byte since the last tick), drained (the socket was read until it would block since the last PING, and the tick came in time), " +
				"unary (a unary call waits for its answer; openers only), and repeat: so many equal ticks.",
			"result.steps has, for each step, the verdict of its last tick: alive, ping (send PING unless one is unanswered) or gone. The ticks before it are alive.",
		},
		Flags: map[string]string{},
	}
	type tick struct {
		received, drained, unary bool
		repeat                   int
		want                     string
	}
	add := func(id, comment string, ticks ...tick) {
		var steps, results []vector.Map
		for _, t := range ticks {
			steps = append(steps, vector.Map{"received": t.received, "drained": t.drained, "unary": t.unary, "repeat": max(t.repeat, 1)})
			results = append(results, vector.Map{"verdict": t.want})
		}
		f.Vectors = append(f.Vectors, vector.Vector{ID: "liveness/" + id, Comment: comment, Rules: []string{"W-LIVE-4", "W-LIVE-5", "W-LIVE-6"},
			Input: vector.Map{"steps": steps}, Result: vector.Map{"steps": results}})
	}
	silent := func(n int, want string) tick { return tick{drained: true, repeat: n, want: want} }
	waiting := func(n int, want string) tick { return tick{drained: true, unary: true, repeat: n, want: want} }
	bytes := tick{received: true, drained: true, want: "alive"}
	bytesWaiting := tick{received: true, drained: true, unary: true, want: "alive"}
	add("busy", "bytes at every tick", tick{received: true, drained: true, unary: true, repeat: 100, want: "alive"})
	add("urgent", "a unary call waits: ping after 500 ms, gone three ticks later", waiting(1, "ping"), waiting(2, "alive"), waiting(1, "gone"))
	add("idle", "nobody waits: ping after 5 s, gone after two spans of 5 s", silent(10, "ping"), silent(19, "alive"), silent(1, "gone"))
	add("idle-short", "nine silent ticks ask nothing", silent(9, "alive"), bytes, silent(9, "alive"), bytes, silent(10, "ping"))
	add("answered", "the answer resets everything", waiting(1, "ping"), bytesWaiting, waiting(1, "ping"), bytesWaiting, waiting(1, "ping"), waiting(2, "alive"), waiting(1, "gone"))
	add("answered-late", "the answer comes before the third miss", waiting(1, "ping"), waiting(2, "alive"), bytesWaiting, waiting(1, "ping"), waiting(2, "alive"), waiting(1, "gone"))
	add("any-byte", "any byte counts, not only PONG", silent(10, "ping"), silent(19, "alive"), bytes, silent(10, "ping"))
	add("not-drained", "a miss counts only if the socket was drained", waiting(1, "ping"), tick{unary: true, repeat: 50, want: "alive"}, waiting(2, "alive"), waiting(1, "gone"))
	add("not-drained-still-asks", "silence before the ping needs no proof", tick{unary: true, want: "ping"}, waiting(2, "alive"), waiting(1, "gone"))
	add("not-drained-idle", "the same when nobody waits", tick{repeat: 10, want: "ping"}, tick{repeat: 100, want: "alive"}, silent(19, "alive"), silent(1, "gone"))
	add("call-begins", "a call that begins in silence makes it urgent", silent(4, "alive"), waiting(1, "ping"), waiting(2, "alive"), waiting(1, "gone"))
	add("call-begins-asked", "misses are kept when a call begins to wait", silent(10, "ping"), silent(2, "alive"), waiting(1, "gone"))
	add("call-begins-asked-early", "one miss, then two with a call", silent(10, "ping"), silent(1, "alive"), waiting(1, "alive"), waiting(1, "gone"))
	add("call-ends", "without a waiting call there is more time", waiting(1, "ping"), waiting(2, "alive"), silent(17, "alive"), silent(1, "gone"))
	return f
}
