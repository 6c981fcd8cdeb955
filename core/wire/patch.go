package wire

import "encoding/binary"

// PatchTimeout writes what is left of a call's time into a request head that [RequestHead.Parse] has
// read. It returns what must stand before the head: nothing where the head begins with a timeout, which
// is overwritten in place, else a timeout field appended to pre. A later field would win over one that
// is put in front, so a head whose timeout stands elsewhere, which only a foreign encoder makes, gets
// it appended: then the second result is what must stand behind.
func (h *RequestHead) PatchTimeout(head []byte, us uint64, pre, post []byte) (before, behind []byte) {
	switch {
	case h.timeoutLater:
		post = AppendTimeout(post, us)
	case h.timeoutFirst:
		binary.LittleEndian.PutUint64(head[1:timeoutSize], us)
	default:
		pre = AppendTimeout(pre, us)
	}
	return pre, post
}

// AppendHop appends a hop field that carries bytes, also empty ones: to say nothing differs from not
// saying anything.
func AppendHop[T ~string | ~[]byte](dst []byte, num uint32, v T) []byte {
	return appendTextAlways(dst, num, v)
}

// AppendHopNumber appends a hop field that carries a number, also 0.
func AppendHopNumber(dst []byte, num uint32, v uint64) []byte {
	return appendUvarint(appendUvarint(dst, uint64(num)<<3|wireVarint), v)
}

// TimeoutUS turns what is left of a deadline, in nanoseconds, into the wire's microseconds, rounded up so
// that a sliver of time is not taken for "no deadline". It must be above 0.
//
// More than a hundred years is sent as a hundred years.
func TimeoutUS(leftNanos int64) uint64 {
	return min(uint64(leftNanos-1)/1000+1, maxTimeoutUS)
}

// maxTimeoutUS is a hundred years, which every language's nanosecond clock holds.
const maxTimeoutUS = 100 * 365 * 24 * 3600 * 1_000_000

// TimeoutNanos turns the wire's microseconds into nanoseconds. A budget of more than a hundred years
// counts as a hundred years, so that adding it to a clock does not overflow.
func TimeoutNanos(us uint64) int64 {
	return int64(min(us, maxTimeoutUS)) * 1000
}
