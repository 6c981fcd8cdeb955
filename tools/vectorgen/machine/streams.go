package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func streams() []script {
	return append(goodStreams(), brokenStreams()...)
}

func goodStreams() []script {
	const msg, end = raw.Msg, raw.End
	callee, opener := callCallee(), callOpener()
	return []script{
		{"callee/unary", "one frame each way", rules("W-STREAM-1", "SEM-1"), callee, []step{recv("REQUEST|MSG|END", one(unary(1)), getsUnary(1)), started(1), answers(1)}},
		{"opener/unary", "one frame each way", rules("W-STREAM-1", "SEM-1"), opener, []step{
			opens(1), recv("RESPONSE|MSG|END", one(response(1, msg|end, 3)), gets("response", 1, msg|end, 3)),
		}},
		{"callee/client-stream", "messages, half-close, answer", rules("W-STREAM-1", "SEM-3"), callee, []step{
			recv("REQUEST", one(request(1, 0, 0)), gets("request", 1, 0, 0)),
			recv("MESSAGE, MESSAGE", several(message(1, msg, 1), message(1, msg, 2)), gets("message", 1, msg, 1), gets("message", 1, msg, 2)),
			recv("MESSAGE|END", one(message(1, end, 0)), gets("message", 1, end, 0)), answers(1),
		}},
		{"callee/client-stream-last-ends", "the last message may half-close", rules("W-STREAM-1"), callee, []step{
			recv("REQUEST|MSG", one(request(1, msg, 1)), gets("request", 1, msg, 1)), recv("MESSAGE|MSG|END", one(message(1, msg|end, 1)), gets("message", 1, msg|end, 1)), answers(1),
		}},
		{"callee/client-stream-empty", "no message at all", rules("SEM-3", "SEM-5"), callee, []step{recv("REQUEST|END", one(request(1, end, 0)), gets("request", 1, end, 0)), answers(1)}},
		{"callee/empty-message", "an empty message is a message", rules("W-MSG-1", "SEM-5"), callee, []step{recv("REQUEST|MSG|END", one(request(1, msg|end, 0)), gets("request", 1, msg|end, 0))}},
		{"callee/server-stream", "initial metadata, messages, status", rules("W-STREAM-2", "SEM-2"), callee, []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), send("RESPONSE", 1, 0, 0, writeFrame("RESPONSE", 1, 0, 0)),
			send("MESSAGE", 1, msg, 7, writeFrame("MESSAGE", 1, msg, 7)), send("MESSAGE", 1, msg, 0, writeFrame("MESSAGE", 1, msg, 0)),
			send("RESPONSE", 1, end, 0, writeFrame("RESPONSE", 1, end, 0)), recv("a late WINDOW", one(windowFrame(1, 9))),
		}},
		{"opener/server-stream", "initial metadata, messages, status", rules("W-STREAM-2", "SEM-2"), opener, []step{
			opens(1), recv("RESPONSE", one(initial(1)), gets("response", 1, 0, 0)),
			recv("MESSAGE, MESSAGE", several(message(1, msg, 7), message(1, msg, 0)), gets("message", 1, msg, 7), gets("message", 1, msg, 0)),
			recv("RESPONSE|END", one(response(1, end, 0)), gets("response", 1, end, 0)), recv("MESSAGE after the end", one(message(1, msg, 1))),
		}},
		{"opener/no-initial", "messages before any RESPONSE", rules("W-STREAM-4"), opener, []step{
			opens(1), recv("MESSAGE", one(message(1, msg, 7)), gets("message", 1, msg, 7)), recv("RESPONSE|MSG|END", one(response(1, msg|end, 2)), gets("response", 1, msg|end, 2)),
		}},
		{"opener/first-response-carries", "the first RESPONSE carries a message", rules("W-STREAM-2"), opener, []step{
			opens(1), recv("RESPONSE|MSG", one(response(1, msg, 7)), gets("response", 1, msg, 7)), recv("RESPONSE|END", one(response(1, end, 0)), gets("response", 1, end, 0)),
		}},
		{"opener/bidi", "both directions are independent", rules("W-STREAM-1", "SEM-4"), opener, []step{
			open(0, 0, writeFrame("REQUEST", 1, 0, 0)), send("MESSAGE", 1, msg, 4, writeFrame("MESSAGE", 1, msg, 4)),
			recv("MESSAGE", one(message(1, msg, 4)), gets("message", 1, msg, 4)), send("MESSAGE", 1, msg, 5, writeFrame("MESSAGE", 1, msg, 5)),
			send("MESSAGE", 1, end, 0, writeFrame("MESSAGE", 1, end, 0)), recv("MESSAGE after our END", one(message(1, msg, 6)), gets("message", 1, msg, 6)),
			recv("RESPONSE|END", one(response(1, end, 0)), gets("response", 1, end, 0)),
		}},
		{"callee/early-end", "RESPONSE|END before the opener's END closes both directions", rules("W-END-1", "SEM-6"), callee, []step{
			recv("REQUEST", one(request(1, msg, 1)), gets("request", 1, msg, 1)), send("RESPONSE", 1, end, 0, writeFrame("RESPONSE", 1, end, 0)),
			recv("MESSAGE, MESSAGE|END under way", several(message(1, msg, 1), message(1, end, 0))), recv("REQUEST 3", one(unary(3)), getsUnary(3)),
		}},
		{"opener/early-end", "the opener hears the end while it still sends", rules("W-END-1", "SEM-6"), opener, []step{
			open(msg, 1, writeFrame("REQUEST", 1, msg, 1)), recv("RESPONSE|END", one(response(1, end, 0)), gets("response", 1, end, 0)), opens(3),
		}},
		{"callee/interleaved", "streams do not wait for each other", rules("SEM-7", "W-FLOW-8"), callee, []step{
			recv("REQUEST 1, 3", several(request(1, msg, 1), request(3, msg, 1)), gets("request", 1, msg, 1), gets("request", 3, msg, 1)),
			recv("MESSAGE 3, MESSAGE 1", several(message(3, msg|end, 1), message(1, msg|end, 1)), gets("message", 3, msg|end, 1), gets("message", 1, msg|end, 1)),
			answers(3), answers(1),
		}},
		{"callee/nothing", "a MESSAGE with neither MSG nor END says nothing", rules("W-MSG-8"), callee, []step{
			recv("REQUEST", one(request(1, msg, 1)), gets("request", 1, msg, 1)), recv("MESSAGE", one(message(1, 0, 0)), optional(gets("message", 1, 0, 0))), answers(1),
		}},
		{"callee/unknown-flags", "flags 10 to 40 are ignored", rules("W-FLAG-2"), callee, []step{
			recv("REQUEST|70", one(withFlags(unary(1), 0x70)), deliver("request", vector.Map{"stream": uint32(1), "body_len": 5})), answers(1),
		}},
		{"callee/reserved", "the reserved byte is ignored", rules("W-FRAME-3"), callee, []step{
			recv("REQUEST", one(raw.Frame{Type: raw.Request, Flags: msg | end, Stream: 1, Head: callHead, BodyZero: 5, Reserved: 0x55}), getsUnary(1)),
		}},
		{"callee/flags-on-window", "message flags mean nothing on WINDOW and RESET", rules("W-FLAG-1"), callee, []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), recv("WINDOW|0F", one(withFlags(windowFrame(1, 5), 0x0f))), recv("RESET|0F", one(withFlags(cancelFrame(1), 0x0f)), getsReset(1, 1, cancelled, unknown)),
		}},
		{"callee/head-on-window", "a head of WINDOW is skipped", rules("W-TYPE-4"), callee, []step{
			recv("REQUEST", one(unary(1)), getsUnary(1)), recv("WINDOW", one(withHead(windowFrame(1, 5), []byte{0xff, 0xff}))), answers(1),
		}},
	}
}

