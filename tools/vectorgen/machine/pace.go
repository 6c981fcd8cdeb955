package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// cancels is many calls that are opened and cancelled at once.
func cancels(calls int) step { return event("cancels", vector.Map{"calls": calls}, nil) }

// paces are of openers that reset more streams than they may between two ticks.
func paces() []script {
	const msg, end = raw.Msg, raw.End
	two := callOpener().peer(limits{MaxStreams: 2})
	tick := func(actions ...vector.Map) step { return event("tick", nil, actions) }
	says := func(id uint32) vector.Map { return writeReset(id, 1, cancelled, unknown) }
	cancel := func(id uint32, actions ...vector.Map) step { return reset(id, 1, cancelled, unknown, actions...) }
	full := func() step { return open(msg|end, 5, refused("stream_limit")) }
	return []script{
		{"opener/wait", "what is beyond 250 waits for the next tick, and keeps its stream until then", rules("W-FLOW-14", "W-END-9"), two, []step{
			cancels(250), opens(501), cancel(501), opens(503), full(), cancel(503), full(), tick(says(501), says(503)), opens(505), cancel(505, says(505)),
		}},
		{"opener/by-streams", "or beyond max_streams of the callee, if that is more", rules("W-FLOW-14"), callOpener().peer(limits{MaxStreams: 300}), []step{
			cancels(300), opens(601), cancel(601), tick(says(601)),
		}},
		{"opener/each-tick", "each tick lets as many go; those that waited count", rules("W-FLOW-14"), two, []step{
			cancels(250), opens(501), cancel(501), tick(says(501)), cancels(249), opens(1001), cancel(1001), tick(says(1001)),
		}},
		{"opener/answered", "an answer that comes first ends the stream, and the RESET that waits is dropped", rules("W-FLOW-14", "W-ID-6"), two, []step{
			cancels(250), opens(501), cancel(501), opens(503), full(), recv("RESPONSE 501", one(response(501, msg|end, 1))), opens(505), tick(),
		}},
		{"opener/refused", "so does a RESET of the callee", rules("W-FLOW-14", "W-ID-6"), two, []step{
			cancels(250), opens(501), cancel(501), opens(503), full(), recv("RESET 501", one(resetFrame(501, resourceExhausted, queueFull, notProcessed))), opens(505), tick(),
		}},
		{"opener/goes-on", "what else comes for the stream is dropped, and ends nothing", rules("W-FLOW-14", "W-ID-6"), two, []step{
			cancels(250), opens(501), cancel(501), recv("RESPONSE, MESSAGE, WINDOW 501", several(response(501, msg, 1), message(501, msg, 1), windowFrame(501, 0))), tick(says(501)),
		}},
		{"opener/broken-stream", "the RESET of a broken stream waits as well", rules("W-FLOW-14", "W-END-6"), two, []step{
			cancels(250), opens(501), recv("MESSAGE 501 with END", one(message(501, msg|end, 1)), failed(501, internal, streamProtocol)[1:]...),
			tick(writeReset(501, internal, streamProtocol, unknown)),
		}},
		{"opener/drain-deadline", "with the drain deadline all go", rules("W-FLOW-14", "L-FINAL-6"), two, []step{
			cancels(250), opens(501), cancel(501), opens(503),
			final(says(501), writeReset(503, unavailable, drainDeadline, unknown), ended(503, unavailable, drainDeadline, unknown), placed(writes("DRAINED", 0, nil), "last"), closes()),
		}},
		{"opener/lost", "a connection that is lost ends no call twice", rules("W-FLOW-14", "W-CONN-4"), two, []step{
			cancels(250), opens(501), cancel(501), opens(503), lost(lostCall(503), closes()), tick(),
		}},
		{"serve/opener", "an acceptor that opens calls paces itself likewise", rules("W-FLOW-14", "W-ROLE-1"), serveOpener().peer(limits{MaxStreams: 2}), []step{
			cancels(250), opens(502), cancel(502), tick(says(502)),
		}},
	}
}
