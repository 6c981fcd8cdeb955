package machine

import (
	"fmt"

	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func endings() []script {
	const msg, end = raw.Msg, raw.End
	callee, opener := callCallee(), callOpener()
	begun := recv("REQUEST 1", one(unary(1)), getsUnary(1))
	out := []script{
		{"callee/cancelled", "cancellation reaches the callee", rules("W-END-4", "W-END-2"), callee, []step{
			begun, recv("RESET", one(cancelFrame(1)), getsReset(1, 1, cancelled, unknown)), recv("RESET again", one(cancelFrame(1))), released(1), recv("REQUEST 3", one(unary(3)), getsUnary(3)),
		}},
		{"opener/cancels", "the opener cancels, and hears nothing more", rules("W-END-4", "W-END-2", "SEM-32"), opener, []step{
			opens(1), reset(1, 1, cancelled, unknown, writeReset(1, 1, cancelled, unknown)), recv("the answer under way", one(response(1, msg|end, 3))), opens(3),
		}},
		{"opener/refused", "a hop refuses", rules("W-END-3"), opener, []step{
			opens(1), recv("RESET", one(resetFrame(1, resourceExhausted, queueFull, notProcessed)), getsReset(1, resourceExhausted, queueFull, notProcessed)), opens(3),
		}},
		{"callee/reset", "a hop ends the call on both sides", rules("W-END-3"), callee, []step{
			begun, reset(1, 4, 42, unknown, writeReset(1, 4, 42, unknown)), recv("WINDOW under way", one(windowFrame(1, 5))), released(1),
		}},
		{"opener/reset-unknown-numbers", "code and reason outside the lists are kept", rules("E-CODE-1", "E-REASON-1"), opener, []step{
			opens(1), recv("RESET", one(resetFrame(1, 4242, 999, 2)), getsReset(1, 4242, 999, 2)),
		}},
		{"opener/reset-disposition-unknown", "an unknown disposition counts as UNKNOWN", rules("E-DISP-1"), opener, []step{
			opens(1), recv("RESET", one(resetFrame(1, unavailable, 1, 9)), getsReset(1, unavailable, 1, unknown)),
		}},
		{"opener/reset-empty", "a RESET that says nothing", rules("W-END-2"), opener, []step{opens(1), recv("RESET", one(raw.Frame{Type: raw.Reset, Stream: 1}), getsReset(1, 0, 0, unknown))}},
		{"opener/reset-bad-head", "a RESET that does not parse ends the stream all the same", rules("W-END-8"), opener, []step{
			opens(1), recv("RESET", one(raw.Frame{Type: raw.Reset, Stream: 1, Head: []byte{0x0a, 0x05}}), getsReset(1, internal, streamProtocol, unknown)), opens(3),
		}},
		{"opener/reset-critical", "a critical flag on RESET is ignored", rules("W-FLAG-3"), opener, []step{opens(1), recv("RESET|80", one(withFlags(cancelFrame(1), raw.Critical)), getsReset(1, 1, cancelled, unknown))}},
		{"opener/http2-code", "a bridge's code travels", rules("W-END-2"), opener, []step{
			opens(1), recv("RESET with http2_code 8", one(raw.Frame{Type: raw.Reset, Stream: 1, Head: headOf(status(1, cancelled, 0), raw.Num(2, 8))}),
				deliver("reset", merge(statusMap(1, cancelled, unknown), vector.Map{"stream": uint32(1), "http2_code": 8}))),
		}},
		{"opener/lost", "a lost connection ends open calls UNKNOWN", rules("W-CONN-4", "W-END-10"), opener, []step{opens(1), opens(3), lost(lostCall(1), lostCall(3), closes())}},
		{"opener/lost-unwritten", "calls of which nothing was written go on elsewhere", rules("W-CONN-4", "S-AGAIN-1"), opener, []step{
			opens(1), opens(3), unwritten(lostCall(1), ended(3, unavailable, proxyUnready, notProcessed), closes()),
		}},
		{"opener/lost-behind", "nothing of a frame that is no call's: the calls were written before", rules("W-CONN-4"), opener, []step{
			opens(1), opens(3), drained(writes("DRAINED", 0, nil)), unwritten(lostCall(1), lostCall(3), closes()),
		}},
		{"callee/lost", "and cancels handlers", rules("W-CONN-4"), callee, []step{begun, lost(lostCall(1), closes())}},
		{"opener/lost-closed", "a call that ended before is not ended again", rules("W-END-10", "L-FINE-3"), opener, []step{
			opens(1), opens(3), recv("RESET 1", one(resetFrame(1, unavailable, proxyDraining, notProcessed)), getsReset(1, unavailable, proxyDraining, notProcessed)), lost(lostCall(3), closes()),
		}},
		{"callee/discards", "after its GOAWAY{PROTOCOL_ERROR} a side takes nothing any more", rules("W-CONN-1", "W-CONN-3"), callee, []step{
			recv("WINDOW 1", one(windowFrame(1, 1)), protocolErrorAt(0)...), recv("REQUEST 1", one(unary(1))), recv("rubbish", one(raw.Frame{Magic: 0xffff})),
		}},
		{"callee/nothing-of-the-frame", "nothing of the frame at fault has an effect", rules("W-CONN-1"), callee, []step{
			recv("REQUEST 1, wrong magic, REQUEST 3", several(unary(1), raw.Frame{Magic: 0x0c71, Type: 18, Stream: 1}, unary(3)), append([]vector.Map{getsUnary(1)}, append(protocolErrorAt(unary(1).Len()), lostCall(1))...)...),
		}},
		{"callee/goaway-bad-head", "a GOAWAY that does not parse", rules("W-CONN-6"), callee, []step{recv("GOAWAY", one(withHead(graceful(), []byte{0x10})), protocolErrorAt(0)...)}},
	}
	for _, code := range []uint64{0, protocolError, enhanceCalm, goAwayRefused, 99} {
		out = append(out, script{fmt.Sprintf("opener/goaway-%d", code), "a GOAWAY that is not graceful ends open calls", rules("W-GOAWAY-2", "W-CONN-5"), opener, []step{
			opens(1), recv("GOAWAY", one(goAwayFrame(code, lastOfGraceful, false)), deliver("goaway", vector.Map{"code": int(code)}), lostCall(1), closes()),
		}})
	}
	return sorted(out)
}

func leavings() []script {
	return append(callLeavings(), serveLeavings()...)
}

func callLeavings() []script {
	const msg, end = raw.Msg, raw.End
	callee, opener := callCallee(), callOpener()
	gone := getsGoAway(draining, lastOfGraceful, false)
	drain := drained(placed(writes("DRAINED", 0, nil), "last"))
	done := func(id uint32, more ...vector.Map) step {
		return recv(fmt.Sprintf("RESPONSE %d", id), one(response(id, msg|end, 3)), append([]vector.Map{gets("response", id, msg|end, 3)}, more...)...)
	}
	noMore := open(msg|end, 5, refused("not_open"))
	return []script{
		{"opener/moves", "a graceful GOAWAY ends nothing; the dialer closes first", rules("L-GRACE-1", "L-GRACE-3", "L-GRACE-4", "L-GRACE-6", "L-FINE-8"), opener, []step{
			opens(1), recv("GOAWAY{DRAINING}", one(graceful()), gone), opens(3), drain, noMore, done(1), done(3, closes()),
		}},
		{"opener/moves-idle", "with no call open the connection closes at once", rules("L-GRACE-6"), opener, []step{recv("GOAWAY{DRAINING}", one(graceful()), gone), drained(placed(writes("DRAINED", 0, nil), "last"), closes())}},
		{"opener/ids-exhausted", "ID_EXHAUSTED is graceful too", rules("L-GRACE-7", "W-GOAWAY-2"), opener, []step{
			opens(1), recv("GOAWAY{ID_EXHAUSTED}", one(goAwayFrame(idExhausted, lastOfGraceful, false)), getsGoAway(idExhausted, lastOfGraceful, false)), drain, done(1, closes()),
		}},
		{"opener/goaway-twice", "a second graceful GOAWAY says nothing new", rules("L-GRACE-8"), opener, []step{
			opens(1), recv("GOAWAY, GOAWAY", several(graceful(), graceful()), gone, optional(gone)), done(1), opens(3),
		}},
		{"opener/leaves", "an opener that leaves by itself says DRAINED", rules("L-GRACE-9", "L-GRACE-4"), opener, []step{opens(1), drain, noMore, done(1, closes())}},
		{"opener/leaves-goaway", "with a GOAWAY of its own before", rules("L-GRACE-1", "L-GRACE-9"), opener, []step{opens(1), leave(writeLeaving()), opens(3), drain, done(3), done(1, closes())}},
		{"opener/open-stream-goes-on", "after DRAINED open streams go on in both directions", rules("L-GRACE-4"), opener, []step{
			open(msg, 1, writeFrame("REQUEST", 1, msg, 1)), drain, send("MESSAGE", 1, msg, 2, writeFrame("MESSAGE", 1, msg, 2)), recv("MESSAGE", one(message(1, msg, 2)), gets("message", 1, msg, 2)),
			send("MESSAGE", 1, end, 0, writeFrame("MESSAGE", 1, end, 0)), done(1, closes()),
		}},
		{"opener/cancel-is-an-end", "a call that is reset is not open either", rules("L-GRACE-6"), opener, []step{opens(1), drain, reset(1, 1, cancelled, unknown, writeReset(1, 1, cancelled, unknown), closes())}},
		{"opener/drained-from-callee", "DRAINED from the side that opens nothing", rules("W-GOAWAY-3"), opener, []step{recv("DRAINED", one(drainedFrame()), protocolErrorAt(0)...)}},
		{"callee/leaves", "the callee serves until DRAINED has come; it waits for the dialer to close", rules("L-GRACE-1", "L-GRACE-5", "L-GRACE-6"), callee, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), leave(writeLeaving()), recv("REQUEST 3", one(unary(3)), getsUnary(3)), answers(1), recv("DRAINED", one(drainedFrame()), deliver("drained", nil)), answers(3),
		}},
		{"callee/leaves-idle", "also with no call open", rules("L-GRACE-6"), callee, []step{leave(writeLeaving()), recv("DRAINED", one(drainedFrame()), deliver("drained", nil))}},
		{"callee/request-after-drained", "DRAINED was the last new word", rules("W-GOAWAY-4", "L-GRACE-4"), callee, []step{
			recv("DRAINED", one(drainedFrame()), deliver("drained", nil)), recv("REQUEST 1", one(unary(1)), protocolErrorAt(16)...),
		}},
		{"callee/drained-twice", "a second DRAINED says nothing new", rules("W-GOAWAY-3"), callee, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), recv("DRAINED, DRAINED", several(drainedFrame(), drainedFrame()), deliver("drained", nil), optional(deliver("drained", nil))), answers(1),
		}},
		{"callee/drained-with-head", "a head of DRAINED is skipped", rules("W-TYPE-4"), callee, []step{recv("DRAINED", one(withHead(drainedFrame(), []byte{0xff})), deliver("drained", nil))}},
		{"callee/opener-leaves", "the opener's GOAWAY stops nothing", rules("L-GRACE-5"), callee, []step{recv("GOAWAY", one(graceful()), gone), recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1)}},
		{"both/opener", "both leave, seen by the dialer", rules("L-GRACE-2", "L-GRACE-6"), opener, []step{opens(1), leave(writeLeaving()), recv("GOAWAY", one(graceful()), gone), drain, done(1, closes())}},
		{"both/callee", "both leave, seen by the acceptor", rules("L-GRACE-6"), callee, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), leave(writeLeaving()), recv("GOAWAY, DRAINED", several(graceful(), drainedFrame()), gone, deliver("drained", nil)), answers(1),
		}},
	}
}

