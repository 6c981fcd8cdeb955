package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func says(role int) step {
	return event("hello", vector.Map{"role": role}, []vector.Map{
		writes("HELLO", 0, vector.Map{"lowest_version": 1, "highest_version": 1, "role": role}),
	})
}

func getsHello(role int) vector.Map { return deliver("hello", vector.Map{"role": role}) }

func accepts() step {
	return event("accept", nil, []vector.Map{writes("WELCOME", 0, vector.Map{"version": 1})})
}

func handshakes() []script {
	return append(dialerHandshakes(), acceptorHandshakes()...)
}

func dialerHandshakes() []script {
	dialer := callOpener().fresh()
	welcomed := deliver("welcome", vector.Map{"version": 1})
	out := []script{
		{"dialer/call", "HELLO, WELCOME, and calls go", rules("W-HAND-1", "W-HAND-3", "W-ROLE-1", "W-ID-2"), dialer, []step{
			says(1), recv("WELCOME", one(welcomeFrame(1)), welcomed), opens(1),
		}},
		{"dialer/serve", "with SERVE the acceptor opens", rules("W-ROLE-1", "W-ID-1"), serveCallee().fresh(), []step{
			says(2), recv("WELCOME", one(welcomeFrame(1)), welcomed), recv("REQUEST 2", one(unary(2)), getsUnary(2)), answers(2),
		}},
		{"dialer/serve-cannot-open", "the dialer of SERVE opens nothing", rules("W-ROLE-1"), serveCallee().fresh(), []step{
			says(2), recv("WELCOME", one(welcomeFrame(1)), welcomed), open(raw.Msg|raw.End, 5, refused("not_open")),
		}},
		{"dialer/open-too-early", "nothing but HELLO goes before WELCOME", rules("W-HAND-1"), dialer, []step{
			says(1), open(raw.Msg|raw.End, 5, refused("not_open")), recv("WELCOME", one(welcomeFrame(1)), welcomed), opens(1),
		}},
		{"dialer/welcome-and-more", "frames may come right behind WELCOME", rules("W-HAND-3"), serveCallee().fresh(), []step{
			says(2), recv("WELCOME, REQUEST 2", several(welcomeFrame(1), unary(2)), welcomed, getsUnary(2)),
		}},
		{"dialer/limits", "the acceptor's max_streams holds", rules("W-HAND-7", "W-FLOW-9"), dialer, []step{
			says(1), recv("WELCOME with max_streams 1", one(withHead(welcomeFrame(1), headOf(raw.Num(1, 1), raw.Text(5, raw.Num(1, 1))))), welcomed),
			opens(1), open(raw.Msg|raw.End, 5, refused("stream_limit")),
		}},
		{"dialer/draining", "a draining acceptor answers GOAWAY: redial", rules("W-HAND-3", "W-HAND-6"), dialer, []step{
			says(1), recv("GOAWAY{DRAINING}", one(graceful()), getsGoAway(draining, lastOfGraceful, false), closes()),
		}},
		{"dialer/refused", "the acceptor says why not", rules("W-HAND-3", "W-HAND-5"), dialer, []step{
			says(1), recv("GOAWAY{REFUSED}", one(goAwayFrame(goAwayRefused, 0, false)), deliver("goaway", vector.Map{"code": goAwayRefused}), closes()),
		}},
		{"dialer/second-welcome", "WELCOME comes once", rules("W-HAND-3", "W-CONN-1"), dialer, []step{
			says(1), recv("WELCOME", one(welcomeFrame(1)), welcomed), recv("WELCOME", one(welcomeFrame(1)), protocolErrorAt(welcomeFrame(1).Len())...),
		}},
		{"dialer/welcome-bad-head", "a WELCOME that does not parse", rules("W-CONN-6"), dialer, []step{
			says(1), recv("WELCOME", one(withHead(welcomeFrame(1), []byte{0x08})), protocolErrorAt(0)...),
		}},
		{"dialer/welcome-unknown-field", "unknown fields are skipped", rules("W-HEAD-4"), dialer, []step{
			says(1), recv("WELCOME", one(withHead(welcomeFrame(1), headOf(raw.Num(1, 1), raw.Text(90, "new")))), welcomed),
		}},
	}
	for name, v := range map[string]uint64{"2": 2, "absent": 0} {
		f := welcomeFrame(v)
		out = append(out, script{"dialer/version-" + name, "a version that was not offered", rules("W-HAND-4"), dialer, []step{
			says(1), recv("WELCOME", one(f), writeGoAway(goAwayRefused, nil), closes()),
		}})
	}
	firsts := []struct {
		name string
		f    raw.Frame
	}{
		{"hello", helloFrame(1, 1, 1)}, {"ping", pingFrame("12345678")}, {"pong", pongFrame("12345678")}, {"drained", drainedFrame()},
		{"request", unary(2)}, {"response", response(1, raw.End, 0)}, {"reset", cancelFrame(1)}, {"unknown-type", unknownFrame(99, 0, 0)},
	}
	for _, c := range firsts {
		out = append(out, script{"dialer/first-" + c.name, "a first frame that is neither WELCOME nor GOAWAY", rules("W-HAND-3", "W-CONN-1"), dialer, []step{
			says(1), recv(c.name, one(c.f), protocolErrorAt(0)...),
		}})
	}
	return sorted(out)
}

func acceptorHandshakes() []script {
	acceptor := callCallee().fresh()
	hello := helloFrame(1, 1, 1)
	n := hello.Len()
	refusal := []vector.Map{writeGoAway(goAwayRefused, nil), closes()}
	out := []script{
		{"acceptor/call", "HELLO, WELCOME, and calls come", rules("W-HAND-1", "W-HAND-3", "W-ID-1"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), accepts(), recv("REQUEST 1", one(unary(1)), getsUnary(1)), answers(1),
		}},
		{"acceptor/serve", "with SERVE the acceptor opens even ids", rules("W-ROLE-1", "W-ID-1", "W-ID-2"), serveOpener().fresh(), []step{
			recv("HELLO", one(helloFrame(1, 1, 2)), getsHello(2)), accepts(), opens(2), opens(4),
		}},
		{"acceptor/range", "the highest common version", rules("W-HAND-4"), acceptor, []step{recv("HELLO 1 to 9", one(helloFrame(1, 9, 1)), getsHello(1)), accepts()}},
		{"acceptor/version-too-high", "no common version", rules("W-HAND-4"), acceptor, []step{recv("HELLO 2 to 9", one(helloFrame(2, 9, 1)), refusal...)}},
		{"acceptor/version-0", "versions begin at 1", rules("W-HAND-4"), acceptor, []step{recv("HELLO 0 to 0", one(helloFrame(0, 0, 1)), refusal...)}},
		{"acceptor/version-crossed", "lowest above highest", rules("W-HAND-4"), acceptor, []step{recv("HELLO 2 to 1", one(helloFrame(2, 1, 1)), refusal...)}},
		{"acceptor/role-0", "a role must be given", rules("W-HAND-5"), acceptor, []step{recv("HELLO", one(helloFrame(1, 1, 0)), refusal...)}},
		{"acceptor/role-3", "an unknown role", rules("W-HAND-5"), acceptor, []step{recv("HELLO", one(helloFrame(1, 1, 3)), refusal...)}},
		{"acceptor/owner-refuses", "environment, identity or cap", rules("W-HAND-5"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), event("refuse", vector.Map{"code": goAwayRefused}, refusal),
		}},
		{"acceptor/owner-drains", "a draining acceptor", rules("W-HAND-6"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), event("refuse", vector.Map{"code": draining}, []vector.Map{writeGoAway(draining, nil), closes()}),
		}},
		{"acceptor/bad-head", "a HELLO that does not parse", rules("W-CONN-6"), acceptor, []step{recv("HELLO", one(withHead(hello, []byte{0x0a})), protocolErrorAt(0)...)}},
		{"acceptor/critical-flag", "a critical flag on stream 0", rules("W-FLAG-3"), acceptor, []step{recv("HELLO|80", one(withFlags(hello, raw.Critical)), protocolErrorAt(0)...)}},
		{"acceptor/unknown-fields", "a later HELLO has more fields, flags and features", rules("W-HEAD-4", "W-FLAG-2"), acceptor, []step{
			recv("HELLO|70", one(withFlags(withHead(hello, headOf(hello.Head, raw.Text(13, "new"), raw.Text(90, "x"))), 0x70)), getsHello(1)), accepts(),
		}},
		{"acceptor/hello-again", "HELLO comes once", rules("W-HAND-1", "W-CONN-1"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), accepts(), recv("HELLO", one(hello), protocolErrorAt(n)...),
		}},
		{"acceptor/after-welcome-unknown-type", "once the handshake is done an unknown type is skipped", rules("W-TYPE-2"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), accepts(), recv("type 99, REQUEST 1", several(unknownFrame(99, 9, 100), unary(1)), getsUnary(1)),
		}},
		{"acceptor/welcome", "a dialer says no WELCOME", rules("W-HAND-3"), acceptor, []step{
			recv("HELLO", one(hello), getsHello(1)), accepts(), recv("WELCOME", one(welcomeFrame(1)), protocolErrorAt(n)...),
		}},
	}
	frames := []struct {
		name string
		f    raw.Frame
	}{
		{"request", unary(1)}, {"ping", pingFrame("12345678")}, {"goaway", graceful()}, {"drained", drainedFrame()}, {"welcome", welcomeFrame(1)},
		{"message", message(1, raw.Msg, 1)}, {"unknown-type", unknownFrame(99, 0, 3)},
	}
	for _, c := range frames {
		out = append(out,
			script{"acceptor/first-" + c.name, "a first frame that is no HELLO", rules("W-HAND-1", "W-CONN-1"), acceptor, []step{recv(c.name, one(c.f), protocolErrorAt(0)...)}},
			script{"acceptor/between-" + c.name, "a frame between HELLO and its answer", rules("W-HAND-1", "W-CONN-1"), acceptor, []step{
				recv("HELLO", one(hello), getsHello(1)), recv(c.name, one(c.f), protocolErrorAt(n)...),
			}})
	}
	return sorted(append(out, script{"acceptor/between-hello", "a second HELLO before the answer", rules("W-HAND-1"), acceptor, []step{
		recv("HELLO", one(hello), getsHello(1)), recv("HELLO", one(hello), protocolErrorAt(n)...),
	}}))
}
