package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// The least window holds two frames of the greatest body that every receiver takes.
const (
	least    = 131_200
	fullBody = 65_536
	fullCost = fullBody + 64
)

func credits() []script { return append(received(), sent()...) }

func received() []script {
	const msg = raw.Msg
	callee := callCallee().local(limits{StreamWindow: least})
	begun := recv("REQUEST|MSG, 65536", one(request(1, msg, fullBody)), gets("request", 1, msg, fullBody))
	more := func(n int) step { return recv("MESSAGE", one(message(1, msg, n)), gets("message", 1, msg, n)) }
	over := recv("an empty message too much", one(message(1, msg, 0)), streamError(1)...)
	next := recv("REQUEST 3", one(unary(3)), getsUnary(3))
	return []script{
		{"callee/overdraft", "more than the window", rules("W-FLOW-3", "W-END-6"), callee, []step{begun, more(fullBody), over, next}},
		{"callee/used-up", "frames without MSG are free", rules("W-FLOW-1", "W-FLOW-3"), callee, []step{
			begun, more(fullBody), recv("END", one(message(1, raw.End, 0)), gets("message", 1, raw.End, 0)), answers(1),
		}},
		{"callee/grant-at-half", "one WINDOW for half a window or more", rules("W-FLOW-5"), callee, []step{
			begun, consume(1, fullCost-1), consume(1, 1, writeWindow(1, fullCost)), more(fullBody), more(fullBody), over,
		}},
		{"callee/grant-is-whole", "all that was consumed is granted", rules("W-FLOW-5"), callee, []step{
			begun, consume(1, fullCost-1), more(1000), consume(1, 1065, writeWindow(1, fullCost+1064)),
		}},
		{"callee/no-grant-after-end", "nothing is granted after END", rules("W-FLOW-5"), callee, []step{
			begun, recv("MESSAGE|MSG|END", one(message(1, msg|raw.End, fullBody)), gets("message", 1, msg|raw.End, fullBody)), consume(1, 2*fullCost), answers(1),
		}},
		{"callee/per-stream", "each stream has a window of its own", rules("W-FLOW-2", "W-FLOW-8"), callee, []step{
			begun, more(fullBody), recv("REQUEST|MSG 3", one(request(3, msg, fullBody)), gets("request", 3, msg, fullBody)), over,
			recv("MESSAGE 3", one(message(3, msg, fullBody)), gets("message", 3, msg, fullBody)),
		}},
		{"callee/fragments-cost", "each fragment costs 64", rules("W-FLOW-1"), callee, []step{
			recv("REQUEST|MSG|MORE", one(part(request(1, 0, fullBody), 200_000)), gets("request", 1, first, fullBody)),
			recv("MESSAGE|MSG|MORE", one(message(1, first, fullBody)), gets("message", 1, first, fullBody)), recv("one byte more", one(message(1, first, 1)), streamError(1)...),
		}},
		{"opener/overdraft", "the callee's messages have a window too", rules("W-FLOW-2", "W-FLOW-3"), callOpener().local(limits{StreamWindow: least}), []step{
			opens(1), recv("MESSAGE, MESSAGE", several(message(1, msg, fullBody), message(1, msg, fullBody)), gets("message", 1, msg, fullBody), gets("message", 1, msg, fullBody)), over, opens(3),
		}},
		{"callee/window-0", "a WINDOW of 0", rules("W-FLOW-4"), callee, []step{begun, recv("WINDOW 0", one(windowFrame(1, 0)), streamError(1)...), next}},
		{"callee/window-greatest", "credit of exactly 2^31-1", rules("W-FLOW-4"), callee.peer(limits{StreamWindow: least}), []step{
			begun, recv("WINDOW", one(windowFrame(1, 1<<31-1-least))), recv("WINDOW 1", one(windowFrame(1, 1)), streamError(1)...), next,
		}},
		{"callee/window-over", "credit over 2^31-1", rules("W-FLOW-4"), callee.peer(limits{StreamWindow: least}), []step{begun, recv("WINDOW", one(windowFrame(1, 1<<31-least)), streamError(1)...), next}},
		{"callee/window-after-end", "the opener may still grant after its END", rules("W-STREAM-5", "W-FLOW-2"), callee, []step{recv("REQUEST", one(unary(1)), getsUnary(1)), recv("WINDOW", one(windowFrame(1, 100))), answers(1)}},
	}
}

