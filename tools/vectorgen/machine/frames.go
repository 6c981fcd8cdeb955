package machine

import (
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// Codes, reasons and dispositions by their numbers in octo.wire.v1.
const (
	invalidArgument   = 3
	resourceExhausted = 8
	unimplemented     = 12
	internal          = 13
	unavailable       = 14

	proxyDraining  = 1
	proxyUnready   = 2
	queueFull      = 14
	badHead        = 22
	unknownFlag    = 28
	streamProtocol = 29
	connectionLost = 40
	drainDeadline  = 41
	cancelled      = 43

	unknown      = 0
	notProcessed = 1

	draining       = 1
	idExhausted    = 2
	protocolError  = 3
	enhanceCalm    = 4
	goAwayRefused  = 5
	lastOfGraceful = 0xFFFFFFFF
)

var callHead = headOf(raw.Text(3, "t"), raw.Text(4, "s"), raw.Text(5, "m"))

// Frames that arrive.

func request(id uint32, flags uint8, body int) raw.Frame {
	return raw.Frame{Type: raw.Request, Flags: flags, Stream: id, Head: callHead, BodyZero: body}
}

func unary(id uint32) raw.Frame { return request(id, raw.Msg|raw.End, 5) }

func message(id uint32, flags uint8, body int) raw.Frame {
	return raw.Frame{Type: raw.Message, Flags: flags, Stream: id, BodyZero: body}
}

func response(id uint32, flags uint8, body int) raw.Frame {
	return raw.Frame{Type: raw.Response, Flags: flags, Stream: id, BodyZero: body}
}

// initial is a RESPONSE with initial metadata.
func initial(id uint32) raw.Frame {
	return raw.Frame{Type: raw.Response, Stream: id, Head: raw.Num(6, 1)}
}

func windowFrame(id, n uint32) raw.Frame {
	return raw.Frame{Type: raw.Window, Stream: id, Body: raw.Uint32(n)}
}

func status(code, reason, disposition uint64) []byte {
	var b []byte
	for _, f := range []struct{ n, v uint64 }{{1, code}, {2, reason}, {6, disposition}} {
		if f.v != 0 {
			b = append(b, raw.Num(f.n, f.v)...)
		}
	}
	return raw.Text(1, b)
}

func resetFrame(id uint32, code, reason, disposition uint64) raw.Frame {
	return raw.Frame{Type: raw.Reset, Stream: id, Head: status(code, reason, disposition)}
}

// cancelFrame is what a caller sends who does not want the answer any more.
func cancelFrame(id uint32) raw.Frame { return resetFrame(id, 1, cancelled, unknown) }

func withHead(f raw.Frame, head []byte) raw.Frame  { f.Head = head; return f }
func withFlags(f raw.Frame, flags uint8) raw.Frame { f.Flags |= flags; return f }
func graceful() raw.Frame                          { return goAwayFrame(draining, lastOfGraceful, false) }
func drainedFrame() raw.Frame                      { return raw.Frame{Type: raw.Drained} }
func pingFrame(payload string) raw.Frame           { return raw.Frame{Type: raw.Ping, Body: []byte(payload)} }
func pongFrame(payload string) raw.Frame           { return raw.Frame{Type: raw.Pong, Body: []byte(payload)} }
func unknownFrame(t uint8, id uint32, n int) raw.Frame {
	return raw.Frame{Type: t, Stream: id, BodyZero: n}
}

func goAwayFrame(code, last uint64, final bool) raw.Frame {
	head := raw.Num(1, code)
	if last != 0 {
		head = append(head, raw.Num(2, last)...)
	}
	if final {
		head = append(head, raw.Num(3, 1)...)
	}
	return raw.Frame{Type: raw.GoAway, Head: head}
}

func helloFrame(lowest, highest, role uint64) raw.Frame {
	return raw.Frame{Type: raw.Hello, Head: headOf(raw.Num(1, lowest), raw.Num(2, highest), raw.Num(3, role), raw.Num(4, 1))}
}

func welcomeFrame(version uint64) raw.Frame {
	return raw.Frame{Type: raw.Welcome, Head: headOf(raw.Num(1, version), raw.Num(4, 7))}
}

// Actions.

func writes(name string, id uint32, m vector.Map) vector.Map {
	return vector.Map{"write": merge(vector.Map{"type": name, "stream": id}, m)}
}

func writeFrame(name string, id uint32, flags uint8, body int) vector.Map {
	return writes(name, id, vector.Map{"flags": flags, "body_len": body})
}

func statusMap(code, reason, disposition int) vector.Map {
	return vector.Map{"code": code, "reason": reason, "disposition": disposition}
}

func writeReset(id uint32, code, reason, disposition int) vector.Map {
	return writes("RESET", id, statusMap(code, reason, disposition))
}

func writeWindow(id uint32, n int) vector.Map { return writes("WINDOW", id, vector.Map{"credit": n}) }

func writeGoAway(code int, m vector.Map) vector.Map {
	return writes("GOAWAY", 0, merge(vector.Map{"code": code}, m))
}

func writeLeaving() vector.Map {
	return writeGoAway(draining, vector.Map{"last": uint32(lastOfGraceful), "final": false})
}

func writeFinal(last uint32) vector.Map {
	return writeGoAway(draining, vector.Map{"last": last, "final": true})
}

// protocolErrorAt is all that a framing or protocol error leads to, where no stream is open.
func protocolErrorAt(offset int) []vector.Map {
	return []vector.Map{writeGoAway(protocolError, vector.Map{"offset": offset}), closes()}
}

// sends is a message that goes out in as many fragments as the sender likes.
func sends(first, last string, id uint32, bytes int, end bool) vector.Map {
	return vector.Map{"sends": vector.Map{"type": first, "last_type": last, "stream": id, "bytes": bytes, "end": end}}
}

// sendsHeads is sends with the heads of the first fragment and of the last.
func sendsHeads(first, last string, id uint32, bytes int, head, lastHead []byte) vector.Map {
	m := sends(first, last, id, bytes, true)
	return vector.Map{"sends": merge(m["sends"].(vector.Map), vector.Map{"head": hexed(head), "last_head": hexed(lastHead)})}
}

func gets(kind string, id uint32, flags uint8, body int) vector.Map {
	return deliver(kind, vector.Map{"stream": id, "flags": flags, "body_len": body})
}

func getsReset(id uint32, code, reason, disposition int) vector.Map {
	return deliver("reset", merge(vector.Map{"stream": id}, statusMap(code, reason, disposition)))
}

func getsCredit(id uint32) vector.Map { return deliver("credit", vector.Map{"stream": id}) }

// getsUnary is the delivery of unary's frame.
func getsUnary(id uint32) vector.Map { return gets("request", id, raw.Msg|raw.End, 5) }

func getsGoAway(code int, last uint32, final bool) vector.Map {
	return deliver("goaway", vector.Map{"code": code, "last": last, "final": final})
}

// failed is what a broken rule of an open stream leads to.
func failed(id uint32, code, reason int) []vector.Map {
	st := statusMap(code, reason, unknown)
	return []vector.Map{writeReset(id, code, reason, unknown), deliver("failed", merge(vector.Map{"stream": id}, st))}
}

func streamError(id uint32) []vector.Map { return failed(id, internal, streamProtocol) }

func ended(id uint32, code, reason, disposition int) vector.Map {
	return vector.Map{"ended": merge(vector.Map{"stream": id}, statusMap(code, reason, disposition))}
}

func lostCall(id uint32) vector.Map { return ended(id, unavailable, connectionLost, unknown) }

func closes() vector.Map            { return vector.Map{"close": vector.Map{}} }
func refused(why string) vector.Map { return vector.Map{"refused": why} }
func blocked(id uint32) vector.Map  { return vector.Map{"blocked": vector.Map{"stream": id}} }

// Events of the owner.

func open(flags uint8, body int, actions ...vector.Map) step {
	return event("open", vector.Map{"flags": flags, "head": hexed(callHead), "body_len": body}, actions)
}

// opens is a unary call that goes out at once.
func opens(id uint32) step {
	return open(raw.Msg|raw.End, 5, writeFrame("REQUEST", id, raw.Msg|raw.End, 5))
}

func send(name string, id uint32, flags uint8, body int, actions ...vector.Map) step {
	return event("send", vector.Map{"type": name, "stream": id, "flags": flags, "head": "", "body_len": body}, actions)
}

// sendHead is send of a frame with a head.
func sendHead(name string, id uint32, flags uint8, head []byte, body int, actions ...vector.Map) step {
	s := send(name, id, flags, body, actions...)
	s.Event["send"].(vector.Map)["head"] = hexed(head)
	return s
}

// answers is a whole unary answer.
func answers(id uint32, more ...vector.Map) step {
	return send("RESPONSE", id, raw.Msg|raw.End, 3, append([]vector.Map{writeFrame("RESPONSE", id, raw.Msg|raw.End, 3)}, more...)...)
}

func consume(id uint32, cost int, actions ...vector.Map) step {
	return event("consume", vector.Map{"stream": id, "cost": cost}, actions)
}

func reset(id uint32, code, reason, disposition int, actions ...vector.Map) step {
	return event("reset", merge(vector.Map{"stream": id}, statusMap(code, reason, disposition)), actions)
}

func started(id uint32) step             { return event("started", vector.Map{"stream": id}, nil) }
func released(id uint32) step            { return event("released", vector.Map{"stream": id}, nil) }
func leave(actions ...vector.Map) step   { return event("leave", vector.Map{"code": draining}, actions) }
func final(actions ...vector.Map) step   { return event("final", vector.Map{"code": draining}, actions) }
func drained(actions ...vector.Map) step { return event("drained", nil, actions) }
func lost(actions ...vector.Map) step    { return event("lost", nil, actions) }

// unwritten is a connection that is lost while it takes nothing of what was to be written last.
func unwritten(actions ...vector.Map) step {
	return event("lost", vector.Map{"unwritten": true}, actions)
}
