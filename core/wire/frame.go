package wire

import (
	"encoding/binary"
	"fmt"
)

// HeaderSize is the length of every frame's header in bytes.
const HeaderSize = 16

// Magic begins every frame. It tells this protocol from HTTP/2, TLS, Thrift and others on a shared port.
const Magic = 0x0C70

// Version is the protocol version that this package speaks.
const Version = 1

// MaxHead is the longest head that the header can announce.
const MaxHead = 1<<16 - 1

// MaxFrame is the most bytes that one frame takes when max_frame_body is its least, 64 KiB: a read
// buffer of [ReadBuffer] bytes holds any of them whole.
const MaxFrame = HeaderSize + MaxHead + MinFrameBody

// ReadBuffer is a read buffer's size that holds any frame of a connection with default limits.
const ReadBuffer = 132 << 10

// Type says what a frame is. The numbers are the wire's.
type Type uint8

// The frame types. Those below 16 belong to the connection (stream 0), the others to a call.
const (
	TypeHello   Type = 1
	TypeWelcome Type = 2
	TypePing    Type = 3
	TypePong    Type = 4
	TypeGoAway  Type = 5
	TypeDrained Type = 6

	TypeRequest  Type = 16
	TypeResponse Type = 17
	TypeMessage  Type = 18
	TypeWindow   Type = 19
	TypeReset    Type = 20
)

var typeNames = [...]string{
	TypeHello: "HELLO", TypeWelcome: "WELCOME", TypePing: "PING", TypePong: "PONG",
	TypeGoAway: "GOAWAY", TypeDrained: "DRAINED", TypeRequest: "REQUEST", TypeResponse: "RESPONSE",
	TypeMessage: "MESSAGE", TypeWindow: "WINDOW", TypeReset: "RESET",
}

// String returns the name that the specification uses.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// onConnection tells whether the type is a known one of stream 0.
func (t Type) onConnection() bool { return t >= TypeHello && t <= TypeDrained }

// onStream tells whether the type is a known one of a call's stream.
func (t Type) onStream() bool { return t >= TypeRequest && t <= TypeReset }

// Flags qualify a frame.
type Flags uint8

// The flags. 0x10 to 0x40 are ignored by who does not know them; 0x80 may not be.
const (
	FlagEnd        Flags = 0x01 // half-close: the sender says nothing more on the stream
	FlagMore       Flags = 0x02 // the message goes on in the stream's next frame
	FlagCompressed Flags = 0x04 // the message is encoded as the head's message_encoding says
	FlagMessage    Flags = 0x08 // the frame carries (part of) a message, even of 0 bytes
	FlagCritical   Flags = 0x80 // whoever does not know it must reset the stream
)

// Header is a frame's first sixteen bytes, big-endian on the wire.
type Header struct {
	Type    Type
	Flags   Flags
	HeadLen uint16
	Stream  uint32
	BodyLen uint32
}

// FrameError is a broken framing rule: the connection cannot be trusted any more.
type FrameError struct {
	Kind FrameErrorKind
	Got  uint64
}

// FrameErrorKind says which framing rule was broken.
type FrameErrorKind uint8

// The framing rules that a header can break.
const (
	BadMagic FrameErrorKind = iota + 1
	BadVersion
	BodyTooLong
	BadLength
)

var frameErrorTexts = [...]string{
	BadMagic:    "magic is %#04x, want 0x0c70: the peer does not speak this protocol",
	BadVersion:  "frame version is %d, want 1",
	BodyTooLong: "frame body of %d bytes is over the announced max_frame_body",
	BadLength:   "frame body of %d bytes does not fit the frame's type",
}

// Error says what was wrong.
func (e *FrameError) Error() string { return fmt.Sprintf(frameErrorTexts[e.Kind], e.Got) }

// ParseHeader reads the header at the start of b, which must hold [HeaderSize] bytes, and checks what a
// header alone can show. maxBody is the receiver's max_frame_body.
func ParseHeader(b []byte, maxBody uint32) (Header, error) {
	_ = b[HeaderSize-1]
	h := Header{
		Type:    Type(b[3]),
		Flags:   Flags(b[4]),
		HeadLen: binary.BigEndian.Uint16(b[6:]),
		Stream:  binary.BigEndian.Uint32(b[8:]),
		BodyLen: binary.BigEndian.Uint32(b[12:]),
	}
	if m := binary.BigEndian.Uint16(b); m != Magic {
		return h, &FrameError{BadMagic, uint64(m)}
	}
	if b[2] != Version {
		return h, &FrameError{BadVersion, uint64(b[2])}
	}
	if h.BodyLen > maxBody {
		return h, &FrameError{BodyTooLong, uint64(h.BodyLen)}
	}
	if want, fixed := h.Type.fixedBody(); fixed && h.BodyLen != want {
		return h, &FrameError{BadLength, uint64(h.BodyLen)}
	}
	return h, nil
}

// fixedBody returns the only body length that the type may have, for those that have one.
func (t Type) fixedBody() (uint32, bool) {
	switch t {
	case TypePing, TypePong:
		return 8, true
	case TypeWindow:
		return 4, true
	case TypeHello, TypeWelcome, TypeGoAway, TypeDrained, TypeReset:
		return 0, true
	}
	return 0, false
}

// Append appends the header's sixteen bytes to dst.
func (h Header) Append(dst []byte) []byte {
	return append(dst, Magic>>8, Magic&0xFF, Version, byte(h.Type), byte(h.Flags), 0,
		byte(h.HeadLen>>8), byte(h.HeadLen),
		byte(h.Stream>>24), byte(h.Stream>>16), byte(h.Stream>>8), byte(h.Stream),
		byte(h.BodyLen>>24), byte(h.BodyLen>>16), byte(h.BodyLen>>8), byte(h.BodyLen))
}

// Frame is a header with the bytes that follow it. Head and Body borrow the buffer they arrived in.
type Frame struct {
	Header
	Head []byte
	Body []byte
}

// Has tells whether all of the given flags are set.
func (h Header) Has(f Flags) bool { return h.Flags&f == f }

// Cost is what a frame takes of its stream's credit: empty messages and one-byte fragments are not free.
func (h Header) Cost() int64 {
	if h.Flags&FlagMessage == 0 {
		return 0
	}
	return FrameCost + int64(h.BodyLen)
}

// FrameCost is the part of a MSG frame's credit that does not depend on its body.
const FrameCost = 64