func sent() []script {
	const msg = raw.Msg
	opener := callOpener().peer(limits{StreamWindow: least})
	begun := open(msg, fullBody, writeFrame("REQUEST", 1, msg, fullBody))
	full := send("MESSAGE", 1, msg, fullBody, writeFrame("MESSAGE", 1, msg, fullBody))
	waits := send("MESSAGE", 1, msg, 100, blocked(1))
	return []script{
		{"opener/waits", "without credit nothing goes", rules("W-FLOW-3"), opener, []step{
			begun, full, waits, recv("WINDOW", one(windowFrame(1, fullCost)), optional(getsCredit(1)), writeFrame("MESSAGE", 1, msg, 100)),
		}},
		{"opener/waits-for-64", "an empty message costs 64", rules("W-FLOW-1", "W-FLOW-3"), opener, []step{
			begun, full, send("MESSAGE", 1, msg, 0, blocked(1)), recv("WINDOW 63", one(windowFrame(1, 63)), optional(getsCredit(1))),
			recv("WINDOW 1", one(windowFrame(1, 1)), optional(getsCredit(1)), writeFrame("MESSAGE", 1, msg, 0)),
		}},
		{"opener/end-needs-none", "frames without MSG need no credit", rules("W-FLOW-1"), opener, []step{begun, full, send("MESSAGE", 1, raw.End, 0, writeFrame("MESSAGE", 1, raw.End, 0))}},
		{"opener/other-stream", "another stream has credit of its own", rules("W-FLOW-8"), opener, []step{
			begun, full, waits, open(msg, fullBody, writeFrame("REQUEST", 3, msg, fullBody)), recv("WINDOW 1", one(windowFrame(1, fullCost)), optional(getsCredit(1)), writeFrame("MESSAGE", 1, msg, 100)),
		}},
		{"opener/end-drops-waits", "RESPONSE|END drops what waits for credit", rules("W-END-1"), opener, []step{
			begun, full, waits, recv("RESPONSE|END", one(response(1, raw.End, 0)), gets("response", 1, raw.End, 0)), recv("WINDOW under way", one(windowFrame(1, fullCost))), opens(3),
		}},
		{"opener/reset-drops-waits", "so does RESET", rules("W-END-2"), opener, []step{
			begun, full, waits, recv("RESET", one(cancelFrame(1)), getsReset(1, 1, cancelled, unknown)), recv("WINDOW under way", one(windowFrame(1, fullCost))), opens(3),
		}},
		{"callee/waits", "a callee's messages wait too", rules("W-FLOW-2", "W-FLOW-3"), callCallee().peer(limits{StreamWindow: least}), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("MESSAGE", 1, msg, fullBody, writeFrame("MESSAGE", 1, msg, fullBody)), send("MESSAGE", 1, msg, fullBody, writeFrame("MESSAGE", 1, msg, fullBody)),
			send("RESPONSE", 1, msg|raw.End, 10, blocked(1)), recv("WINDOW", one(windowFrame(1, fullCost)), optional(getsCredit(1)), writeFrame("RESPONSE", 1, msg|raw.End, 10)),
		}},
		{"callee/error-needs-none", "an error without a message needs no credit", rules("W-FLOW-1"), callCallee().peer(limits{StreamWindow: least}), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("MESSAGE", 1, msg, fullBody, writeFrame("MESSAGE", 1, msg, fullBody)), send("MESSAGE", 1, msg, fullBody, writeFrame("MESSAGE", 1, msg, fullBody)),
			send("RESPONSE", 1, raw.End, 0, writeFrame("RESPONSE", 1, raw.End, 0)),
		}},
	}
}

