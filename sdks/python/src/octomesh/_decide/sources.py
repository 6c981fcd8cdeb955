"""Which of a Directory's sources counts (D-WATCH; vectors: switch.json). Times are seconds since any moment."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Source(IntEnum):
    """Who says something of a target, in the order of their rank."""

    PROXY = 0
    CONTROL_PLANE = 1
    DISK = 2


class Switch(NamedTuple):
    """A target's mesh switch, as one source has it."""

    permille: int
    revision: int


class Word(NamedTuple):
    """What a source's message says of a target, but for what does not matter here."""

    known: bool
    """PRESENT or DELETED."""
    stale: bool = False
    age: float = 0.0
    """Seconds, by what the source said of itself."""
    switch: Switch | None = None


class _Said:
    __slots__ = ("fresh", "own", "since", "word")

    def __init__(self) -> None:
        self.word: Word | None = None  # the last one that was known
        self.fresh = False  # its stream goes on, and its last word was known, and not stale
        self.since = 0.0
        self.own = 0  # the revision of the switch that this stream has; 0: none


class Sources:
    """Decides which of the sources of a target counts."""

    __slots__ = ("_at", "_highest", "switch")

    def __init__(self) -> None:
        self._at = [_Said() for _ in Source]
        self._highest = 0
        self.switch: Switch | None = None
        """The mesh switch that holds; None: none."""

    def said(self, source: Source, word: Word, now: float) -> None:
        """Takes a message of a source's stream, or what the disk has."""
        at = self._at[source]
        at.fresh = word.known and not word.stale and source is not Source.DISK
        if word.known:
            at.word, at.since = word, now
        if word.switch is not None:
            at.own = word.switch.revision
            if at.own > self._highest:
                self.switch, self._highest = word.switch, at.own
        elif (
            word.known and at.own
        ):  # a switch that was removed does not come back by one that is not higher (D-WATCH-7)
            if self.switch is not None and self.switch.revision == at.own:
                self.switch = None
            at.own = 0

    def ended(self, source: Source) -> None:
        """Takes the end of a source's stream."""
        at = self._at[source]
        at.fresh, at.own = False, 0

    def counts(self, now: float) -> Source | None:
        """Whose endpoints count (D-WATCH-9); None: nobody's."""
        proxy, plane = self._at[Source.PROXY], self._at[Source.CONTROL_PLANE]
        if proxy.word is not None and proxy.fresh:
            return Source.PROXY
        if plane.word is not None and plane.fresh:
            return Source.CONTROL_PLANE
        if proxy.word is not None and plane.word is not None:
            younger = self.age(Source.CONTROL_PLANE, now) < self.age(Source.PROXY, now)
            return Source.CONTROL_PLANE if younger else Source.PROXY
        if proxy.word is not None:
            return Source.PROXY
        if plane.word is not None:
            return Source.CONTROL_PLANE
        return Source.DISK if self._at[Source.DISK].word is not None else None

    def age(self, source: Source, now: float) -> float:
        """How old a source's last known word is, by what it said of itself and the time since; 0: none is known."""
        at = self._at[source]
        return at.word.age + max(now - at.since, 0.0) if at.word is not None else 0.0

    def fresh(self, source: Source) -> bool:
        """The source's stream stands, and what it said last is known and not stale."""
        return self._at[source].fresh

    @property
    def ask_control_plane(self) -> bool:
        """The control plane is to be asked beside the proxy (D-WATCH-8)."""
        return not self._at[Source.PROXY].fresh
