"""Which calls go through the mesh when its share is between 0 and 1000 permille (S-RATIO; vectors: ratio.json)."""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack_from
from typing import Final

WHOLE: Final = 1000
"""The share of a mesh that takes all calls; also the calls of a block, in which the share is exact."""

_M32: Final = 0xFFFF_FFFF
_M64: Final = 0xFFFF_FFFF_FFFF_FFFF


def murmur3(b: bytes, seed: int = 0) -> int:
    """The hash murmur3_x86_32."""
    h = seed
    size = len(b)
    blocks = size >> 2
    for k in unpack_from(f"<{blocks}I", b):
        k = k * 0xCC9E2D51 & _M32
        k = (k << 15 | k >> 17) * 0x1B873593 & _M32
        h ^= k
        h = ((h << 13 | h >> 19) & _M32) * 5 + 0xE6546B64 & _M32
    tail = int.from_bytes(b[blocks * 4 :], "little")
    if tail:
        k = tail * 0xCC9E2D51 & _M32
        h ^= (k << 15 | k >> 17) * 0x1B873593 & _M32
    h ^= size
    h = (h ^ h >> 16) * 0x85EBCA6B & _M32
    h = (h ^ h >> 13) * 0xC2B2AE35 & _M32
    return h ^ h >> 16


def sticky_hash(target: bytes, key: bytes) -> int:
    """The hash by which a call with a key is decided."""
    return murmur3(b"mesh\0" + target + b"\0" + key)


def sticky_mesh(target: bytes, key: bytes, permille: int) -> bool:
    """Decides for a call with a key: its hash key, or the 16 raw bytes of an inherited trace id (S-RATIO-2).

    Raising permille never moves a key from mesh to direct.
    """
    return sticky_hash(target, key) * WHOLE >> 32 < permille


def splitmix64(state: int) -> tuple[int, int]:
    """The next number and the state behind it."""
    state = state + 0x9E3779B97F4A7C15 & _M64
    z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _M64
    return z ^ z >> 31, state


def shuffled(seed: int) -> list[int]:
    """The permutation of 0 to 999 that follows from a seed (S-RATIO-5)."""
    slots = list(range(WHOLE))
    for i in range(WHOLE - 1, 0, -1):
        z, seed = splitmix64(seed)
        j = z % (i + 1)
        slots[i], slots[j] = slots[j], slots[i]
    return slots


class Blocks:
    """Deals exact shares to the calls of one target without a key: of each 1000 in a row exactly the permille.

    One for a process and target, over all channels.
    """

    __slots__ = ("_left", "_seed")

    def __init__(self, seed: Callable[[], int]) -> None:
        """Seed draws 64 bits at random for each block, as `lambda: random.getrandbits(64)` does."""
        self._seed = seed
        self._left: list[int] = []

    def mesh(self, permille: int) -> bool:
        """Decides for the next call. Where the share leaves nothing to decide no turn is taken (S-RATIO-6)."""
        if permille <= 0 or permille >= WHOLE:
            return permille > 0
        try:
            slot = self._left.pop()
        except IndexError:
            left = shuffled(self._seed())
            left.reverse()
            slot = left.pop()
            self._left = left
        return slot < permille
