package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func fragments() []script {
	out := append(arriving(), brokenFragments()...)
	return append(out, leavingSplit()...)
}

// part is a fragment that begins a message of n bytes.
func part(f raw.Frame, n uint64) raw.Frame {
	f.Flags |= raw.Msg | raw.More
	f.Head = headOf(total(n), f.Head)
	return f
}

const (
	first = raw.Msg | raw.More
	last  = raw.Msg | raw.End
)

func arriving() []script {
	callee, opener := callCallee(), callOpener()
	begun := recv("REQUEST|MSG|MORE, 4 of 10", one(part(request(1, 0, 4), 10)), gets("request", 1, first, 4))
	return []script{
		{"callee/unary", "receivers accept any split, of unary calls too", rules("W-MSG-3", "W-MSG-6"), callee, []step{
			begun, recv("3 of 10", one(message(1, first, 3)), gets("message", 1, first, 3)), recv("3 of 10, END", one(message(1, last, 3)), gets("message", 1, last, 3)), answers(1),
		}},
		{"callee/one-byte-fragments", "ten fragments in one read", rules("W-MSG-6"), callee, []step{
			recv("REQUEST|MSG|MORE, 0 of 3", one(part(request(1, 0, 0), 3)), gets("request", 1, first, 0)),
			recv("1, 1, 1", several(message(1, first, 1), message(1, first, 1), message(1, last, 1)), gets("message", 1, first, 1), gets("message", 1, first, 1), gets("message", 1, last, 1)),
		}},
		{"callee/empty-last", "the last fragment may be empty", rules("W-MSG-1", "W-MSG-5"), callee, []step{
			recv("all of 4", one(part(request(1, 0, 4), 4)), gets("request", 1, first, 4)), recv("nothing more", one(message(1, last, 0)), gets("message", 1, last, 0)),
		}},
		{"callee/message-after-message", "each message has a total_length of its own", rules("W-MSG-4"), callee, []step{
			recv("REQUEST", one(request(1, 0, 0)), gets("request", 1, 0, 0)),
			recv("2 of 3, 1 of 3", several(part(message(1, 0, 2), 3), message(1, raw.Msg, 1)), gets("message", 1, first, 2), gets("message", 1, raw.Msg, 1)),
			recv("a whole one", one(message(1, raw.Msg, 5)), gets("message", 1, raw.Msg, 5)),
			recv("1 of 2, 1 of 2, END", several(part(message(1, 0, 1), 2), message(1, last, 1)), gets("message", 1, first, 1), gets("message", 1, last, 1)),
		}},
		{"callee/window-between", "WINDOW may come between fragments", rules("W-MSG-6"), callee, []step{begun, recv("WINDOW, rest", several(windowFrame(1, 9), message(1, last, 6)), gets("message", 1, last, 6))}},
		{"callee/reset-between", "RESET may come between fragments", rules("W-MSG-6"), callee, []step{begun, recv("RESET", one(cancelFrame(1)), getsReset(1, 1, cancelled, unknown))}},
		{"callee/streams-between", "other streams' fragments may come between", rules("W-MSG-6", "SEM-7"), callee, []step{
			begun, recv("REQUEST 3, 1 of 2", one(part(request(3, 0, 1), 2)), gets("request", 3, first, 1)),
			recv("rest of 1, rest of 3", several(message(1, last, 6), message(3, last, 1)), gets("message", 1, last, 6), gets("message", 3, last, 1)),
		}},
		{"callee/last-total-wins", "a relay appended total_length", rules("W-MSG-4", "W-MSG-9"), callee, []step{
			recv("REQUEST, 4 of 99 of 10", one(withHead(request(1, first, 4), headOf(total(99), callHead, total(10)))), gets("request", 1, first, 4)),
			recv("rest", one(message(1, last, 6)), gets("message", 1, last, 6)),
		}},
		{"callee/total-ignored", "total_length means nothing without MORE and on later fragments", rules("W-MSG-4"), callee, []step{
			recv("REQUEST|MSG with total 99", one(withHead(request(1, raw.Msg, 4), headOf(total(99), callHead))), gets("request", 1, raw.Msg, 4)),
			recv("2 of 4, total 9 on the last", several(part(message(1, 0, 2), 4), withHead(message(1, last, 2), total(9))), gets("message", 1, first, 2), gets("message", 1, last, 2)),
		}},
		{"callee/compressed-later", "COMPRESSED counts on the first fragment only", rules("W-FLAG-4"), callee, []step{
			begun, recv("rest|COMPRESSED", one(message(1, last|raw.Compressed, 6)), deliver("message", vector.Map{"stream": uint32(1), "body_len": 6})),
		}},
		{"opener/final-is-last", "the final RESPONSE carries the last fragment", rules("W-MSG-3", "W-MSG-10"), opener, []step{
			opens(1), recv("RESPONSE|MSG|MORE, 4 of 10", one(part(response(1, 0, 4), 10)), gets("response", 1, first, 4)),
			recv("3 of 10", one(message(1, first, 3)), gets("message", 1, first, 3)), recv("RESPONSE|MSG|END, 3 of 10", one(response(1, last, 3)), gets("response", 1, last, 3)),
		}},
		{"opener/final-after-initial", "the same after a RESPONSE with initial metadata", rules("W-MSG-10"), opener, []step{
			opens(1), recv("RESPONSE", one(initial(1)), gets("response", 1, 0, 0)),
			recv("MESSAGE|MSG|MORE, RESPONSE|MSG|END", several(part(message(1, 0, 4), 6), response(1, last, 2)), gets("message", 1, first, 4), gets("response", 1, last, 2)),
		}},
		{"opener/abandoned", "an error without MSG abandons the message", rules("W-MSG-7"), opener, []step{
			opens(1), recv("RESPONSE|MSG|MORE, 4 of 10", one(part(response(1, 0, 4), 10)), gets("response", 1, first, 4)),
			recv("RESPONSE|END with an error", one(withHead(response(1, raw.End, 0), status(internal, 0, 2))), gets("response", 1, raw.End, 0)), opens(3),
		}},
	}
}

