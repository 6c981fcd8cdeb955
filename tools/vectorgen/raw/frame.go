// Package raw writes frames byte by byte. It shares nothing with core/wire, so that the vectors judge
// that package by somebody else's reading of the specification.
package raw

import (
	"encoding/hex"
	"slices"
)

// The frame types of W-TYPE-1.
const (
	Hello    = 1
	Welcome  = 2
	Ping     = 3
	Pong     = 4
	GoAway   = 5
	Drained  = 6
	Request  = 16
	Response = 17
	Message  = 18
	Window   = 19
	Reset    = 20
)

// The flags.
const (
	End        = 0x01
	More       = 0x02
	Compressed = 0x04
	Msg        = 0x08
	Critical   = 0x80
)

// Frame is a frame to be written. Zero values of Magic and Version stand for the right ones.
type Frame struct {
	Magic    uint16
	Version  uint8
	Type     uint8
	Flags    uint8
	Reserved uint8
	Stream   uint32
	Head     []byte
	HeadZero int // so many zero bytes behind Head
	// Body is given as bytes, or as a count of zero bytes where only its length matters.
	Body     []byte
	BodyZero int
	// HeadLen and BodyLen, where not nil, are written instead of the real lengths.
	HeadLen *uint16
	BodyLen *uint32
}

// Chunk is a run of bytes: given as hex, once or repeated, or as so many zero bytes.
type Chunk struct {
	Hex    string `json:"hex,omitempty"`
	Repeat int    `json:"repeat,omitempty"`
	Fill   int    `json:"fill,omitempty"`
}

// Header returns the frame's sixteen bytes.
func (f Frame) Header() []byte {
	magic, version := f.Magic, f.Version
	if magic == 0 {
		magic = 0x0C70
	}
	if version == 0 {
		version = 1
	}
	headLen, bodyLen := uint16(len(f.Head)+f.HeadZero), uint32(len(f.Body)+f.BodyZero)
	if f.HeadLen != nil {
		headLen = *f.HeadLen
	}
	if f.BodyLen != nil {
		bodyLen = *f.BodyLen
	}
	b := []byte{byte(magic >> 8), byte(magic), version, f.Type, f.Flags, f.Reserved}
	b = append(b, byte(headLen>>8), byte(headLen))
	b = append(b, byte(f.Stream>>24), byte(f.Stream>>16), byte(f.Stream>>8), byte(f.Stream))
	return append(b, byte(bodyLen>>24), byte(bodyLen>>16), byte(bodyLen>>8), byte(bodyLen))
}

// Len is the number of bytes that the frame takes.
func (f Frame) Len() int { return 16 + len(f.Head) + f.HeadZero + len(f.Body) + f.BodyZero }

// Chunks returns frames as runs of bytes, neighbours joined.
func Chunks(frames ...Frame) []Chunk {
	var out []Chunk
	var run []byte
	zeros := func(n int) {
		if n > 0 {
			if len(run) > 0 {
				out = append(out, Chunk{Hex: hex.EncodeToString(run)})
			}
			out, run = append(out, Chunk{Fill: n}), nil
		}
	}
	for _, f := range frames {
		run = slices.Concat(run, f.Header(), f.Head)
		zeros(f.HeadZero)
		run = append(run, f.Body...)
		zeros(f.BodyZero)
	}
	if len(run) > 0 {
		out = append(out, Chunk{Hex: hex.EncodeToString(run)})
	}
	return out
}

// Bytes is a single run of given bytes.
func Bytes(b []byte) []Chunk { return []Chunk{{Hex: hex.EncodeToString(b)}} }

// Uint32 is a big-endian body, as WINDOW has it.
func Uint32(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }
