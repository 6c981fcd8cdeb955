package octomesh

import (
	"math/bits"
	"sync"
)

// Memory of messages that are too large for a call to keep is shared by all calls: fresh memory would have to
// be cleared and collected for each. Sizes are powers of two, so that what was given back fits again.
const (
	leastShared = 17 // 128 KiB, the power above keepSpare
	mostShared  = 23 // 8 MiB; what is larger is rare, and made as large as it is
)

var shared [mostShared - leastShared + 1]sync.Pool

// sharedSize is how much borrow(n) takes.
func sharedSize(n int) int {
	if n <= keepSpare || n > 1<<mostShared {
		return n
	}
	return 1 << max(bits.Len(uint(n-1)), leastShared)
}

// borrow returns memory for n bytes. Whoever is done with it may give it back by [giveBack].
func borrow(n int) []byte {
	size := sharedSize(n)
	if size > keepSpare && size <= 1<<mostShared {
		if b, ok := shared[bits.Len(uint(size-1))-leastShared].Get().(*[]byte); ok {
			return (*b)[:0]
		}
	}
	return make([]byte, 0, size)
}

// giveBack makes b's memory serve another message, if it was borrowed. Nothing may point to it any more.
func giveBack(b []byte) {
	size := cap(b)
	if size < 1<<leastShared || size > 1<<mostShared || size&(size-1) != 0 {
		return
	}
	shared[bits.Len(uint(size-1))-leastShared].Put(&b)
}
