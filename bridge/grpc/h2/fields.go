package h2

import "golang.org/x/net/http2/hpack"

// AppendField appends a field of a header block that changes nobody's table: names and values differ from call to call, and what
// is not kept costs neither side memory. What every connection knows from its beginning is said by its number (RFC 7541, appendix A).
func AppendField[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	number, whole := known(string(name), string(value))
	switch {
	case whole:
		return append(dst, 128|number)
	case number == 0:
		dst = appendText(append(dst, 0), name)
	case number < 15:
		dst = append(dst, number)
	default:
		dst = append(dst, 15, number-15)
	}
	return appendText(dst, value)
}

// known is the number of a field that begins calls or answers, or of its name alone; 0: it has none.
func known(name, value string) (number byte, whole bool) {
	switch name {
	case ":authority":
		return 1, false
	case ":method":
		return 3, value == "POST"
	case ":path":
		return 4, false
	case ":scheme":
		if value == "https" {
			return 7, true
		}
		return 6, value == "http"
	case ":status":
		return 8, value == "200"
	case "content-type":
		return 31, false
	case "user-agent":
		return 58, false
	}
	return 0, false
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