// brokenStreams break a rule of a stream that is open: that stream ends, and a later call shows that the
// connection lives.
func brokenStreams() []script {
	const msg, end = raw.Msg, raw.End
	var out []script
	callee := func(id, comment string, open raw.Frame, bad raw.Frame, reason int, names ...string) {
		code := internal
		if reason == unknownFlag {
			code = unimplemented
		}
		bodyLen := open.BodyZero
		out = append(out, script{"callee/" + id, comment, append(names, "W-CONN-2"), callCallee(), []step{
			recv("REQUEST 1", one(open), gets("request", 1, open.Flags, bodyLen)), recv(id, one(bad), failed(1, code, reason)...),
			recv("MESSAGE 1 under way, REQUEST 3", several(message(1, msg, 1), unary(3)), getsUnary(3)), answers(3),
		}})
	}
	streaming, halfClosed := request(1, msg, 1), request(1, msg|end, 1)
	noMsg := message(1, 0, 3)
	callee("message-after-end", "MESSAGE after END", halfClosed, message(1, msg, 1), streamProtocol, "W-STREAM-5", "W-END-6")
	callee("end-after-end", "END twice", halfClosed, message(1, end, 0), streamProtocol, "W-STREAM-5")
	callee("response-from-opener", "RESPONSE from the opener", streaming, response(1, end, 0), streamProtocol, "W-STREAM-6")
	callee("body-without-msg", "a body without MSG", streaming, noMsg, streamProtocol, "W-MSG-1")
	callee("body-without-msg-end", "a body without MSG, with END", streaming, message(1, end, 1), streamProtocol, "W-MSG-1")
	callee("more-without-msg", "MORE without MSG", streaming, message(1, raw.More, 0), streamProtocol, "W-MSG-2")
	callee("more-and-end", "MORE with END", streaming, withHead(message(1, msg|raw.More|end, 1), total(2)), streamProtocol, "W-MSG-2")
	callee("critical-message", "a critical flag", streaming, message(1, msg|raw.Critical, 1), unknownFlag, "W-FLAG-3")
	callee("critical-window", "a critical flag on WINDOW", streaming, withFlags(windowFrame(1, 5), raw.Critical), unknownFlag, "W-FLAG-3")
	opener := func(id, comment string, first []raw.Frame, gotten []vector.Map, bad raw.Frame, reason int, names ...string) {
		code := internal
		if reason == unknownFlag {
			code = unimplemented
		}
		steps := []step{opens(1)}
		if first != nil {
			steps = append(steps, recv("before", first, gotten...))
		}
		steps = append(steps, recv(id, one(bad), failed(1, code, reason)...), recv("under way", one(response(1, end, 0))), opens(3))
		out = append(out, script{"opener/" + id, comment, append(names, "W-CONN-2"), callOpener(), steps})
	}
	opener("message-end", "a callee ends by RESPONSE", nil, nil, message(1, msg|end, 1), streamProtocol, "W-STREAM-2")
	opener("message-end-empty", "a callee ends by RESPONSE", nil, nil, message(1, end, 0), streamProtocol, "W-STREAM-2")
	opener("second-response", "RESPONSE without END comes once", one(initial(1)), []vector.Map{gets("response", 1, 0, 0)}, response(1, msg, 1), streamProtocol, "W-STREAM-2")
	opener("second-initial", "initial metadata comes once", one(initial(1)), []vector.Map{gets("response", 1, 0, 0)}, initial(1), streamProtocol, "W-STREAM-2")
	opener("body-without-msg", "a body without MSG", nil, nil, response(1, 0, 4), streamProtocol, "W-MSG-1")
	opener("critical-response", "a critical flag", nil, nil, response(1, end|raw.Critical, 0), unknownFlag, "W-FLAG-3")
	out = append(out, refusedRequests()...)
	return out
}

