// Package machine holds scripts for the state machine of a connection: what happens to one side, and what
// that side then does. Every expectation is written by hand.
package machine

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// Files are the scripts by file name.
func Files() map[string]*vector.File {
	topics := []struct {
		name, title string
		scripts     []script
	}{
		{"handshake.json", "Handshake and version", handshakes()},
		{"ids.json", "Stream ids", ids()},
		{"streams.json", "Streams", streams()},
		{"limits.json", "max_streams and refusals", streamLimits()},
		{"pace.json", "How fast an opener resets", paces()},
		{"fragments.json", "Messages and fragments", fragments()},
		{"credit.json", "Credit", credits()},
		{"control.json", "PING, PONG and unknown frames", controls()},
		{"ending.json", "What ends streams and connections", endings()},
		{"leaving.json", "GOAWAY and DRAINED", leavings()},
		{"final.json", "The drain deadline", finals()},
	}
	out := map[string]*vector.File{}
	for _, t := range topics {
		f := &vector.File{Title: t.title, Notes: notes, Flags: map[string]string{}}
		for _, s := range t.scripts {
			f.Vectors = append(f.Vectors, s.vector(t.name[:len(t.name)-len(".json")]))
		}
		out[t.name] = f
	}
	return out
}

var notes = []string{
	"input says which end of a connection this is, and what both sides declared; with skip_handshake the handshake is done. result.steps are played in order.",
	"After each step everything queued is written (flushed), unless the step has hold; then its writes, if any, are part of the next step's.",
	"receive: frames arrive, in chunks: hex, repeated so often, or so many zero bytes. tick: 500 ms have passed. hello, accept, refuse, open, send, consume, reset, started, released, leave, final, drained, ping, lost: " +
		"what the owner does or sees. Heads are hex, bodies are so many zero bytes. A send that finds no credit goes on by itself when a WINDOW comes. lost with unwritten: the socket took nothing of what was written last. " +
		"cancels: the owner opens so many unary calls of one byte, one after another, and ends each by RESET{CANCELLED} at once; for each a REQUEST and a RESET go out in this step, which no actions say.",
	"write: a frame goes out, with the fields that are named; text, origin, and fields that are not named are free. sends: one message goes out whole, in one fragment or several; " +
		"type and head are its first frame's, last_type and last_head its last one's. deliver: the owner learns of a frame. A message's frames are delivered one by one. " +
		"failed: the peer broke a rule of the stream; it is closed with this status. ended: an open stream ends with this status without a frame of its own. " +
		"close: the connection carries nothing any more (W-CONN-3). refused: an open does not happen. blocked: a send waits for credit.",
	"The writes of one stream come in the order given, and deliveries do; otherwise the order is free, but that a write with place first or last is the first or last of all that are flushed with it. An optional action may be missing.",
}

type limits struct {
	MaxStreams   uint32 `json:"max_streams,omitempty"`
	StreamWindow uint32 `json:"stream_window,omitempty"`
	MaxFrameBody uint32 `json:"max_frame_body,omitempty"`
}

// setup is one end of a connection.
type setup struct {
	Side          string `json:"side"`
	Role          string `json:"role"`
	Local         limits `json:"local"`
	Peer          limits `json:"peer"`
	SkipHandshake bool   `json:"skip_handshake"`
}

// The four ends. Streams of CALL are odd, those of SERVE even.
func callOpener() setup  { return setup{Side: "dialer", Role: "call", SkipHandshake: true} }
func callCallee() setup  { return setup{Side: "acceptor", Role: "call", SkipHandshake: true} }
func serveOpener() setup { return setup{Side: "acceptor", Role: "serve", SkipHandshake: true} }
func serveCallee() setup { return setup{Side: "dialer", Role: "serve", SkipHandshake: true} }

func (s setup) local(l limits) setup { s.Local = l; return s }
func (s setup) peer(l limits) setup  { s.Peer = l; return s }
func (s setup) fresh() setup         { s.SkipHandshake = false; return s }

type script struct {
	id, comment string
	rules       []string
	on          setup
	steps       []step
}

type step struct {
	Note    string       `json:"note,omitempty"`
	Event   vector.Map   `json:"event"`
	Hold    bool         `json:"hold,omitempty"`
	Actions []vector.Map `json:"actions"`
}

func (s script) vector(topic string) vector.Vector {
	return vector.Vector{
		ID: "machine/" + topic + "/" + s.id, Comment: s.comment, Rules: s.rules,
		Input: s.on, Result: map[string][]step{"steps": s.steps},
	}
}

func rules(names ...string) []string { return names }

// hold marks a step after which nothing is flushed.
func hold(s step) step { s.Hold = true; return s }

func event(name string, with vector.Map, actions []vector.Map) step {
	if actions == nil {
		actions = []vector.Map{}
	}
	if with == nil {
		with = vector.Map{}
	}
	return step{Event: vector.Map{name: with}, Actions: actions}
}

// recv is frames that arrive together.
func recv(note string, frames []raw.Frame, actions ...vector.Map) step {
	if actions == nil {
		actions = []vector.Map{}
	}
	return step{Note: note, Event: vector.Map{"receive": raw.Chunks(frames...)}, Actions: actions}
}

// floods is the same frame many times.
func floods(note string, f raw.Frame, n int, actions ...vector.Map) step {
	s := recv(note, one(f), actions...)
	chunks := raw.Chunks(f)
	chunks[0].Repeat = n
	s.Event = vector.Map{"receive": chunks}
	return s
}

func one(f raw.Frame) []raw.Frame        { return []raw.Frame{f} }
func several(f ...raw.Frame) []raw.Frame { return f }
func headOf(parts ...[]byte) []byte      { return slices.Concat(parts...) }
func total(n uint64) []byte              { return raw.Num(2, n) }
func hexed(b []byte) string              { return hex.EncodeToString(b) }
func optional(a vector.Map) vector.Map   { return merge(a, vector.Map{"optional": true}) }
func deliver(kind string, m vector.Map) vector.Map {
	return vector.Map{"deliver": merge(vector.Map{"kind": kind}, m)}
}

func merge(a, b vector.Map) vector.Map {
	out := vector.Map{}
	for _, m := range []vector.Map{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// sorted puts scripts into the order of their ids, so that maps of cases do not shuffle files.
func sorted(s []script) []script {
	slices.SortFunc(s, func(a, b script) int { return strings.Compare(a.id, b.id) })
	return s
}