func serveLeavings() []script {
	const msg, end = raw.Msg, raw.End
	callee, opener := serveCallee(), serveOpener()
	gone := getsGoAway(draining, lastOfGraceful, false)
	begun := recv("REQUEST 2", one(unary(2)), getsUnary(2))
	drainedComes := deliver("drained", nil)
	return []script{
		{"serve/proxy-leaves", "the SDK serves until DRAINED has come, then closes first", rules("L-GRACE-5", "L-GRACE-6", "L-HAND-4", "L-FINE-8"), callee, []step{
			begun, recv("GOAWAY", one(graceful()), gone), recv("REQUEST 4", one(unary(4)), getsUnary(4)), answers(2), answers(4), recv("DRAINED", one(drainedFrame()), drainedComes, closes()),
		}},
		{"serve/proxy-leaves-busy", "a call is open when DRAINED comes", rules("L-GRACE-6"), callee, []step{
			begun, recv("GOAWAY, DRAINED", several(graceful(), drainedFrame()), gone, drainedComes), answers(2, closes()),
		}},
		{"serve/not-without-drained", "nothing open is no reason to close", rules("L-GRACE-6", "L-FINE-8"), callee, []step{begun, recv("GOAWAY", one(graceful()), gone), answers(2), recv("REQUEST 4", one(unary(4)), getsUnary(4))}},
		{"serve/sdk-leaves", "an SDK that leaves gets DRAINED at once", rules("L-GRACE-1", "L-FINE-13"), callee, []step{begun, leave(writeLeaving()), recv("DRAINED", one(drainedFrame()), drainedComes), answers(2, closes())}},
		{"serve/opener-drains", "the proxy says DRAINED and leaves closing to the dialer", rules("L-GRACE-4", "L-GRACE-6"), opener, []step{
			opens(2), leave(writeLeaving()), drained(placed(writes("DRAINED", 0, nil), "last")), recv("RESPONSE 2", one(response(2, msg|end, 3)), gets("response", 2, msg|end, 3)),
		}},
		{"serve/opener-hears", "the proxy hears an SDK leave", rules("L-FINE-13"), opener, []step{
			opens(2), recv("GOAWAY", one(graceful()), gone), drained(placed(writes("DRAINED", 0, nil), "last")), open(msg|end, 5, refused("not_open")), recv("RESPONSE 2", one(response(2, msg|end, 3)), gets("response", 2, msg|end, 3)),
		}},
		{"serve/drained-from-callee", "DRAINED from the dialer of SERVE", rules("W-GOAWAY-3"), opener, []step{recv("DRAINED", one(drainedFrame()), protocolErrorAt(0)...)}},
		{"serve/final-from-opener", "a final GOAWAY from the opener is a graceful one: last speaks of the receiver's own ids", rules("L-FINAL-6", "L-FINE-2"), callee, []step{
			begun, recv("GOAWAY{final, last 0}", one(goAwayFrame(draining, 0, true)), deliver("goaway", vector.Map{"code": draining})), answers(2),
		}},
		{"serve/final-from-opener-lost", "nor does it say anything of calls when the connection is lost then", rules("L-FINAL-6", "L-FINE-2", "W-CONN-4"), callee, []step{
			begun, recv("GOAWAY{final, last 0}", one(goAwayFrame(draining, 0, true)), deliver("goaway", vector.Map{"code": draining})), lost(lostCall(2), closes()),
		}},
	}
}