// refusedRequests are at fault themselves: no stream comes of them, but the id is taken.
func refusedRequests() []script {
	const msg, end = raw.Msg, raw.End
	var out []script
	add := func(id, comment string, bad raw.Frame, code, reason int, names ...string) {
		out = append(out, script{"callee/request-" + id, comment, append(names, "W-CONN-2"), callCallee(), []step{
			recv("REQUEST 1", one(bad), writeReset(1, code, reason, notProcessed)),
			recv("MESSAGE 1 under way, REQUEST 3", several(message(1, msg, 1), unary(3)), getsUnary(3)), answers(3),
		}})
	}
	add("body-without-msg", "a body without MSG", request(1, end, 3), internal, streamProtocol, "W-MSG-1", "W-END-6")
	add("more-without-msg", "MORE without MSG", request(1, raw.More, 0), internal, streamProtocol, "W-MSG-2", "W-END-6")
	add("more-and-end", "MORE with END", withHead(request(1, msg|raw.More|end, 3), headOf(total(9), callHead)), internal, streamProtocol, "W-MSG-2", "W-END-6")
	add("critical", "a critical flag", withFlags(unary(1), raw.Critical), unimplemented, unknownFlag, "W-FLAG-3")
	add("no-total", "a first fragment without total_length", request(1, msg|raw.More, 3), internal, streamProtocol, "W-MSG-4", "W-END-6")
	add("beyond-total", "a first fragment longer than the message", withHead(request(1, msg|raw.More, 3), headOf(total(2), callHead)), internal, streamProtocol, "W-MSG-5", "W-END-6")
	add("bad-head", "a first fragment whose head does not parse", withHead(request(1, msg|raw.More, 3), []byte{0x10}), invalidArgument, badHead, "W-END-7")
	return out
}

