package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
)

func ids() []script {
	return append(calleeIDs(), openerIDs()...)
}

func calleeIDs() []script {
	callee := callCallee()
	n := unary(1).Len()
	broken := rules("W-CONN-1")
	out := []script{
		{"callee/first", "the first id", rules("W-ID-2"), callee, []step{recv("REQUEST 1", one(unary(1)), getsUnary(1))}},
		{"callee/gaps", "receivers accept gaps", rules("W-ID-2"), callee, []step{
			recv("REQUEST 1, 5, 100001", several(unary(1), unary(5), unary(100001)), getsUnary(1), getsUnary(5), getsUnary(100001)),
		}},
		{"callee/greatest", "the greatest id there is", rules("W-ID-8"), callee, []step{recv("REQUEST 4294967295", one(unary(4294967295)), getsUnary(4294967295)), answers(4294967295)}},
		{"callee/descending", "ids increase", append(rules("W-ID-4"), broken...), callee, []step{
			recv("REQUEST 5", one(unary(5)), getsUnary(5)), answers(5), recv("REQUEST 3", one(unary(3)), protocolErrorAt(n)...),
		}},
		{"callee/again-open", "an id is used once", append(rules("W-ID-4"), broken...), callee, []step{
			recv("REQUEST 1", one(request(1, raw.Msg, 5)), gets("request", 1, raw.Msg, 5)),
			recv("REQUEST 1", one(unary(1)), append(protocolErrorAt(n), lostCall(1))...),
		}},
		{"callee/again-closed", "also after its end", append(rules("W-ID-4"), broken...), callee, []step{
			recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), recv("REQUEST 1", one(unary(1)), protocolErrorAt(n)...),
		}},
		{"callee/even", "an even id on CALL", append(rules("W-ID-3", "W-ID-1"), broken...), callee, []step{recv("REQUEST 2", one(unary(2)), protocolErrorAt(0)...)}},
		{"serve/first", "on SERVE ids are even", rules("W-ID-1"), serveCallee(), []step{recv("REQUEST 2, 4", several(unary(2), unary(4)), getsUnary(2), getsUnary(4)), answers(2)}},
		{"serve/odd", "an odd id on SERVE", append(rules("W-ID-3"), broken...), serveCallee(), []step{recv("REQUEST 1", one(unary(1)), protocolErrorAt(0)...)}},
		{"callee/unknown-type-moves-nothing", "an unknown type takes no id", rules("W-TYPE-2"), callee, []step{
			recv("type 99 on 9, REQUEST 1", several(unknownFrame(99, 9, 10), unary(1)), getsUnary(1)),
		}},
	}
	for _, c := range []struct {
		name string
		f    func(uint32) raw.Frame
	}{
		{"message", func(id uint32) raw.Frame { return message(id, raw.Msg, 1) }},
		{"window", func(id uint32) raw.Frame { return windowFrame(id, 100) }},
		{"reset", cancelFrame},
		{"response", func(id uint32) raw.Frame { return response(id, raw.End, 0) }},
	} {
		out = append(out,
			script{"callee/above-" + c.name, "a call type above the highest id", append(rules("W-ID-5"), broken...), callee, []step{
				recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), recv(c.name+" 3", one(c.f(3)), protocolErrorAt(n)...),
			}},
			script{"callee/parity-" + c.name, "the wrong parity is worse than any state", append(rules("W-ID-3"), broken...), callee, []step{
				recv("REQUEST 5", one(unary(5)), getsUnary(5)), answers(5), recv(c.name+" 2", one(c.f(2)), protocolErrorAt(n)...),
			}},
			script{"callee/closed-" + c.name, "frames of a closed stream are dropped", rules("W-ID-6"), callee, []step{
				recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), recv(c.name+" 1, REQUEST 3", several(c.f(1), unary(3)), getsUnary(3)),
			}},
			script{"callee/skipped-" + c.name, "skipped ids count as closed", rules("W-ID-6"), callee, []step{
				recv("REQUEST 5", one(unary(5)), getsUnary(5)), recv(c.name+" 3", one(c.f(3))),
			}},
			script{"callee/closed-flagged-" + c.name, "whatever their flags and heads", rules("W-ID-6"), callee, []step{
				recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1), recv(c.name+" 1|80", one(withHead(withFlags(c.f(1), raw.Critical), []byte{0xff}))),
			}})
	}
	return sorted(out)
}

func openerIDs() []script {
	opener := callOpener()
	done := response(1, raw.Msg|raw.End, 3)
	out := []script{
		{"opener/order", "1, 3, 5", rules("W-ID-2"), opener, []step{opens(1), opens(3), opens(5)}},
		{"opener/serve-order", "2, 4, 6 on SERVE", rules("W-ID-1", "W-ID-2"), serveOpener(), []step{opens(2), opens(4), opens(6)}},
		{"opener/not-reused", "an id is not used again", rules("W-ID-2"), opener, []step{
			opens(1), recv("RESPONSE 1", one(done), gets("response", 1, raw.Msg|raw.End, 3)), opens(3),
		}},
		{"opener/request-even", "REQUEST from the side that opens nothing, its own parity", rules("W-ID-3", "W-ID-7"), opener, []step{recv("REQUEST 2", one(unary(2)), protocolErrorAt(0)...)}},
		{"opener/request-odd", "REQUEST from the side that opens nothing, the opener's parity", rules("W-ID-7"), opener, []step{recv("REQUEST 1", one(unary(1)), protocolErrorAt(0)...)}},
		{"opener/response-unopened", "an answer to nothing", rules("W-ID-5"), opener, []step{recv("RESPONSE 1", one(done), protocolErrorAt(0)...)}},
		{"opener/response-above", "an answer above the highest id", rules("W-ID-5"), opener, []step{
			opens(1), recv("RESPONSE 3", one(withFlags(response(3, raw.End, 0), 0)), append(protocolErrorAt(0), lostCall(1))...),
		}},
		{"opener/window-above", "credit above the highest id", rules("W-ID-5"), opener, []step{recv("WINDOW 1", one(windowFrame(1, 5)), protocolErrorAt(0)...)}},
		{"opener/reset-above", "a reset above the highest id", rules("W-ID-5"), opener, []step{recv("RESET 1", one(cancelFrame(1)), protocolErrorAt(0)...)}},
		{"opener/closed", "frames of a closed stream are dropped", rules("W-ID-6", "W-END-1"), opener, []step{
			opens(1), recv("RESPONSE 1", one(done), gets("response", 1, raw.Msg|raw.End, 3)),
			recv("RESPONSE, MESSAGE, WINDOW, RESET 1", several(done, message(1, raw.Msg, 1), windowFrame(1, 1), cancelFrame(1))), opens(3),
		}},
	}
	return sorted(out)
}