func brokenFragments() []script {
	var out []script
	callee := func(id, comment string, bad raw.Frame, names ...string) {
		out = append(out, script{"callee/" + id, comment, append(names, "W-END-6", "W-CONN-2"), callCallee(), []step{
			recv("REQUEST|MSG|MORE, 4 of 10", one(part(request(1, 0, 4), 10)), gets("request", 1, first, 4)), recv(id, one(bad), streamError(1)...),
			recv("under way, REQUEST 3", several(message(1, last, 6), unary(3)), getsUnary(3)),
		}})
	}
	callee("too-much", "a last fragment beyond total_length", message(1, last, 7), "W-MSG-5")
	callee("too-much-more", "a fragment beyond total_length, with more to come", message(1, first, 7), "W-MSG-5")
	callee("too-little", "a last fragment that falls short", message(1, last, 5), "W-MSG-5")
	callee("end-without-msg", "END in the middle of a message", message(1, raw.End, 0), "W-MSG-3")
	callee("nothing", "a MESSAGE without MSG in the middle of a message", message(1, 0, 0), "W-MSG-3", "W-MSG-8")
	callee("more-and-end", "MORE with END in the middle of a message", message(1, first|raw.End, 1), "W-MSG-2")
	opener := func(id, comment string, bad raw.Frame) {
		out = append(out, script{"opener/" + id, comment, rules("W-MSG-3", "W-CONN-2"), callOpener(), []step{
			opens(1), recv("MESSAGE|MSG|MORE, 4 of 10", one(part(message(1, 0, 4), 10)), gets("message", 1, first, 4)), recv(id, one(bad), streamError(1)...), opens(3),
		}})
	}
	opener("initial-in-between", "RESPONSE in the middle of a message", initial(1))
	opener("response-as-fragment", "a RESPONSE without END is no later fragment", response(1, raw.Msg, 6))
	opener("response-first-in-between", "another message begins before this one ended", part(response(1, 0, 1), 2))
	opener("final-too-little", "the final RESPONSE falls short", response(1, last, 5))
	opener("final-too-much", "the final RESPONSE goes beyond", response(1, last, 7))
	begin := func(id, comment string, bad raw.Frame, code, reason int, names ...string) {
		out = append(out, script{"callee/message-" + id, comment, append(names, "W-CONN-2"), callCallee(), []step{
			recv("REQUEST", one(request(1, raw.Msg, 1)), gets("request", 1, raw.Msg, 1)), recv(id, one(bad), failed(1, code, reason)...), recv("REQUEST 3", one(unary(3)), getsUnary(3)),
		}})
	}
	begin("no-total", "a first fragment without total_length", message(1, first, 3), internal, streamProtocol, "W-MSG-4")
	begin("total-0", "a total_length of 0", withHead(message(1, first, 0), []byte{0x10, 0x00}), internal, streamProtocol, "W-MSG-4")
	begin("beyond-total", "a first fragment longer than the message", part(message(1, 0, 3), 2), internal, streamProtocol, "W-MSG-5")
	begin("bad-head", "a first fragment whose head does not parse", withHead(message(1, first, 3), []byte{0x10}), invalidArgument, badHead, "W-END-7", "E-DISP-6")
	return out
}

