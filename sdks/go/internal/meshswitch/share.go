// Package meshswitch decides which share of the calls takes the mesh: who says it, and which call is one of them. It does no I/O;
// the rules are S-RATIO and S-SWITCH in proto/spec/switch.md, the vectors ratio.json and switch.json in conformance/vectors.
package meshswitch

import (
	"sync"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// Whole is the share of a mesh that takes all calls.
const Whole = wire.BlockSize

// Blocks deals exact shares to the calls of one target without a key: of each 1000 in a row, by any number of channels and
// goroutines, exactly the permille. Taking a turn is one atomic addition; a lock is taken once per block.
type Blocks struct {
	seed    func() uint64
	current atomic.Pointer[block]
	turn    sync.Mutex
}

type block struct {
	slots wire.Slots
	next  atomic.Uint32
}

// NewBlocks returns a dealer, whose blocks begin with seeds that seed draws.
func NewBlocks(seed func() uint64) *Blocks { return &Blocks{seed: seed} }

// Mesh decides for the next call. Where the share leaves nothing to decide no turn is taken.
func (b *Blocks) Mesh(permille uint32) bool {
	if permille == 0 || permille >= Whole {
		return permille > 0
	}
	for {
		c := b.current.Load()
		if c != nil && c.next.Load() < Whole { // a block that is used up is not counted on: its counter would wrap
			if n := c.next.Add(1) - 1; n < Whole {
				return uint32(c.slots[n]) < permille
			}
		}
		b.deal(c)
	}
}

// deal replaces a block that is used up.
func (b *Blocks) deal(used *block) {
	b.turn.Lock()
	defer b.turn.Unlock()
	if b.current.Load() != used {
		return
	}
	next := &block{}
	next.slots.Shuffle(b.seed())
	b.current.Store(next)
}
