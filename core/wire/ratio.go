package wire

import "math/bits"

// The mesh switch: which calls go through the mesh when its share is between 0 and 1000 permille. Six
// languages decide alike; conformance/vectors/ratio.json has the cases.

// StickyMesh decides for a call with a key. Raising permille never moves a key from mesh to direct.
func StickyMesh[K ~string | ~[]byte](target string, key K, permille uint32) bool {
	h := stickyHash("mesh", target, key)
	return uint32(uint64(h)*1000>>32) < permille
}

// RingHash is the hash of a key on a target's ring. It differs from the switch's, so that the keys of a
// small mesh share do not land on one backend.
func RingHash(target string, key []byte) uint32 { return stickyHash("ring", target, key) }

func stickyHash[K ~string | ~[]byte](purpose, target string, key K) uint32 {
	var stack [256]byte
	b := append(stack[:0], purpose...)
	b = append(b, 0)
	b = append(b, target...)
	b = append(b, 0)
	return Murmur3(append(b, key...), 0)
}

// Murmur3 is the hash murmur3_x86_32.
func Murmur3(b []byte, seed uint32) uint32 {
	const c1, c2 = 0xcc9e2d51, 0x1b873593
	h, n := seed, uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		h ^= bits.RotateLeft32(k*c1, 15) * c2
		h = bits.RotateLeft32(h, 13)*5 + 0xe6546b64
	}
	var k uint32
	for i := len(b) - 1; i >= 0; i-- {
		k = k<<8 | uint32(b[i])
	}
	h ^= bits.RotateLeft32(k*c1, 15) * c2
	h ^= n
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// BlockSize is the number of calls of a block, in which the share is exact.
const BlockSize = 1000

// Slots are a permutation of 0 to 999, one for each call of a block in turn: the call goes through the mesh if its slot is below the
// permille.
type Slots [BlockSize]uint16

// Shuffle makes the permutation that follows from seed: Fisher-Yates downwards.
func (s *Slots) Shuffle(seed uint64) {
	for i := range s {
		s[i] = uint16(i)
	}
	for i := BlockSize - 1; i > 0; i-- {
		j := int(splitmix64(&seed) % uint64(i+1))
		s[i], s[j] = s[j], s[i]
	}
}

func splitmix64(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
