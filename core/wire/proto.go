package wire

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// The little of protobuf's encoding that heads need. See proto/octo/wire/v1 for the fields.

const (
	wireVarint = 0
	wireFixed8 = 1 // eight bytes
	wireBytes  = 2
	wireFixed4 = 5 // four bytes
)

// errHead is the one answer to a head that does not parse: the peer learns BAD_HEAD, nothing finer.
var errHead = errors.New("octo: malformed head")

// field is one field of a message, as it stands in the buffer.
type field struct {
	num  uint32
	kind uint8
	val  uint64 // varint and fixed
	raw  []byte // bytes: the content
	end  int    // offset behind the field
}

// next reads the field at b[at:]. It reports false if the bytes there are no field of a kind that
// protobuf still writes (groups are refused).
func next(b []byte, at int, f *field) bool {
	tag, n := uvarint(b[at:])
	if n == 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return false
	}
	at += n
	f.num, f.kind, f.raw = uint32(tag>>3), uint8(tag&7), nil
	switch f.kind {
	case wireVarint:
		if f.val, n = uvarint(b[at:]); n == 0 {
			return false
		}
		f.end = at + n
	case wireBytes:
		size, n := uvarint(b[at:])
		if n == 0 || size > uint64(len(b)-at-n) {
			return false
		}
		at += n
		f.end = at + int(size)
		f.raw = b[at:f.end:f.end]
	case wireFixed8:
		if len(b)-at < 8 {
			return false
		}
		f.val, f.end = binary.LittleEndian.Uint64(b[at:]), at+8
	case wireFixed4:
		if len(b)-at < 4 {
			return false
		}
		f.val, f.end = uint64(binary.LittleEndian.Uint32(b[at:])), at+4
	default:
		return false
	}
	return true
}

// uvarint reads a varint of at most ten bytes; n is 0 if there is none.
func uvarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	for i := 0; i < len(b) && i < 10; i++ {
		if i == 9 && b[i] > 1 {
			return 0, 0
		}
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendUvarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// sizeUvarint is the number of bytes that appendUvarint appends.
func sizeUvarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// appendUint appends a varint field, unless it holds the default 0.
func appendUint(dst []byte, num uint32, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return appendUvarint(appendUvarint(dst, uint64(num)<<3|wireVarint), v)
}

// appendBool appends a bool field, unless it is false.
func appendBool(dst []byte, num uint32, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, num, 1)
}

// appendText appends a bytes field, unless it is empty.
func appendText[T ~string | ~[]byte](dst []byte, num uint32, v T) []byte {
	if len(v) == 0 {
		return dst
	}
	return appendTextAlways(dst, num, v)
}

// appendTextAlways appends a bytes field, also an empty one: for repeated and hop fields.
func appendTextAlways[T ~string | ~[]byte](dst []byte, num uint32, v T) []byte {
	dst = appendUvarint(dst, uint64(num)<<3|wireBytes)
	dst = appendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// appendMessage appends a message field whose content fill appends. The length is written after the
// content, which moves only if it takes more than one byte.
func appendMessage(dst []byte, num uint32, fill func([]byte) []byte) []byte {
	dst = appendUvarint(dst, uint64(num)<<3|wireBytes)
	return closeMessage(fill(append(dst, 0)), len(dst))
}

// closeMessage writes the length of the content that begins behind the byte at dst[at].
func closeMessage(dst []byte, at int) []byte {
	size := len(dst) - at - 1
	if extra := sizeUvarint(uint64(size)) - 1; extra > 0 {
		dst = append(dst, make([]byte, extra)...)
		copy(dst[at+1+extra:], dst[at+1:at+1+size])
	}
	appendUvarint(dst[:at], uint64(size))
	return dst
}

// Entry is one metadata or baggage entry.
type Entry struct {
	Key, Value []byte
}

// AppendEntry appends an entry as field num: octo.wire.v1.Entry.
func appendEntry[K, V ~string | ~[]byte](dst []byte, num uint32, key K, value V) []byte {
	size := sizeText(len(key)) + sizeText(len(value))
	dst = appendUvarint(dst, uint64(num)<<3|wireBytes)
	dst = appendUvarint(dst, uint64(size))
	return appendText(appendText(dst, 1, key), 2, value)
}

// sizeText is what appendText appends for a field below 16 of n bytes.
func sizeText(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + sizeUvarint(uint64(n)) + n
}

// parseEntry reads an octo.wire.v1.Entry.
func parseEntry(b []byte) (e Entry, ok bool) {
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return e, false
		}
		switch f.num {
		case 1, 2:
			if f.kind != wireBytes {
				return e, false
			}
			if f.num == 1 {
				e.Key = f.raw
			} else {
				e.Value = f.raw
			}
		}
	}
	return e, true
}
