"""How a registration at Directories goes on, and when a stream to one comes again (D-REG). Times are in seconds."""

from __future__ import annotations

from enum import Enum
from typing import Final

_FIRST_PAUSE: Final = 0.1
_MAX_PAUSE: Final = 10.0
_REFUSED_PAUSE: Final = 30.0
_MOVED_PAUSE: Final = 0.02
_MAX_DOUBLINGS: Final = 10


class Phase(Enum):
    """Where a registration stands."""

    OFF = "off"
    """There is nobody to register with, or it is not wanted."""
    CONNECTING = "connecting"
    """No stream stands; for 10 s the last one's word holds."""
    PENDING = "pending"
    """Said, and not in rotation yet."""
    PUBLISHED = "published"
    """In rotation."""
    SUPERSEDED = "superseded"
    """A newer process has the instance's name: over."""
    WITHDRAWN = "withdrawn"
    """By this process, or by the control plane: over."""


class Ended(Enum):
    """How a stream ended, as far as it matters."""

    LOST = "lost"
    """Nobody refused it."""
    MOVED = "moved"
    """The Directory leaves, and another one is there."""
    REFUSED = "refused"
    """The Directory will not have it as it is. It may once somebody has changed something."""


class Pauses:
    """Those between the streams of one kind to a Directory."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures = 0  # streams in a row that ended before they said anything

    def heard(self) -> None:
        """Takes a word of the Directory."""
        self._failures = 0

    def ended(self, how: Ended, retry_after: float, random: float) -> float:
        """Takes a stream's end, and returns after what time the next one is to be opened.

        Not before the Directory's own word, if it gave one. random is in [0, 1): pauses are spread, so that not all who
        lost a Directory come at once.
        """
        if how is Ended.MOVED:
            pause = _MOVED_PAUSE
        elif how is Ended.REFUSED:
            pause = _REFUSED_PAUSE
        else:
            pause = min(_FIRST_PAUSE * (1 << min(self._failures, _MAX_DOUBLINGS)), _MAX_PAUSE)
            self._failures += 1
        if retry_after > 0:  # they have been told different times already, and are spread forward only
            return retry_after * (1 + random / 4)
        return pause * (0.5 + random)


class Progress:
    """One instance's registration at one Directory after the other."""

    __slots__ = ("_pauses", "phase", "reason")

    def __init__(self) -> None:
        self.phase = Phase.OFF
        self.reason = ""
        """For people."""
        self._pauses = Pauses()

    def begin(self) -> None:
        """Says that a stream is to be opened."""
        if self.phase is Phase.OFF:
            self.phase = Phase.CONNECTING

    def said(self, phase: Phase, reason: str) -> bool:
        """Takes a Directory's word. Returns whether nothing more is to be done."""
        self._pauses.heard()
        self.phase, self.reason = phase, "" if phase is Phase.PUBLISHED else reason
        return self.over

    @property
    def over(self) -> bool:
        """Nothing more is to be done."""
        return self.phase in (Phase.SUPERSEDED, Phase.WITHDRAWN)

    def ended(self, how: Ended, retry_after: float, reason: str, random: float) -> float:
        """Takes a stream's end, and returns after what time the next one is to be opened."""
        self.phase, self.reason = Phase.CONNECTING, reason
        return self._pauses.ended(how, retry_after, random)