func streamLimits() []script {
	const msg, end = raw.Msg, raw.End
	two := callCallee().local(limits{MaxStreams: 2})
	full := func(id uint32) vector.Map { return writeReset(id, resourceExhausted, queueFull, notProcessed) }
	takes := func(id uint32) step { return recv("REQUEST", one(unary(id)), getsUnary(id)) }
	gone := func(id uint32) step { return recv("RESET", one(cancelFrame(id)), getsReset(id, 1, cancelled, unknown)) }
	ends := func(id uint32) step { return reset(id, internal, 0, unknown, writeReset(id, internal, 0, unknown)) }
	fill := recv("REQUEST 1, 3", several(unary(1), unary(3)), getsUnary(1), getsUnary(3))
	return []script{
		{"callee/beyond", "a REQUEST beyond max_streams is refused, and is no error", rules("W-FLOW-9", "E-TABLE-3", "L-FINE-10"), two, []step{
			fill, recv("REQUEST 5", one(unary(5)), full(5)), answers(1), recv("REQUEST 7", one(unary(7)), getsUnary(7)),
		}},
		{"callee/refused-takes-its-id", "what still comes for it is dropped", rules("W-FLOW-9", "W-ID-6"), two, []step{
			fill, recv("REQUEST 5", one(request(5, msg, 1)), full(5)), recv("MESSAGE 5, RESET 5", several(message(5, msg|end, 1), cancelFrame(5))),
			recv("REQUEST 5 again", one(unary(5)), append(protocolErrorAt(sizes(unary(1), unary(3), request(5, msg, 1), message(5, msg|end, 1), cancelFrame(5))), lostCall(1), lostCall(3))...),
		}},
		{"callee/reset-runs-on", "as many reset streams as max_streams may have a handler that runs; more take the places of open ones", rules("W-END-9", "L-FINE-10"), two, []step{
			fill, gone(1), takes(5), gone(3), takes(7), gone(5), recv("REQUEST 9", one(unary(9)), full(9)), released(1), takes(11), recv("REQUEST 13", one(unary(13)), full(13)),
		}},
		{"callee/own-reset-runs-on", "so may those that this side reset", rules("W-END-9"), two, []step{
			fill, ends(1), takes(5), ends(3), takes(7), ends(5), recv("REQUEST 9", one(unary(9)), full(9)), released(1), takes(11),
		}},
		{"callee/reset-counts-no-more", "beside those that run on, max_streams are let in and no more", rules("W-END-9", "W-FLOW-9"), two, []step{
			fill, gone(1), takes(5), recv("REQUEST 7", one(unary(7)), full(7)), released(1), recv("REQUEST 9", one(unary(9)), full(9)),
		}},
		{"callee/refused-counts-until-flushed", "a refusal that waits takes a place", rules("W-FLOW-9", "L-FINE-10"), two, []step{
			fill, hold(recv("REQUEST 5", one(unary(5)))), hold(answers0(1)), hold(answers0(3)), hold(recv("REQUEST 7", one(unary(7)), getsUnary(7))),
			heldBack(recv("REQUEST 9", one(unary(9))), writeFrame("RESPONSE", 1, msg|end, 3), writeFrame("RESPONSE", 3, msg|end, 3), full(5), full(9)),
			recv("REQUEST 11", one(unary(11)), getsUnary(11)),
		}},
		{"callee/refusal-dropped", "a refusal that waits is dropped when its RESET arrives", rules("W-FLOW-10", "L-FINE-10"), two, []step{
			fill, hold(recv("REQUEST 5", one(unary(5)))), recv("RESET 5", one(cancelFrame(5))),
		}},
		{"callee/refusals-flood", "more refusals than max_streams wait", rules("W-FLOW-13"), two, []step{
			fill, hold(recv("REQUEST 5", one(unary(5)))), hold(recv("REQUEST 7", one(unary(7)))),
			recv("REQUEST 9", one(unary(9)), optional(full(5)), optional(full(7)), writeGoAway(enhanceCalm, nil), closes(), lostCall(1), lostCall(3)),
		}},
		{"callee/resets-flood", "more RESETs than 1000 between two ticks", rules("W-FLOW-13"), two, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), floods("RESET 1, 1000 times", raw.Frame{Type: raw.Reset, Stream: 1}, 1000),
			event("tick", nil, nil), floods("RESET 1, 1000 times", raw.Frame{Type: raw.Reset, Stream: 1}, 1000),
			recv("one more", one(cancelFrame(1)), writeGoAway(enhanceCalm, nil), closes()),
		}},
		{"callee/resets-by-streams", "or than four times max_streams", rules("W-FLOW-13"), callCallee(), []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), floods("RESET 1, 4096 times", raw.Frame{Type: raw.Reset, Stream: 1}, 4096),
			recv("one more", one(cancelFrame(1)), writeGoAway(enhanceCalm, nil), closes()),
		}},
		{"opener/refusals-are-no-flood", "however many RESETs of the callee answer REQUESTs", rules("W-FLOW-13"), callOpener(), []step{
			opens(1), recv("RESPONSE 1", one(response(1, msg|end, 1)), gets("response", 1, msg|end, 1)),
			floods("RESET 1, 5000 times", raw.Frame{Type: raw.Reset, Stream: 1}, 5000), opens(3),
		}},
		{"opener/queues", "an opener at the limit does not send", rules("W-FLOW-9"), callOpener().peer(limits{MaxStreams: 2}), []step{
			opens(1), opens(3), open(msg|end, 5, refused("stream_limit")), recv("RESPONSE 1", one(response(1, msg|end, 1)), gets("response", 1, msg|end, 1)), opens(5),
		}},
		{"opener/reset-frees", "a stream that the opener reset no longer counts with it", rules("W-END-9", "L-FINE-10"), callOpener().peer(limits{MaxStreams: 1}), []step{
			opens(1), reset(1, 1, cancelled, unknown, writeReset(1, 1, cancelled, unknown)), opens(3),
			recv("the callee's handlers run on", one(resetFrame(3, resourceExhausted, queueFull, notProcessed)), getsReset(3, resourceExhausted, queueFull, notProcessed)), opens(5),
		}},
	}
}

// heldBack gives a step the writes that earlier steps held back.
func heldBack(s step, actions ...vector.Map) step {
	s.Actions = append(s.Actions, actions...)
	return s
}

// sizes is the offset behind frames.
func sizes(frames ...raw.Frame) int {
	n := 0
	for _, f := range frames {
		n += f.Len()
	}
	return n
}
