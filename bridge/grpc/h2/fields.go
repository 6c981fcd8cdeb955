package h2

import "golang.org/x/net/http2/hpack"

// AppendField appends a field of a header block as a literal that changes nobody's table: names and values differ from
// call to call, and what is not kept costs neither side memory.
func AppendField[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	return appendText(appendText(append(dst, 0), name), value)
}

// appendText appends a text with its length as an integer of 7 bits and more, without Huffman's code.
func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	n := uint64(len(s))
	if n < 127 {
		return append(append(dst, byte(n)), s...)
	}
	dst = append(dst, 127)
	for n -= 127; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|128)
	}
	return append(append(dst, byte(n)), s...)
}

// FieldSize is what a field counts in a header list.
func FieldSize[N, V ~string | ~[]byte](name N, value V) int {
	return len(name) + len(value) + int((hpack.HeaderField{}).Size())
}
