package main

import (
	"encoding/hex"
	"fmt"

	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

const leastBody = 65536

var typeNames = map[uint8]string{
	1: "HELLO", 2: "WELCOME", 3: "PING", 4: "PONG", 5: "GOAWAY", 6: "DRAINED",
	16: "REQUEST", 17: "RESPONSE", 18: "MESSAGE", 19: "WINDOW", 20: "RESET",
}

// frameFile holds single headers. The expectation of a valid one follows from how it was built; that of an
// invalid one is written beside it.
func frameFile() *vector.File {
	f := &vector.File{
		Title: "Frame headers",
		Notes: []string{
			"input.header is a frame's 16 bytes; input.max_frame_body is what the receiver declared.",
			"A valid header decodes to result; unless NonCanonical is set, encoding result gives the same bytes.",
			"result.cost is what the frame takes of its stream's credit.",
			"An invalid header names the first rule that it breaks: magic, version, body_limit, body_length or stream. " +
				"The connection ends with GOAWAY{PROTOCOL_ERROR}. All but stream are reported without waiting for head or body.",
		},
		Flags: map[string]string{
			"NonCanonical": "decodes, but no sender may write it",
			"UnknownType":  "the frame is skipped whole",
			"UnknownFlag":  "carries a flag that version 1 does not define",
		},
	}
	f.Vectors = append(f.Vectors, validFrames()...)
	f.Vectors = append(f.Vectors, invalidFrames()...)
	return f
}

func validFrame(id, comment string, fr raw.Frame, limit uint32, flags []string, rules ...string) vector.Vector {
	h := fr.Header()
	bodyLen := uint32(h[12])<<24 | uint32(h[13])<<16 | uint32(h[14])<<8 | uint32(h[15])
	cost := uint32(0)
	if fr.Flags&raw.Msg != 0 && fr.Type >= raw.Request && fr.Type <= raw.Message {
		cost = 64 + bodyLen
	}
	name := typeNames[fr.Type]
	if name == "" {
		name = "UNKNOWN"
	}
	return vector.Vector{
		ID: "frame/" + id, Comment: comment, Rules: rules, Flags: flags,
		Input: vector.Map{"header": hex.EncodeToString(h), "max_frame_body": limit},
		Result: vector.Map{
			"valid": true, "type": fr.Type, "name": name, "flags": fr.Flags, "head_len": uint32(h[6])<<8 | uint32(h[7]),
			"stream": fr.Stream, "body_len": bodyLen, "cost": cost,
		},
	}
}

func validFrames() []vector.Vector {
	u16 := func(n uint16) *uint16 { return &n }
	u32 := func(n uint32) *uint32 { return &n }
	var out []vector.Vector
	add := func(id, comment string, f raw.Frame, rules ...string) {
		out = append(out, validFrame(id, comment, f, leastBody, nil, append(rules, "W-FRAME-1")...))
	}
	for _, t := range []uint8{1, 2, 3, 4, 5, 6, 16, 17, 18, 19, 20} {
		f := raw.Frame{Type: t}
		switch t {
		case raw.Ping, raw.Pong:
			f.BodyZero = 8
		case raw.Window:
			f.BodyZero = 4
		}
		if t >= 16 {
			f.Stream = 1
		}
		add(fmt.Sprintf("type-%d", t), "the shortest "+typeNames[t], f, "W-TYPE-1", "W-FRAME-6", "W-FRAME-7")
	}
	add("unary-request", "REQUEST|MSG|END with head and body", raw.Frame{Type: 16, Flags: raw.Msg | raw.End, Stream: 1, HeadLen: u16(40), BodyLen: u32(100)}, "W-FLOW-1")
	add("empty-message", "MSG with an empty body costs 64", raw.Frame{Type: 18, Flags: raw.Msg, Stream: 7}, "W-FLOW-1", "W-MSG-1")
	add("all-flags", "END, COMPRESSED and MSG together", raw.Frame{Type: 17, Flags: raw.Msg | raw.End | raw.Compressed, Stream: 3, BodyLen: u32(1)}, "W-FLOW-1")
	add("more", "a fragment", raw.Frame{Type: 18, Flags: raw.Msg | raw.More, Stream: 5, BodyLen: u32(61440)}, "W-MSG-3", "W-FLOW-1")
	add("no-msg", "without MSG a frame costs nothing", raw.Frame{Type: 18, Flags: raw.End, Stream: 5}, "W-FLOW-1")
	add("longest-head", "a head of 65535 bytes", raw.Frame{Type: 16, Flags: raw.End, Stream: 1, HeadLen: u16(65535)}, "W-FRAME-4")
	add("longest-body", "a body of exactly the limit", raw.Frame{Type: 18, Flags: raw.Msg, Stream: 1, BodyLen: u32(65536)}, "W-FRAME-5")
	add("highest-stream", "stream ids are 32 bits", raw.Frame{Type: 18, Flags: raw.End, Stream: 0xFFFFFFFF})
	add("mixed-bytes", "every byte of stream and lengths differs: big-endian", raw.Frame{Type: 16, Flags: raw.Msg, Stream: 0x01020304, HeadLen: u16(0x0506), BodyLen: u32(0x0708)})
	out = append(out, validFrame("declared-limit", "a receiver that declared 1 MiB takes 1 MiB",
		raw.Frame{Type: 18, Flags: raw.Msg, Stream: 1, BodyLen: u32(1 << 20)}, 1<<20, nil, "W-FRAME-5"))
	out = append(out, validFrame("reserved-not-zero", "the reserved byte is ignored",
		raw.Frame{Type: 18, Flags: raw.Msg, Stream: 1, Reserved: 0xFF}, leastBody, []string{"NonCanonical"}, "W-FRAME-3"))
	for _, flag := range []uint8{0x10, 0x20, 0x40, 0x80} {
		out = append(out, validFrame(fmt.Sprintf("flag-%02x", flag), "a flag that version 1 does not define is no framing error",
			raw.Frame{Type: 18, Flags: raw.Msg | flag, Stream: 1}, leastBody, []string{"UnknownFlag"}, "W-FLAG-2", "W-FLAG-3"))
	}
	for _, t := range []uint8{0, 7, 15, 21, 127, 255} {
		for _, stream := range []uint32{0, 1} {
			out = append(out, validFrame(fmt.Sprintf("unknown-type-%d-stream-%d", t, stream), "an unknown type may have any stream and body within the limit",
				raw.Frame{Type: t, Stream: stream, BodyLen: u32(65536)}, leastBody, []string{"UnknownType"}, "W-TYPE-2"))
		}
	}
	return out
}

func invalidFrames() []vector.Vector {
	u32 := func(n uint32) *uint32 { return &n }
	var out []vector.Vector
	add := func(id, comment, broken string, f raw.Frame, rules ...string) {
		out = append(out, vector.Vector{
			ID: "frame/" + id, Comment: comment, Rules: append(rules, "W-CONN-1"),
			Input:  vector.Map{"header": hex.EncodeToString(f.Header()), "max_frame_body": leastBody},
			Result: vector.Map{"valid": false, "error": broken, "ends_connection": true},
		})
	}
	for _, m := range []uint16{0x0C71, 0x0D70, 0x1603, 0x5052, 0xABBA, 0xFFFF} {
		add(fmt.Sprintf("magic-%04x", m), "not the magic", "magic", raw.Frame{Magic: m, Type: 16, Stream: 1}, "W-FRAME-1")
	}
	for _, v := range []uint8{2, 127, 255} {
		add(fmt.Sprintf("version-%d", v), "not version 1", "version", raw.Frame{Version: v, Type: 1}, "W-FRAME-2")
	}
	zero := raw.Frame{Type: 18, Flags: raw.Msg, Stream: 1}.Header()
	zero[2] = 0
	out = append(out, vector.Vector{
		ID: "frame/version-0", Comment: "version 0", Rules: []string{"W-FRAME-2", "W-CONN-1"},
		Input:  vector.Map{"header": hex.EncodeToString(zero), "max_frame_body": leastBody},
		Result: vector.Map{"valid": false, "error": "version", "ends_connection": true},
	})
	for _, n := range []uint32{65537, 1 << 20, 1 << 31, 0xFFFFFFFF} {
		add(fmt.Sprintf("body-%d", n), "a body over the limit", "body_limit", raw.Frame{Type: 18, Flags: raw.Msg, Stream: 1, BodyLen: u32(n)}, "W-FRAME-5", "W-FRAME-8")
	}
	add("unknown-type-body", "the limit holds for unknown types too", "body_limit", raw.Frame{Type: 99, Stream: 1, BodyLen: u32(65537)}, "W-FRAME-5", "W-TYPE-2")
	fixed := []struct {
		t      uint8
		stream uint32
		bad    []uint32
	}{{1, 0, []uint32{1}}, {2, 0, []uint32{1}}, {3, 0, []uint32{0, 7, 9}}, {4, 0, []uint32{0, 7, 9}}, {5, 0, []uint32{1}},
		{6, 0, []uint32{8}}, {19, 1, []uint32{0, 3, 5, 8}}, {20, 1, []uint32{1}}}
	for _, c := range fixed {
		for _, n := range c.bad {
			add(fmt.Sprintf("type-%d-body-%d", c.t, n), typeNames[c.t]+" with a body of another length than its own", "body_length",
				raw.Frame{Type: c.t, Stream: c.stream, BodyLen: u32(n)}, "W-FRAME-6")
		}
	}
	for _, t := range []uint8{1, 2, 3, 4, 5, 6} {
		f := raw.Frame{Type: t, Stream: 1}
		if t == raw.Ping || t == raw.Pong {
			f.BodyLen = u32(8)
		}
		add(fmt.Sprintf("type-%d-on-stream", t), typeNames[t]+" on a call's stream", "stream", f, "W-FRAME-7")
	}
	for _, t := range []uint8{16, 17, 18, 19, 20} {
		f := raw.Frame{Type: t}
		if t == raw.Window {
			f.BodyLen = u32(4)
		}
		add(fmt.Sprintf("type-%d-on-connection", t), typeNames[t]+" on stream 0", "stream", f, "W-FRAME-7")
	}
	add("magic-before-version", "the first broken rule is reported: magic", "magic", raw.Frame{Magic: 0x1234, Version: 9, Type: 18, BodyLen: u32(1 << 30)}, "W-FRAME-8")
	add("version-before-body", "the first broken rule is reported: version", "version", raw.Frame{Version: 9, Type: 18, BodyLen: u32(1 << 30)}, "W-FRAME-8")
	add("limit-before-length", "the first broken rule is reported: body limit", "body_limit", raw.Frame{Type: raw.Ping, Stream: 1, BodyLen: u32(65537)}, "W-FRAME-8")
	add("length-before-stream", "the first broken rule is reported: fixed body length", "body_length", raw.Frame{Type: raw.Ping, Stream: 1, BodyLen: u32(9)}, "W-FRAME-8")
	return out
}
