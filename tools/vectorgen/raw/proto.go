package raw

// Protobuf by hand, for heads that a library would not write: odd orders, long varints, wrong types.

// Varint appends a varint of at least width bytes; 0 lets it be as short as it can.
func Varint(dst []byte, v uint64, width int) []byte {
	for n := 1; v >= 0x80 || n < width; n++ {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// Tag appends a field's number and wire type.
func Tag(dst []byte, number uint64, wire uint8) []byte {
	return Varint(dst, number<<3|uint64(wire), 0)
}

// Num is a varint field.
func Num(number, value uint64) []byte { return Varint(Tag(nil, number, 0), value, 0) }

// Text is a field of bytes.
func Text[T ~string | ~[]byte](number uint64, value T) []byte {
	return append(Varint(Tag(nil, number, 2), uint64(len(value)), 0), value...)
}

// Fixed64 is a field of eight bytes, little-endian.
func Fixed64(number, value uint64) []byte {
	b := Tag(nil, number, 1)
	for range 8 {
		b = append(b, byte(value))
		value >>= 8
	}
	return b
}

// Fixed32 is a field of four bytes, little-endian.
func Fixed32(number uint64, value uint32) []byte {
	b := Tag(nil, number, 5)
	for range 4 {
		b = append(b, byte(value))
		value >>= 8
	}
	return b
}