func finals() []script {
	const msg, end = raw.Msg, raw.End
	callee, opener := callCallee(), callOpener()
	notStarted := func(id uint32) []vector.Map {
		return []vector.Map{writeReset(id, unavailable, proxyDraining, notProcessed), ended(id, unavailable, proxyDraining, notProcessed)}
	}
	cut := func(id uint32) vector.Map { return ended(id, unavailable, drainDeadline, unknown) }
	may := func(a []vector.Map) []vector.Map { return []vector.Map{optional(a[0]), a[1]} }
	begun := recv("REQUEST 1, 3, 5, 7", several(unary(1), unary(3), unary(5), unary(7)), getsUnary(1), getsUnary(3), getsUnary(5), getsUnary(7))
	finish := func(last uint32, parts ...[]vector.Map) step {
		var all []vector.Map
		for _, p := range parts {
			all = append(all, p...)
		}
		return final(append(all, placed(writeFinal(last), "last"), closes())...)
	}
	each := func(a vector.Map) []vector.Map { return []vector.Map{a} }
	comes := func(last uint32, more ...vector.Map) step {
		f := goAwayFrame(draining, uint64(last), true)
		return recv(fmt.Sprintf("GOAWAY{final, last %d}", last), one(f), append(append([]vector.Map{getsGoAway(draining, last, true)}, more...), closes())...)
	}
	surely := func(id uint32) vector.Map { return ended(id, unavailable, proxyDraining, notProcessed) }
	return []script{
		{"callee/last-is-started", "last is the highest id started; what is below and unstarted is refused first", rules("L-FINAL-1", "L-FINAL-2", "L-FINE-1"), callee, []step{
			begun, started(1), started(5), leave(writeLeaving()), finish(5, notStarted(3), may(notStarted(7)), each(cut(1)), each(cut(5))),
		}},
		{"callee/none-started", "last is 0 if nothing was started", rules("L-FINAL-2"), callee, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), leave(writeLeaving()), finish(0, may(notStarted(1))),
		}},
		{"callee/answered-counts", "started means started, not answered, and not open", rules("L-FINE-1", "L-FINAL-2"), callee, []step{
			begun, started(1), answers(1), started(3), recv("RESET 3", one(cancelFrame(3)), getsReset(3, 1, cancelled, unknown)), leave(writeLeaving()), finish(3, may(notStarted(5)), may(notStarted(7))),
		}},
		{"callee/out-of-order", "ids are started in any order", rules("L-FINAL-1"), callee, []step{
			begun, started(7), started(1), leave(writeLeaving()), finish(7, notStarted(3), notStarted(5), each(cut(1)), each(cut(7))),
		}},
		{"callee/idle", "nothing is open", rules("L-FINAL-1"), callee, []step{recv("REQUEST 1", one(unary(1)), getsUnary(1)), started(1), answers(1), leave(writeLeaving()), finish(1)}},
		{"callee/after", "what arrives after it is dropped", rules("L-FINAL-4", "L-FINE-14"), callee, []step{leave(writeLeaving()), finish(0), recv("REQUEST 1, RESET 1", several(unary(1), cancelFrame(1)))}},
		{"callee/queued-refusal", "a queued refusal below last goes before the final GOAWAY", rules("L-FINAL-1", "W-FLOW-9"), callee.local(limits{MaxStreams: 2}), []step{
			recv("REQUEST 1, 3", several(unary(1), unary(3)), getsUnary(1), getsUnary(3)), started(1), started(3), leave(writeLeaving()), hold(recv("REQUEST 5", one(unary(5)))),
			hold(answers0(1)), hold(answers0(3)), hold(recv("REQUEST 7", one(unary(7)), getsUnary(7))), hold(started(7)),
			final(writeFrame("RESPONSE", 1, msg|end, 3), writeFrame("RESPONSE", 3, msg|end, 3), writeReset(5, resourceExhausted, queueFull, notProcessed), cut(7), placed(writeFinal(7), "last"), closes()),
		}},
		{"opener/splits-at-last", "above last surely not processed, the rest UNKNOWN", rules("L-FINAL-3", "L-FINAL-4", "W-END-10"), opener, []step{opens(1), opens(3), opens(5), comes(3, cut(1), cut(3), surely(5))}},
		{"opener/last-0", "nothing was started", rules("L-FINAL-3"), opener, []step{opens(1), opens(3), comes(0, surely(1), surely(3))}},
		{"opener/refused-first", "a call that was refused before is not ended again", rules("L-FINE-3", "W-END-10"), opener, []step{
			opens(1), opens(3), opens(5), recv("RESET 3", one(resetFrame(3, unavailable, proxyDraining, notProcessed)), getsReset(3, unavailable, proxyDraining, notProcessed)), comes(1, cut(1), surely(5)),
		}},
		{"opener/answered-first", "nor one that was answered", rules("L-FINE-3"), opener, []step{opens(1), opens(3), recv("RESPONSE 3", one(response(3, msg|end, 3)), gets("response", 3, msg|end, 3)), comes(3, cut(1))}},
		{"opener/after-graceful", "the usual order: graceful, then final", rules("L-GRACE-1", "L-FINAL-3"), opener, []step{
			opens(1), recv("GOAWAY", one(graceful()), getsGoAway(draining, lastOfGraceful, false)), opens(3), drained(placed(writes("DRAINED", 0, nil), "last")), comes(1, cut(1), surely(3)),
		}},
		{"opener/late-words", "later words about the calls are dropped", rules("L-FINE-3", "W-END-10"), opener, []step{opens(1), comes(0, surely(1)), recv("RESPONSE 1", one(response(1, msg|end, 3)))}},
		{"serve/opener", "the same on SERVE: the acceptor is the opener", rules("L-FINAL-3", "L-FINE-2"), serveOpener(), []step{opens(2), opens(4), comes(2, cut(2), surely(4))}},
		{"serve/opener-deadline", "an opener ends its connection with a RESET for each open stream, then DRAINED", rules("L-FINAL-6", "L-FINE-2"), serveOpener(), []step{
			opens(2), opens(4), recv("RESPONSE 2", one(response(2, msg|end, 3)), gets("response", 2, msg|end, 3)), opens(6), leave(writeLeaving()),
			final(writeReset(4, unavailable, drainDeadline, unknown), writeReset(6, unavailable, drainDeadline, unknown), cut(4), cut(6), placed(writes("DRAINED", 0, nil), "last"), closes()),
		}},
		{"serve/opener-deadline-drained", "DRAINED is said once", rules("L-FINAL-6", "W-GOAWAY-3"), serveOpener(), []step{
			opens(2), leave(writeLeaving()), drained(placed(writes("DRAINED", 0, nil), "last")), final(writeReset(2, unavailable, drainDeadline, unknown), cut(2), closes()),
		}},
		{"serve/callee", "an SDK at its drain deadline", rules("L-FINAL-1", "L-FINE-2"), serveCallee(), []step{
			recv("REQUEST 2, 4", several(unary(2), unary(4)), getsUnary(2), getsUnary(4)), started(4), leave(writeLeaving()), finish(4, notStarted(2), each(cut(4))),
		}},
	}
}

// answers0 is a whole unary answer that is not flushed yet.
func answers0(id uint32) step { return send("RESPONSE", id, raw.Msg|raw.End, 3) }
