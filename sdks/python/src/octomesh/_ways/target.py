"""What this process knows of a target, and what it measures on the paths to it.

`octomesh._directory` feeds a `TargetState` and takes its `PathStats`; `octomesh._ways.route` reads the one and writes
the other. Everything here belongs to one event loop, and is used in its thread alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from math import ceil
from typing import Final, NamedTuple, Protocol

from octomesh._decide.balance import Instance
from octomesh._decide.sources import Source, Switch

LATENCY_BUCKETS: Final = 28
"""The first has the calls of at most 1 µs, each further one those of up to twice as much, the last all others."""
MAX_FAILURES: Final = 64
"""Kinds of failures that are counted apart: codes come from others."""
FIRST_WORD: Final = 0.05
"""Seconds that the first calls to a target wait for what a Directory says (S-RATIO-7)."""


class Path(Enum):
    """A way that a call has taken."""

    NONE = "none"
    """None: there was none, or nothing was to be sent."""
    MESH = "mesh"
    """Through the local proxy."""
    DIRECT = "direct"
    """To an instance."""


class Known(NamedTuple):
    """An instance that a Directory knows."""

    instance: Instance
    identity: str = ""
    """The SPIFFE id that it must show by TLS; empty: as the channel has it."""


class Counted(NamedTuple):
    """What was counted on a path up to some moment. Everything only ever grows."""

    calls: int
    """Unary calls and streams that have ended, well or not."""
    saved: int
    """Calls that went the other way because this one failed them, or would have (S-STATE-11)."""
    latency: tuple[int, ...]
    """Unary calls by how long they took, in `LATENCY_BUCKETS` buckets."""
    failed: dict[tuple[int, int], int]
    """Calls that ended with an error, by its code and origin."""


class PathStats:
    """Counts the calls of one path to one target: one for a loop, target and path."""

    __slots__ = ("failed", "latency", "saved", "streams")

    def __init__(self) -> None:
        self.latency = [0] * LATENCY_BUCKETS
        self.streams = 0
        self.saved = 0
        self.failed: dict[tuple[int, int], int] = {}

    def ended(self, seconds: float) -> None:
        """Count a unary call, however it ended: seconds from its begin to its end."""
        us = ceil(seconds * 1e6)  # bucket i has those above 2^(i-1) and up to 2^i
        self.latency[min((us - 1).bit_length(), LATENCY_BUCKETS - 1) if us > 1 else 0] += 1

    def stream_ended(self) -> None:
        """Count a stream."""
        self.streams += 1

    def error(self, code: int, origin: int) -> None:
        """Count how a call has ended that `ended` or `stream_ended` counts, too."""
        kind = (code, origin)
        if kind not in self.failed and len(self.failed) >= MAX_FAILURES:
            kind = (2, 0)  # UNKNOWN, by nobody in particular
        self.failed[kind] = self.failed.get(kind, 0) + 1

    def counted(self) -> Counted:
        """What was counted until now."""
        return Counted(self.streams + sum(self.latency), self.saved, tuple(self.latency), dict(self.failed))


class TargetState:
    """What is known of one target: one for a loop, target and `Config.knowledge`.

    It begins with nothing. Whoever feeds it calls `publish` for each change, `settle` and `hear`; whoever reads it
    waits for `settled` before the first call, and has itself called by `listen`.
    """

    __slots__ = (
        "_listeners", "console", "direct", "forbidden", "heard", "instances", "mesh", "settled", "source", "target",
    )  # fmt: skip

    def __init__(self, target: str) -> None:
        self.target: Final = target
        self.instances: tuple[Known, ...] = ()
        """By the source that counts; those that may not be called, too."""
        self.console: Switch | None = None
        """The console's switch: permille, and the revision, which only ever grows. None: nobody has set one."""
        self.forbidden = False
        """The target's policy forbids direct calls."""
        self.source: Source | None = None
        """Whose word the instances are; None: nobody's."""
        self.settled: Final = asyncio.Event()
        """Calls need not wait any more for a first word."""
        self.heard: Final = asyncio.Event()
        """There is a first word, or nobody is left to have one: a call that no way is open to need not wait for it."""
        self.mesh: Final = PathStats()
        self.direct: Final = PathStats()
        self._listeners: dict[int, Callable[[], None]] = {}

    def publish(
        self, instances: Sequence[Known] | None, console: Switch | None, forbidden: bool, source: Source | None
    ) -> None:
        """Show what holds now, and tell those who listen if that is something else. instances None: as before."""
        if instances is not None:
            instances = tuple(instances)
        same = instances is None or instances == self.instances
        if same and (console, forbidden, source) == (self.console, self.forbidden, self.source):
            return
        if instances is not None:
            self.instances = instances
        self.console, self.forbidden, self.source = console, forbidden, source
        for listener in list(self._listeners.values()):
            listener()

    def settle(self) -> None:
        """Let the first calls go: there is a first word, or nobody to have one, or it has taken `FIRST_WORD`."""
        self.settled.set()

    def hear(self) -> None:
        """There is a first word, or nobody is left to have one. Settles, too."""
        self.settled.set()
        self.heard.set()

    def listen(self, user: object, listener: Callable[[], None]) -> None:
        """Have a listener called after each change, in this loop, until `unlisten`. It must not raise."""
        self._listeners[id(user)] = listener

    def unlisten(self, user: object) -> None:
        """End what `listen` began. The second time does nothing."""
        self._listeners.pop(id(user), None)


class Watch(Protocol):
    """A target that is watched for one channel, as `octomesh._directory.watch.watch` returns it at once.

    `watch(config: Config, target: str) -> Watch` is called in the loop whose calls it is for. Those of one loop with
    equal `config.knowledge` and target share a `TargetState`; the last that leaves ends its streams.
    """

    @property
    def state(self) -> TargetState:
        """What is known."""

    def freshness(self) -> tuple[float, bool]:
        """How old, in seconds, what is known is, and whether it is stale: nobody vouches for it any more."""

    async def leave(self) -> None:
        """The channel needs it no more. Returns once what only it needed has ended."""
