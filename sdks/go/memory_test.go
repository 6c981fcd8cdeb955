package octomesh

import "testing"

func TestBorrowedMemoryFitsAndIsGivenBackBySize(t *testing.T) {
	for _, n := range []int{0, 1, keepSpare, keepSpare + 1, 1 << 17, 1<<17 + 1, 1 << 20, 1<<23 - 1, 1 << 23, 1<<23 + 1} {
		for range 3 {
			b := borrow(n)
			if len(b) != 0 || cap(b) < n || cap(b) != max(cap(b), sharedSize(n)) || cap(b) > 2*max(n, 1<<16) {
				t.Fatalf("%d bytes: length %d, capacity %d", n, len(b), cap(b))
			}
			giveBack(b[:n])
		}
	}
	giveBack(nil)
	giveBack(make([]byte, 0, 1<<17+1)) // not ours
	for range 10 {
		if b := borrow(1 << 17); cap(b) != 1<<17 {
			t.Fatalf("capacity %d", cap(b))
		}
	}
}
