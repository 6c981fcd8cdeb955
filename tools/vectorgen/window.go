package main

import (
	"slices"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func windowFile() *vector.File {
	return &vector.File{
		Title: "Credit",
		Notes: []string{
			"kind limits: what a side declares, and how both sides read it.",
			"kind sender: credit at the start; send is a whole MSG frame with a body of so many bytes, window a WINDOW that came. " +
				"result has one entry a step: may (does credit cover the frame's whole cost; if not nothing is sent) or error: stream; and the credit after it.",
			"kind receiver: stream_window as declared. receive is a MSG frame with a body of so many bytes that came, consume so many bytes of cost that have " +
				"left this side's memory, end the peer's END. result has one entry a step: the WINDOW that is sent (0: none), or error: stream, after which the vector ends.",
			"kind assembler: whoever assembles messages. fragment is a MSG frame with a body of so many bytes that came, more says whether its message goes on; take: the application takes one complete message. " +
				"result has one entry a step: the cost that counts as consumed from here on.",
		},
		Vectors: slices.Concat(limits(), senders(), receivers(), assemblers()),
	}
}

func limits() []vector.Vector {
	var out []vector.Vector
	for _, c := range []struct {
		id, comment string
		in, want    [3]uint32
	}{
		{"none", "nothing declared: the defaults", [3]uint32{}, [3]uint32{1024, 262144, 65536}},
		{"defaults", "the defaults spelled out", [3]uint32{1024, 262144, 65536}, [3]uint32{1024, 262144, 65536}},
		{"least", "the least of everything", [3]uint32{1, 131200, 65536}, [3]uint32{1, 131200, 65536}},
		{"body-low", "a frame body under the least is lifted", [3]uint32{1, 200000, 1000}, [3]uint32{1, 200000, 65536}},
		{"window-low", "a window under the least is lifted", [3]uint32{1, 1, 65536}, [3]uint32{1, 131200, 65536}},
		{"window-just-low", "one byte under the least", [3]uint32{1, 131199, 65536}, [3]uint32{1, 131200, 65536}},
		{"window-follows-body", "the least window follows the frame body", [3]uint32{1, 262144, 1048576}, [3]uint32{1, 2097280, 1048576}},
		{"default-window-follows-body", "so does the default", [3]uint32{0, 0, 1048576}, [3]uint32{1024, 2097280, 1048576}},
		{"window-max", "the greatest window", [3]uint32{1, 2147483647, 65536}, [3]uint32{1, 2147483647, 65536}},
		{"window-high", "a window over the greatest credit is cut", [3]uint32{1, 4294967295, 65536}, [3]uint32{1, 2147483647, 65536}},
		{"body-high", "a frame body over a quarter of it is cut", [3]uint32{1, 0, 4294967295}, [3]uint32{1, 1073741950, 536870911}},
		{"streams-max", "all streams there are", [3]uint32{4294967295, 0, 0}, [3]uint32{4294967295, 262144, 65536}},
	} {
		of := func(l [3]uint32) vector.Map {
			return vector.Map{"max_streams": l[0], "stream_window": l[1], "max_frame_body": l[2]}
		}
		out = append(out, vector.Vector{ID: "window/limits/" + c.id, Comment: c.comment, Rules: []string{"W-HAND-7"}, Kind: "limits", Input: of(c.in), Result: of(c.want)})
	}
	return out
}

// op is a step of a credit script and what comes of it.
type op struct{ in, want vector.Map }

func script(id, comment, kind, start string, n uint32, ops []op, rules ...string) vector.Vector {
	var steps, results []vector.Map
	for _, o := range ops {
		steps, results = append(steps, o.in), append(results, o.want)
	}
	return vector.Vector{ID: "window/" + kind + "/" + id, Comment: comment, Rules: rules, Kind: kind,
		Input: vector.Map{start: n, "steps": steps}, Result: vector.Map{"steps": results}}
}

func senders() []vector.Vector {
	send := func(n int, may bool, credit int64) op {
		return op{vector.Map{"send": n}, vector.Map{"may": may, "credit": credit}}
	}
	window := func(n uint32, credit int64) op {
		return op{vector.Map{"window": n}, vector.Map{"credit": credit}}
	}
	broken := func(n uint32) op { return op{vector.Map{"window": n}, vector.Map{"error": "stream"}} }
	s := func(id, comment string, n uint32, ops ...op) vector.Vector {
		return script(id, comment, "sender", "credit", n, ops, "W-FLOW-1", "W-FLOW-2", "W-FLOW-3")
	}
	overflow := func(id, comment string, n uint32, ops ...op) vector.Vector {
		return script(id, comment, "sender", "credit", n, ops, "W-FLOW-4")
	}
	return []vector.Vector{
		s("plain", "a frame costs 64 and its body", 1000, send(100, true, 836), send(0, true, 772), send(1, true, 707)),
		s("exact", "credit may be used up", 164, send(100, true, 0), send(0, false, 0)),
		s("one-short", "one byte short: nothing goes", 163, send(100, false, 163), window(1, 164), send(100, true, 0)),
		s("empty-message", "an empty message is not free", 63, send(0, false, 63), window(1, 64), send(0, true, 0)),
		s("many-grants", "grants add up", 0, window(10, 10), window(20, 30), window(34, 64), send(0, true, 0)),
		overflow("grant-0", "a WINDOW of 0", 100, broken(0)),
		overflow("greatest", "credit of exactly 2^31-1", 100, window(2147483547, 2147483647)),
		overflow("over", "one byte more", 100, broken(2147483548)),
		overflow("over-u32", "a sum that wraps 32 bits", 262144, broken(4294967295)),
		overflow("over-later", "grants over 2^31-1 in total", 1, window(2147483646, 2147483647), broken(1)),
	}
}

func receivers() []vector.Vector {
	receive := func(n int) op { return op{vector.Map{"receive": n}, vector.Map{"grant": 0}} }
	overdraft := func(n int) op { return op{vector.Map{"receive": n}, vector.Map{"error": "stream"}} }
	consume := func(n, grant int) op { return op{vector.Map{"consume": n}, vector.Map{"grant": grant}} }
	end := op{vector.Map{"end": true}, vector.Map{"grant": 0}}
	s := func(id, comment string, n uint32, ops ...op) vector.Vector {
		return script(id, comment, "receiver", "stream_window", n, ops, "W-FLOW-3", "W-FLOW-5")
	}
	const body, cost = 65536, 65600 // the least window is twice this cost
	return []vector.Vector{
		s("half", "a grant comes at half a window, with all that was consumed", 262144, receive(65472), consume(65536, 0), receive(65472), consume(65535, 0), consume(1, 131072)),
		s("over-half", "what is over half is granted too", 131200, receive(body), receive(body-1), consume(cost+65599, 131199)),
		s("least-window", "a full frame is half of the least window", 131200, receive(body), consume(cost, cost), receive(body), consume(cost, cost), receive(body), consume(cost, cost)),
		s("exact", "the window may be used up", 131200, receive(body), receive(body)),
		s("overdraft", "an empty message more", 131200, receive(body), receive(body), overdraft(0)),
		s("overdraft-by-one", "one byte more", 131200, receive(body), receive(body-63), overdraft(0)),
		s("consumed-not-granted", "what was consumed and not granted is not the sender's", 131200, receive(body), consume(cost-1, 0), receive(body), overdraft(0)),
		s("granted", "what was granted is", 131200, receive(body), receive(body), consume(cost, cost), receive(body), overdraft(0)),
		s("small-messages", "no grant for each message", 131200, receive(0), consume(64, 0), receive(0), consume(64, 0), receive(1), consume(65, 0)),
		s("after-end", "nothing is granted after END", 131200, receive(body), receive(body), end, consume(2*cost, 0)),
		s("pending-at-end", "what was held back is not granted after END either", 131200, receive(body), consume(cost-1, 0), end, consume(1, 0)),
	}
}

// assemblers count a fragment at once as long as no complete message waits for the application.
func assemblers() []vector.Vector {
	fragment := func(n int, more bool, consumed int) op {
		return op{vector.Map{"fragment": n, "more": more}, vector.Map{"consumed": consumed}}
	}
	take := func(consumed int) op { return op{vector.Map{"take": true}, vector.Map{"consumed": consumed}} }
	s := func(id, comment string, ops ...op) vector.Vector {
		return script(id, comment, "assembler", "stream_window", 262144, ops, "W-FLOW-6", "L-FINE-9")
	}
	return []vector.Vector{
		s("one", "a complete message waits: nothing until it is taken", fragment(100, false, 0), take(164)),
		s("fragments", "fragments count as they arrive, the last one when the message is taken", fragment(100, true, 164), fragment(200, true, 264), fragment(50, false, 0), take(114)),
		s("larger-than-window", "a message larger than the window cannot wait for itself",
			fragment(65536, true, 65600), fragment(65536, true, 65600), fragment(65536, true, 65600), fragment(65536, true, 65600), fragment(65536, true, 65600), fragment(1, false, 0), take(65)),
		s("next-waits", "while a complete message waits, fragments of the next do not count", fragment(10, false, 0), fragment(20, true, 0), fragment(30, true, 0), take(74+84+94), fragment(5, false, 0), take(69)),
		s("two-wait", "two complete messages: all of it when the last is taken", fragment(10, false, 0), fragment(20, false, 0), take(0), take(74+84)),
		s("empty", "an empty message costs 64", fragment(0, false, 0), take(64)),
	}
}