func controls() []script {
	callee := callCallee()
	pong := func(payload string) vector.Map {
		return writes("PONG", 0, vector.Map{"payload": hexed([]byte(payload))})
	}
	ping := writes("PING", 0, vector.Map{"payload": hexed([]byte("pingpong"))})
	pings := func(actions ...vector.Map) step {
		return event("ping", vector.Map{"payload": hexed([]byte("pingpong"))}, actions)
	}
	gotPong := deliver("pong", vector.Map{"payload": hexed([]byte("pingpong"))})
	request := recv("REQUEST 1", one(unary(1)), getsUnary(1))
	return []script{
		{"pong", "PONG returns the bytes", rules("W-LIVE-1"), callee, []step{recv("PING", one(pingFrame("abcdefgh")), pong("abcdefgh")), recv("PING", one(pingFrame("\x00\xff345678")), pong("\x00\xff345678"))}},
		{"pong-first", "PONG goes before queued data", rules("W-LIVE-1"), callee, []step{
			request, hold(send("MESSAGE", 1, raw.Msg, 9)), heldBack(recv("PING", one(pingFrame("abcdefgh")), placed(pong("abcdefgh"), "first")), writeFrame("MESSAGE", 1, raw.Msg, 9)),
		}},
		{"ping-first", "PING goes before queued data", rules("W-LIVE-1"), callee, []step{
			request, hold(send("MESSAGE", 1, raw.Msg, 9)), heldBack(pings(placed(ping, "first")), writeFrame("MESSAGE", 1, raw.Msg, 9)),
		}},
		{"ping-flood", "a second PING before the first was answered", rules("W-LIVE-2"), callee, []step{
			hold(recv("PING", one(pingFrame("abcdefgh")))), recv("PING", one(pingFrame("abcdefgh")), optional(pong("abcdefgh")), writeGoAway(enhanceCalm, nil), closes()),
		}},
		{"one-ping", "one PING at a time", rules("W-LIVE-2"), callee, []step{pings(ping), pings(), recv("PONG", one(pongFrame("pingpong")), gotPong), pings(ping)}},
		{"pong-unasked", "a PONG that answers nothing is no error", rules("W-LIVE-3"), callee, []step{recv("PONG", one(pongFrame("pingpong")), optional(gotPong)), request}},
		{"ping-with-head", "a head of PING is skipped", rules("W-TYPE-4"), callee, []step{recv("PING", one(withHead(pingFrame("abcdefgh"), []byte{0xff})), pong("abcdefgh"))}},
		{"ping-flags", "flags mean nothing on stream 0", rules("W-FLAG-1", "W-FLAG-2"), callee, []step{recv("PING|7F", one(withFlags(pingFrame("abcdefgh"), 0x7f)), pong("abcdefgh"))}},
		{"ping-critical", "but the critical one", rules("W-FLAG-3"), callee, []step{recv("PING|80", one(withFlags(pingFrame("abcdefgh"), 0x80)), protocolErrorAt(0)...)}},
		{"unknown-types", "unknown types are skipped on any stream, with any flags", rules("W-TYPE-2"), callee, []step{
			recv("types 0, 7, 99, 255", several(unknownFrame(0, 0, 0), unknownFrame(7, 2, 65536), withFlags(unknownFrame(99, 1, 3), 0xff), withHead(unknownFrame(255, 4294967295, 1), []byte{0xff})), nil...),
			request, recv("type 99 on the open stream", one(withFlags(unknownFrame(99, 1, 3), raw.Critical))), answers(1),
		}},
		{"unknown-type-costs-nothing", "an unknown type takes no credit", rules("W-TYPE-2"), callee.local(limits{StreamWindow: least}), []step{
			recv("REQUEST", one(requestOf(1)), gets("request", 1, 0, 0)), recv("type 99, three times a frame", several(withFlags(unknownFrame(99, 1, fullBody), raw.Msg), withFlags(unknownFrame(99, 1, fullBody), raw.Msg), withFlags(unknownFrame(99, 1, fullBody), raw.Msg))),
			recv("MESSAGE, MESSAGE", several(message(1, raw.Msg, fullBody), message(1, raw.Msg, fullBody)), gets("message", 1, raw.Msg, fullBody), gets("message", 1, raw.Msg, fullBody)),
		}},
	}
}

// requestOf opens a stream without a message.
func requestOf(id uint32) raw.Frame { return request(id, 0, 0) }

// placed says that a write comes first or last of all that are flushed with it.
func placed(write vector.Map, where string) vector.Map {
	return vector.Map{"write": merge(write["write"].(vector.Map), vector.Map{"place": where})}
}
