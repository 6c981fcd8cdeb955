"""Direct balancing: who may be called, and who is picked (S-DIRECT; vectors: balance.json).

Times are seconds since any moment that the owner chooses. Nothing here draws at random: `draw(n)` gives a number below
n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

LANE_TAG: Final = "lane"
"""The tag of an instance, and the key of baggage, that names a lane."""
MAX_TRIES: Final = 3
"""Instances that a call tries (S-DIRECT-6)."""
DIALS: Final = 20
"""Direct connections a second, and at once, that a process begins to targets that have one (S-DIRECT-7)."""
DIAL_PAUSE: Final = 0.05
"""Seconds after which a further one comes, times 0.5 + x, x at random in [0, 1)."""


class Instance(NamedTuple):
    """What matters of an instance for who may be called."""

    address: str
    """Its direct address; empty: none."""
    weight: int
    zone: str
    lane: str
    disabled: bool
    healthy: bool

    @property
    def callable(self) -> bool:
        """It gets calls at all (S-DIRECT-4)."""
        return self.address != "" and self.weight > 0 and not self.disabled and self.healthy


def tiers(instances: Sequence[Instance], lane: str, zone: str) -> list[list[int]]:
    """Orders, by index, the instances that calls of a lane may go to, the nearest first.

    They are those of the lane, or of the baseline if the lane has none; of them those of the caller's zone, then the
    others. A caller without a zone has one tier.
    """
    found = _tiers_of(instances, lane, zone)
    return found if found or not lane else _tiers_of(instances, "", zone)


def _tiers_of(instances: Sequence[Instance], lane: str, zone: str) -> list[list[int]]:
    near: list[int] = []
    far: list[int] = []
    for i, instance in enumerate(instances):
        if instance.callable and instance.lane == lane:
            (near if zone and instance.zone == zone else far).append(i)
    return [tier for tier in (near, far) if tier]


class Endpoint(Protocol):
    """What can be picked."""

    @property
    def weight(self) -> int:
        """Above 0."""

    @property
    def in_flight(self) -> int:
        """Calls."""

    @property
    def ejected_until(self) -> float:
        """Up to when it is left out."""


E = TypeVar("E", bound=Endpoint)


def pick(tiers: Sequence[Sequence[E]], skip: Sequence[E], now: float, draw: Callable[[int], int]) -> E | None:
    """The endpoint for one call, by the power of two choices (S-DIRECT-1); None if there is nothing to choose from.

    Those that skip has are left out. The tiers are asked in their order for one that is not ejected; if all are, the
    one whose time is over first is the choice: better a dial too many than no call at all (S-DIRECT-6).
    """
    for tier in tiers:
        able = [e for e in tier if e.ejected_until <= now and e not in skip]
        if able:
            return _pick_of(able, draw)
    rest = [e for tier in tiers for e in tier if e not in skip]
    return min(rest, key=lambda e: e.ejected_until) if rest else None


def _pick_of(able: list[E], draw: Callable[[int], int]) -> E:
    at = draw(sum([e.weight for e in able]))
    if len(able) == 1:
        return able[0]
    other = draw(len(able) - 1)
    first = 0
    while at >= able[first].weight:
        at -= able[first].weight
        first += 1
    a, b = able[first], able[other if other < first else other + 1]
    # If both are idle the first, which was drawn by weight, takes the call: else calls that come one by one would all
    # go to the heavier.
    idle = a.in_flight == 0 and b.in_flight == 0
    return a if idle or (a.in_flight + 1) * b.weight <= (b.in_flight + 1) * a.weight else b


def ejection(times: int) -> float:
    """For how many seconds an endpoint is left out that was not reached so often, once at least, in a row."""
    return float(min(1 << min(times - 1, 10), 30))


class DialBudget:
    """Bounds how fast a process begins direct connections to targets that have one already (S-DIRECT-7).

    One for a process.
    """

    __slots__ = ("_left", "_next")

    def __init__(self) -> None:
        self._left = DIALS
        self._next: float | None = None  # when there is one more

    def take(self, now: float, random: float) -> bool:
        """A connection may be begun now. random is in [0, 1): it spreads what many processes do."""
        wait = DIAL_PAUSE * (0.5 + random)
        if self._next is None or now - self._next > DIALS * DIAL_PAUSE:
            self._left, self._next = DIALS, now + wait
        while self._left < DIALS and now >= self._next:
            self._left += 1
            self._next += wait
        if not self._left:
            return False
        if self._left == DIALS:
            self._next = now + wait
        self._left -= 1
        return True
