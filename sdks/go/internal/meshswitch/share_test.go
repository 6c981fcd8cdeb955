package meshswitch

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// Of each 1000 calls in a row exactly the share goes by the mesh, however many goroutines make them.
func TestShareIsExactForManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, share := range []uint32{1, 50, 500, 999} {
		b := NewBlocks(rand.Uint64)
		const callers, blocks = 8, 40
		var mesh, calls atomic.Int64
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for calls.Add(1) <= blocks*Whole {
					if b.Mesh(share) {
						mesh.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got, want := mesh.Load(), int64(blocks*share); got != want {
			t.Errorf("at %d: %d of %d calls, want %d", share, got, blocks*Whole, want)
		}
	}
}

func TestACallTakesNoMemory(t *testing.T) {
	b := NewBlocks(rand.Uint64)
	if n := testing.AllocsPerRun(10_000, func() { b.Mesh(500) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkMesh(b *testing.B) {
	s := NewBlocks(rand.Uint64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Mesh(500)
		}
	})
}
