package reference

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

const (
	headerSize = 16
	magic      = 0x0C70
	// maxBody bounds what this peer reads: it declares the least max_frame_body, and no more is sent to it.
	maxBody = 1 << 16
	// handshakeTypes up to this one belong to the connection.
	lastConnectionType = conformancev1.FrameType_FRAME_TYPE_DRAINED
)

// Frame is one as it stood on the wire.
type Frame struct {
	Magic, HeadLength    uint16
	Version, Reserved    uint8
	Type                 conformancev1.FrameType
	Flags                uint8
	Stream, BodyLength   uint32
	Head, Body           []byte
	headLonger, bodyMore bool // the header announces more than this frame holds
}

// Has tells whether a flag is set.
func (f *Frame) Has(flag conformancev1.FrameFlag) bool { return f.Flags&uint8(flag) != 0 }

// Append appends the frame's bytes.
func (f *Frame) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, f.Magic)
	b = append(b, f.Version, uint8(f.Type), f.Flags, f.Reserved)
	b = binary.BigEndian.AppendUint16(b, f.HeadLength)
	b = binary.BigEndian.AppendUint32(b, f.Stream)
	b = binary.BigEndian.AppendUint32(b, f.BodyLength)
	return append(append(b, f.Head...), f.Body...)
}

// parseHeader reads sixteen bytes.
func parseHeader(b []byte) *Frame {
	return &Frame{
		Magic: binary.BigEndian.Uint16(b), Version: b[2], Type: conformancev1.FrameType(b[3]), Flags: b[4], Reserved: b[5],
		HeadLength: binary.BigEndian.Uint16(b[6:]), Stream: binary.BigEndian.Uint32(b[8:]), BodyLength: binary.BigEndian.Uint32(b[12:]),
	}
}

// Read reads a frame that must be one of version 1.
func Read(in io.Reader) (*Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return nil, err
	}
	f := parseHeader(header[:])
	if f.Magic != magic || f.Version != 1 || f.BodyLength > maxBody {
		return nil, fmt.Errorf("the other side sends %x, which begins no frame of version 1 that fits 64 KiB", header)
	}
	rest := make([]byte, int(f.HeadLength)+int(f.BodyLength))
	if _, err := io.ReadFull(in, rest); err != nil {
		return nil, fmt.Errorf("inside a frame: %w", err)
	}
	f.Head, f.Body = rest[:f.HeadLength], rest[f.HeadLength:]
	return f, nil
}

// head returns the message that stands in the head of a type, or nil.
func head(t conformancev1.FrameType) proto.Message {
	switch t {
	case conformancev1.FrameType_FRAME_TYPE_HELLO:
		return &wirev1.Hello{}
	case conformancev1.FrameType_FRAME_TYPE_WELCOME:
		return &wirev1.Welcome{}
	case conformancev1.FrameType_FRAME_TYPE_GOAWAY:
		return &wirev1.GoAway{}
	case conformancev1.FrameType_FRAME_TYPE_REQUEST:
		return &wirev1.RequestHead{}
	case conformancev1.FrameType_FRAME_TYPE_RESPONSE:
		return &wirev1.ResponseHead{}
	case conformancev1.FrameType_FRAME_TYPE_MESSAGE:
		return &wirev1.MessageHead{}
	case conformancev1.FrameType_FRAME_TYPE_RESET:
		return &wirev1.Reset{}
	}
	return nil
}

var flagNames = []string{"END", "MORE", "COMPRESSED", "MSG", "10", "20", "40", "CRITICAL"}

// shownBytes is how much of a body or of a head that does not parse is shown.
const shownBytes = 24

// String says all that the frame says, on one line.
func (f *Frame) String() string {
	name := conformancev1.FrameType_name[int32(f.Type)]
	if name == "" {
		name = fmt.Sprintf("type %d", f.Type)
	} else {
		name = name[len("FRAME_TYPE_"):]
	}
	text := fmt.Sprintf("%s stream %d", name, f.Stream)
	sep := " "
	for i, flag := range flagNames {
		if f.Flags&(1<<i) != 0 {
			text += sep + flag
			sep = "|"
		}
	}
	if m := head(f.Type); m != nil && !f.headLonger {
		if proto.Unmarshal(f.Head, m) != nil {
			text += fmt.Sprintf(" head %x, which does not parse", cut(f.Head))
		} else if len(f.Head) > 0 {
			text += " {" + prototext.MarshalOptions{}.Format(m) + "}"
		}
	} else if len(f.Head) > 0 {
		text += fmt.Sprintf(" head %x", cut(f.Head))
	}
	if len(f.Body) > 0 {
		text += fmt.Sprintf(" body of %d %x", len(f.Body), cut(f.Body))
	}
	if f.Magic != magic || f.Version != 1 || f.headLonger || f.bodyMore {
		text += fmt.Sprintf(" (magic %04x, version %d, head length %d, body length %d)", f.Magic, f.Version, f.HeadLength, f.BodyLength)
	}
	return text
}

func cut(b []byte) []byte { return b[:min(len(b), shownBytes)] }
