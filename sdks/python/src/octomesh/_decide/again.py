"""Whether a call goes again after an attempt, and where (S-AGAIN; vectors: fallback.json, retry.json)."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from octomesh._wire.status import Code, Disposition, Origin, Reason, rule_of

MAX_AGAIN: Final = 2
"""How often a call is sent again at most."""
COST: Final = 10
"""What a re-send costs that may be the second run of a call, in tenths of a token."""
BUDGET: Final = 100
"""How many tenths there are at most."""


class Ended(NamedTuple):
    """How an attempt ended, by the numbers of octo.wire.v1."""

    code: int
    reason: int
    origin: int
    disposition: int


class Tried(NamedTuple):
    """What matters of a call beside how its attempt ended."""

    idempotent: bool
    first_request: bool
    """Its REQUEST is all that was sent."""
    free_used: bool
    """It has had the re-send that costs nothing."""
    resent: int
    """How often it was sent again."""
    other: bool
    """The other way is open to it (S-AGAIN-11)."""
    tokens: int
    """Of the retry budget, in tenths."""


class Next(Enum):
    """What becomes of a call."""

    END = "end"
    SAME = "same"
    """It goes again, on another connection of the way that it took."""
    OTHER = "other"
    """It goes the other way."""


def again(ended: Ended, call: Tried) -> tuple[Next, int, bool]:
    """Decides how a call goes on after an attempt that failed.

    Returns that, what to take from the budget in tenths, and whether the call's free re-send is used up.
    """
    if not call.first_request or call.resent >= MAX_AGAIN:
        return Next.END, 0, False
    if ended.disposition == Disposition.NOT_PROCESSED:
        return _surely_not(ended, call), 0, False
    if ended.code != Code.UNAVAILABLE or ended.disposition != Disposition.UNKNOWN or not call.idempotent:
        return Next.END, 0, False
    if ended.reason == Reason.CONNECTION_LOST and ended.origin == Origin.CLIENT_SDK and not call.free_used:
        return Next.SAME, 0, True
    if call.tokens < COST:
        return Next.END, 0, False
    return Next.SAME, COST, False


def _surely_not(ended: Ended, call: Tried) -> Next:
    """Decides for a call that ran nowhere."""
    if not rule_of(ended.reason).path:  # a refusal: another way would go round it (S-AGAIN-2)
        return Next.END
    if ended.reason == Reason.PROXY_DRAINING and call.resent == 0:  # a successor is there
        return Next.SAME
    if call.other:
        return Next.OTHER
    if ended.reason == Reason.PROXY_UNREACHABLE and ended.origin == Origin.CLIENT_SDK:  # all that there is was tried
        return Next.END
    return Next.SAME


class Budget:
    """Bounds how often idempotent calls go again: at most 10 tokens, a tenth back for each success (S-AGAIN-3).

    One for a process and target.
    """

    __slots__ = ("tenths",)

    def __init__(self) -> None:
        self.tenths = BUDGET

    def take(self, cost: int) -> bool:
        """Takes what a re-send costs, in tenths, if it is there."""
        if self.tenths < cost:
            return False
        self.tenths -= cost
        return True

    def succeeded(self) -> None:
        """A call has ended well."""
        if self.tenths < BUDGET:
            self.tenths += 1
