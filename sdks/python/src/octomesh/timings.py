"""Where the time of a call went, for callers who ask (proto/spec/wire.md, Timings)."""

from __future__ import annotations

from time import monotonic_ns
from typing import Final, NamedTuple

from octomesh._wire.timeout import MAX_TIMEOUT_US
from octomesh._wire.timings import StageKind, parse_stages, server_stages, stages_of

__all__ = ["Stage", "StageKind", "Timings"]


class Stage(NamedTuple):
    """One part of a call's time."""

    kind: StageKind | int
    """What took the time; a number where this SDK has no name for it."""
    seconds: float
    """How long, in whole microseconds."""
    instance: str
    """The process that measured."""


class Timings:
    """Where the time of a call went, filled in at its end: give one as the option `timings`.

    Every process on the way is asked, which costs each a clock reading at each step and some hundred bytes in the
    response: ask for a sample of calls, not for all. Stages do not overlap and add up to `total`, to the microsecond
    below it. No two processes' clocks are compared for it.
    """

    def __init__(self) -> None:
        self.total: float = 0.0
        """What the caller waited, in seconds."""
        self.stages: list[Stage] = []
        """Those of the server first, the client's last, without those of less than a microsecond. An error that a hop
        concluded has only the client's, with all beyond it in one LINK."""

    def of(self, kind: StageKind) -> float:
        """Return the seconds of all stages of a kind."""
        return sum([stage.seconds for stage in self.stages if stage.kind == kind])


class Taking:
    """What a call notes for its caller's `Timings`."""

    __slots__ = ("_answered", "_began", "_into", "_received", "_sent")

    def __init__(self, into: Timings) -> None:
        """The call begins."""
        self._into = into
        self._began = monotonic_ns()
        self._sent = self._answered = 0
        self._received = b""

    def sent(self) -> None:
        """The request is handed over to its connection; of several attempts the last counts."""
        self._sent = monotonic_ns()

    def answered(self, timings: bytes) -> None:
        """The final response is here, with what was said in it."""
        self._answered, self._received = monotonic_ns(), timings

    def store(self, instance: bytes) -> None:
        """The call has ended for its caller."""
        now = monotonic_ns()
        total = now - self._began
        request = (self._sent or now) - self._began
        response = now - (self._answered or now)
        self._into.total = total / 1e9
        self._into.stages = _shown(stages_of(self._received, instance, total, request, response))


class Times:
    """When a call whose caller wants timings came where, at its server."""

    __slots__ = ("_arrived", "_began", "_ended", "_instance")

    def __init__(self, instance: bytes) -> None:
        self._instance = instance
        self._arrived = monotonic_ns()
        self._began: int | None = None
        self._ended = 0

    def begin(self) -> None:
        """The handler is called, through the server's interceptors."""
        self._began = monotonic_ns()

    def end(self) -> None:
        """The handler has returned."""
        self._ended = monotonic_ns()

    def stages(self) -> bytes:
        """Say where the time went until now, when the final response is sent: a serialized Timings."""
        return server_stages(self._instance, self._arrived, self._began, self._ended, monotonic_ns())


_KINDS: Final = {kind.value: kind for kind in StageKind}


def _shown(stages: bytes) -> list[Stage]:
    return [
        Stage(_KINDS.get(kind, kind), min(us, MAX_TIMEOUT_US) / 1e6, instance.decode("utf-8", "replace"))
        for kind, us, instance in parse_stages(stages)
    ]