// leavingSplit sends more than one frame holds.
func leavingSplit() []script {
	const n = 70_000 // more than max_frame_body, less than the window
	return []script{
		{"opener/splits", "a request longer than max_frame_body", rules("W-MSG-9", "W-FRAME-5", "W-FRAME-11"), callOpener(), []step{
			open(last, n, sends("REQUEST", "MESSAGE", 1, n, true)),
		}},
		{"opener/splits-message", "a message longer than max_frame_body", rules("W-MSG-9"), callOpener(), []step{
			open(0, 0, writeFrame("REQUEST", 1, 0, 0)), send("MESSAGE", 1, raw.Msg, n, sends("MESSAGE", "MESSAGE", 1, n, false)), send("MESSAGE", 1, raw.End, 0, writeFrame("MESSAGE", 1, raw.End, 0)),
		}},
		{"callee/splits-unary", "a final RESPONSE whose head rides on the last fragment", rules("W-MSG-10"), callCallee(), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("RESPONSE", 1, last, n, sends("RESPONSE", "RESPONSE", 1, n, true)), recv("closed", one(windowFrame(1, 1))),
		}},
		{"callee/splits-final", "the same after a RESPONSE was sent", rules("W-MSG-10", "W-STREAM-2"), callCallee(), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("RESPONSE", 1, 0, 0, writeFrame("RESPONSE", 1, 0, 0)), send("RESPONSE", 1, last, n, sends("MESSAGE", "RESPONSE", 1, n, true)),
		}},
		splitsBeginning("splits-beginning", "what an answer begins with goes before its message, and again with its end", answerBegins),
		splitsBeginning("splits-beginning-alone", "most answers begin with initial metadata that has no entry", raw.Num(6, 1)),
		splitsBeginning("splits-no-beginning", "an answer of trailers alone begins with nothing", nil),
		{"callee/splits-later", "behind a RESPONSE the first fragment has total_length alone", rules("W-MSG-10", "W-MSG-13"), callCallee(), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("RESPONSE", 1, 0, 0, writeFrame("RESPONSE", 1, 0, 0)),
			sendHead("RESPONSE", 1, last, endsAnswer(answerBegins), n, sendsHeads("MESSAGE", "RESPONSE", 1, n, total(n), endsAnswer(answerBegins))),
		}},
		{"callee/splits-first", "a first RESPONSE with a message keeps its head on the first fragment", rules("W-MSG-9"), callCallee(), []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("RESPONSE", 1, raw.Msg, n, sends("RESPONSE", "MESSAGE", 1, n, false)), send("RESPONSE", 1, raw.End, 0, writeFrame("RESPONSE", 1, raw.End, 0)),
		}},
	}
}

// answerBegins is all that an answer begins with: encoding, accepted encodings, content type, and initial metadata.
var answerBegins = headOf(raw.Text(3, "gzip"), raw.Text(4, "identity"), raw.Text(4, "gzip"), raw.Text(5, "application/grpc"), raw.Num(6, 1),
	raw.Text(7, headOf(raw.Text(1, "k"), raw.Text(2, "v"))), raw.Text(7, headOf(raw.Text(1, "b-bin"), raw.Text(2, "\x00"))))

// endsAnswer is a final head that begins an answer, too.
func endsAnswer(begins []byte) []byte {
	return headOf(begins, raw.Text(8, headOf(raw.Text(1, "t"), raw.Text(2, "w"))))
}

// splitsBeginning splits an answer that is one final RESPONSE, which begins so.
func splitsBeginning(id, comment string, begins []byte) script {
	const n = 70_000
	head := endsAnswer(begins)
	return script{"callee/" + id, comment, rules("W-MSG-10", "W-MSG-13"), callCallee(), []step{
		recv("REQUEST", one(unary(1)), getsUnary(1)),
		sendHead("RESPONSE", 1, last, head, n, sendsHeads("RESPONSE", "RESPONSE", 1, n, headOf(begins, total(n)), head)),
	}}
}
