// Package control is the framing between the conformance runner, its testees and the execution ledger: 4 bytes
// of length, big-endian, and a protobuf message.
package control

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// MaxFrame bounds a message, in bytes.
const MaxFrame = 64 << 20

// Read reads one message. It returns io.EOF at the end of the input, between messages, and looks at the
// length before it takes memory.
func Read(in io.Reader, into proto.Message) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes, at most %d: does something print to standard output?", n, MaxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	return proto.Unmarshal(b, into)
}

// Write writes one message with a single call of out.Write.
func Write(out io.Writer, m proto.Message) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return err
	}
	if len(b)-4 > MaxFrame {
		return fmt.Errorf("a frame of %d bytes, at most %d", len(b)-4, MaxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = out.Write(b)
	return err
}
