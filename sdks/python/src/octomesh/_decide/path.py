"""The states of the way to the local proxy, and which way a call takes in each (S-STATE; vectors: path.json).

Times are seconds since any moment that the owner chooses, as `time.monotonic` has them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

PATIENCE: Final = 0.05
"""How long new calls wait in suspect."""
STEPS: Final = 10
"""Of the return, one after the other."""
_STEP: Final = 1.0
_FIRST_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 10.0
_MAX_FAILS: Final = 10


class PathState(Enum):
    """Where the way to the proxy stands."""

    MESH = "mesh"
    """The proxy is there, as far as anybody knows."""
    SUSPECT = "suspect"
    """A sign of life is missing, or the connection."""
    DIRECT = "direct"
    """The proxy is gone."""
    PROBE = "probe"
    """It is being tried again."""
    RETURNING = "returning"
    """It is back, and gets its calls by and by."""


class Event(Enum):
    """What happens to the connection to the proxy."""

    NEED = "need"
    """A connection is wanted; none stands, and none is being made."""
    MISSED = "missed"
    """A miss (W-LIVE-6), while the connection stands."""
    ALIVE = "alive"
    """A byte came after a miss."""
    LOST = "lost"
    """The connection has ended, and no other stands."""
    GONE = "gone"
    """It was given up, since its peer is silent."""
    FAILED = "failed"
    """A dial failed, and no connection stands."""
    WELCOMED = "welcomed"
    """A dial came to its WELCOME."""
    ANSWERED = "answered"
    """A PONG came for the PING of a probe."""
    DUE = "due"
    """The time of `Path.wake` has come."""


class Do(Enum):
    """What an event asks for."""

    NOTHING = "nothing"
    DIAL = "dial"
    PING = "ping"
    """Ping what was dialed."""


class Advice(Enum):
    """What the state means for a new call that is to go by the mesh, and could go direct."""

    MESH = "mesh"
    WAIT = "wait"
    """For a connection or a sign of life; then go direct."""
    DIRECT = "direct"


class Path:
    """The state of the way to one proxy, over all targets: one for a process and a proxy."""

    __slots__ = ("_fails", "_until", "scale", "state")

    def __init__(self) -> None:
        self.state = PathState.MESH
        self.scale = STEPS
        """How many tenths of its share the mesh gets, where it gets calls at all."""
        self._until = 0.0
        self._fails = 0

    def on(self, event: Event, now: float, random: float) -> Do:
        """Takes an event and returns what it asks for. random is in [0, 1): it spreads the probes of many processes."""
        state = self.state
        if state is PathState.SUSPECT:
            return self._on_suspect(event, now, random)
        if state is PathState.DIRECT:
            if event is Event.WELCOMED:  # who could not go direct has dialed
                self.state = PathState.PROBE
                return Do.PING
            if event is Event.DUE and now >= self._until:
                self.state = PathState.PROBE
                return Do.DIAL
        elif state is PathState.PROBE:
            if event is Event.WELCOMED:
                return Do.PING
            if event is Event.ANSWERED:
                self.state, self.scale, self._until = PathState.RETURNING, 1, now + _STEP
            elif event in _LOSSES:
                self._leave(now, random)
        else:
            return self._on_mesh(event, now, random)
        return Do.NOTHING

    def _on_mesh(self, event: Event, now: float, random: float) -> Do:
        if event in (Event.NEED, Event.LOST, Event.MISSED):
            self.state, self._until = PathState.SUSPECT, now + PATIENCE
            return Do.NOTHING if event is Event.MISSED else Do.DIAL
        if event in (Event.GONE, Event.FAILED):
            self._leave(now, random)
        elif event is Event.DUE and self.state is PathState.RETURNING and now >= self._until:
            self.scale += 1
            self._resume(self._until)
        return Do.NOTHING

    def _on_suspect(self, event: Event, now: float, random: float) -> Do:
        if event in (Event.ALIVE, Event.WELCOMED):
            self._resume(now)
        elif event is Event.LOST:
            return Do.DIAL
        elif event in (Event.GONE, Event.FAILED):
            self._leave(now, random)
        return Do.NOTHING

    def _resume(self, now: float) -> None:
        """Goes on where suspicion came."""
        if self.scale == STEPS:
            self.state, self._fails = PathState.MESH, 0
        else:
            self.state, self._until = PathState.RETURNING, now + _STEP

    def _leave(self, now: float, random: float) -> None:
        """Gives the way up until a probe.

        Who has lost it before it was back wholly waits longer each time (S-STATE-9).
        """
        if self.scale < STEPS:
            self._fails = min(self._fails + 1, _MAX_FAILS)
        pause = min(_FIRST_PAUSE * (1 << self._fails), _MAX_PAUSE)
        self.state, self.scale, self._until = PathState.DIRECT, 0, now + pause * (0.5 + random)

    def calls(self, now: float) -> tuple[Advice, float]:
        """What the state means for a new call, and with WAIT up to when it waits."""
        if self.state in (PathState.MESH, PathState.RETURNING):
            return Advice.MESH, 0.0
        if self.state is PathState.SUSPECT and now < self._until:
            return Advice.WAIT, self._until
        return Advice.DIRECT, 0.0

    @property
    def wake(self) -> float | None:
        """When DUE is to come; None while nothing waits for a time."""
        return self._until if self.state in (PathState.DIRECT, PathState.RETURNING) else None


_LOSSES: Final = (Event.FAILED, Event.LOST, Event.GONE)


class Ways(NamedTuple):
    """What a call could take."""

    mesh: bool
    """A proxy is configured, and nobody has switched it off here."""
    direct: bool
    """Endpoints are known, the target does not forbid it, and nobody has switched it off here."""
    pinned: bool
    """Fallback is off: calls do not change over because a way fails."""


class Way(Enum):
    """What a call takes."""

    NONE = "none"
    MESH = "mesh"
    """However the proxy fares."""
    MESH_OR_SOON = "mesh_or_soon"
    """As soon as the proxy is there; direct if that takes too long."""
    DIRECT = "direct"


def choose(by_mesh: bool, advice: Advice, ways: Ways) -> tuple[Way, bool]:
    """Decides for a call: by_mesh is what its share says.

    Returns its way, and whether it is saved: a call that the mesh would have failed (S-STATE-10, S-STATE-11).
    """
    mesh, direct, pinned = ways
    if not mesh:
        return (Way.DIRECT if direct else Way.NONE), False
    if direct and not by_mesh:
        return Way.DIRECT, False
    if not direct or pinned or advice is Advice.MESH:
        return Way.MESH, False
    if advice is Advice.WAIT:
        return Way.MESH_OR_SOON, False
    return Way.DIRECT, True
