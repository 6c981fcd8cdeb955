"""What the sources of a target say, one after the other: its proxy, the control plane, the disk (D-WATCH)."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import time
from typing import TYPE_CHECKING, Any, Final

from octo.directory.v1.directory_pb2 import Endpoint, MeshSwitch, WatchRequest, WatchResponse
from octomesh import _state
from octomesh._decide.balance import LANE_TAG, Instance
from octomesh._decide.registration import Pauses
from octomesh._decide.sources import Source as From
from octomesh._decide.sources import Sources, Switch, Word
from octomesh._directory.calls import WATCH, apart, how_ended
from octomesh._ways.target import FIRST_WORD, Known, TargetState
from octomesh.errors import Code, RpcError
from octomesh.registration import MAX_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from octomesh._directory.watch import Source
    from octomesh.channel import Channel

log: Final = logging.getLogger("octomesh")

FEATURES: Final = ("switch", "fallback", "report")
"""What this SDK says that it does (D-WATCH-13)."""
RUNTIME: Final = f"{platform.python_implementation().lower()}{platform.python_version()}"
PLANE_SPREAD: Final = 0.5
"""Within how many seconds the control plane is asked once the proxy does not answer: a whole host loses it at once."""
KEEP_EVERY: Final = 1.0
"""Seconds between what is written to the disk."""
_MAX_AGE_MS: Final = 100 * 365 * 24 * 3600 * 1000
_ENDED: Final = RpcError(Code.UNAVAILABLE, "the Directory ended the stream")


class Watcher:
    """Knows one target, for all channels of a loop that learn from the same source."""

    def __init__(self, source: Source, target: str) -> None:
        self.target: Final = target
        self.state: Final = TargetState(target)
        self.users = 0
        self._source: Final = source
        self._loop: Final = source.loop
        self._sources: Final = Sources()
        self._words: dict[From, WatchResponse] = {}  # the last known of each
        self._silent: set[From] = set()  # those that could not be asked, or are not there
        self._in_use: WatchResponse | None = None
        self._pauses: Final = {From.PROXY: Pauses(), From.CONTROL_PLANE: Pauses()}
        self._asking: asyncio.Task[None] | None = None  # the control plane, while that is wanted
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: asyncio.TimerHandle | None = None
        self._closed = False
        self._unsaved = False
        self._save: Final = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        self._kept_badly = False

    def begin(self) -> None:
        """Begin to watch: with what is on the disk, so that calls may go at once."""
        source = self._source
        for line, who in ((source.proxy, From.PROXY), (source.plane, From.CONTROL_PLANE)):
            if line is None:
                self._silent.add(who)
        if source.config.state:
            self._restore()
            self._spawn(self._keep())
        if source.proxy is not None:
            self._spawn(self._ask_proxy())
        self._late = self._loop.call_later(FIRST_WORD, self.state.settle)
        self._look()

    async def close(self) -> None:
        """End it. Returns once its streams have, and what it knows is kept."""
        self._closed = True
        if self._late is not None:
            self._late.cancel()
        if self._asking is not None:
            self._asking.cancel()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._source.config.state:
            await self._write()
        self.state.hear()

    def freshness(self) -> tuple[float, bool]:
        """How old what is known is in seconds, and whether nobody vouches for it any more."""
        counts = self._sources.counts(self._loop.time())
        if counts is None:
            return 0.0, False
        return self._sources.age(counts, self._loop.time()), not self._sources.fresh(counts)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = apart(self._loop, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The streams.

    async def _ask_proxy(self) -> None:
        """Watch at the proxy for as long as a connection to it stands."""
        line = self._source.proxy
        assert line is not None  # noqa: S101  it is asked only if it is there
        while True:
            await line.stands(self._proxy_is_away)
            error = await self._stream(line.channel, From.PROXY)
            self._over(From.PROXY)
            await self._pause(From.PROXY, error)

    def _proxy_is_away(self) -> None:
        self._silent.add(From.PROXY)
        self._may_settle()

    async def _ask_plane(self) -> None:
        """Watch at the control plane, until that is not wanted any more."""
        line = self._source.plane
        assert line is not None  # noqa: S101  likewise
        if self._source.proxy is not None:
            await asyncio.sleep(random.random() * PLANE_SPREAD)  # noqa: S311  it spreads
        while True:
            try:
                error = await self._stream(line.acquire(), From.CONTROL_PLANE)
            finally:
                await line.release()
            self._over(From.CONTROL_PLANE)
            await self._pause(From.CONTROL_PLANE, error)

    async def _stream(self, channel: Channel, who: From) -> RpcError:
        """Watch by one stream, and return how it ended."""
        config = self._source.config
        request = WatchRequest(
            environment=config.identity.environment,
            target=self.target,
            application=config.identity.application,
            node=config.node,
            features=FEATURES,
            runtime=RUNTIME,
        )
        try:
            async with channel.server_stream(WATCH, request, {}) as stream:
                async for message in stream:
                    self._pauses[who].heard()
                    self._said(who, message)
        except RpcError as error:
            return error
        return _ENDED

    async def _pause(self, who: From, error: RpcError) -> None:
        """Wait before the next stream."""
        how = how_ended(error)
        await asyncio.sleep(self._pauses[who].ended(how, error.retry_after, random.random()))  # noqa: S311

    def _over(self, who: From) -> None:
        """A stream has ended."""
        self._sources.ended(who)
        self._silent.add(who)
        self._look()

    # What is known.

    def _said(self, who: From, m: WatchResponse) -> None:
        """Take what a source says."""
        known = m.state != WatchResponse.STATE_UNKNOWN
        switch = Switch(m.mesh_switch.permille, m.mesh_switch.revision) if m.HasField("mesh_switch") else None
        word = Word(known, m.stale, min(m.age_ms, _MAX_AGE_MS) / 1000, switch)
        self._sources.said(who, word, self._loop.time())
        if known:
            self._words[who] = m
        self._look()

    def _look(self) -> None:
        """Make what holds of what the sources have said."""
        sources = self._sources
        counts = sources.counts(self._loop.time())
        instances, forbidden = None, False
        if counts is not None:
            m = self._words[counts]
            forbidden = m.direct_forbidden
            if m is not self._in_use:
                instances, self._in_use = [_known(e) for e in m.endpoints], m
        self.state.publish(instances, sources.switch, forbidden, counts)
        if not self._closed:
            self._ask_or_not()
        self._may_settle()
        if counts in (From.PROXY, From.CONTROL_PLANE):
            self._unsaved = True
            self._save.set()

    def _ask_or_not(self) -> None:
        """Ask the control plane while the proxy does not say enough, and no longer."""
        if self._source.plane is None:
            return
        wanted = self._sources.ask_control_plane
        if wanted and self._asking is None:
            self._asking = self._spawn(self._ask_plane())
        elif not wanted and self._asking is not None:
            asking, self._asking = self._asking, None
            asking.cancel()
            self._sources.ended(From.CONTROL_PLANE)
            self._silent.add(From.CONTROL_PLANE)

    def _may_settle(self) -> None:
        """End the wait for a first word if there is one, or nobody to have one."""
        fresh = self._sources.fresh
        if fresh(From.PROXY) or fresh(From.CONTROL_PLANE) or {From.PROXY, From.CONTROL_PLANE} <= self._silent:
            self.state.hear()

    # The disk.

    def _restore(self) -> None:
        """Begin with what is on the disk."""
        config = self._source.config
        identity = config.identity
        kept, problems = _state.load(config.state, identity.environment, identity.application, self.target, time.time())
        for problem in problems:
            log.warning("what was kept of target %s is passed over: %s", self.target, problem)
        if kept is not None:
            self._said(From.DISK, kept)

    async def _keep(self) -> None:
        """Write what is known to the disk, each time that it has changed."""
        while True:
            await self._save.wait()
            self._save.clear()
            await self._write()
            await asyncio.sleep(KEEP_EVERY)

    async def _write(self) -> None:
        """Write what holds now, unless that is kept already. It waits for the disk in a thread, one at a time."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if not self._unsaved:
            return
        self._unsaved = False
        config = self._source.config
        known = self._to_keep()
        self._writing = writing = self._loop.run_in_executor(
            None, _state.save, config.state, config.identity.application, known, time.time()
        )
        writing.add_done_callback(self._written)
        await asyncio.wait([writing])

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if writing.cancelled() else writing.exception()
        if error is not None and not self._kept_badly:
            log.error("what is known of target %s cannot be kept; calls go on: %s", self.target, error)
        self._kept_badly = error is not None

    def _to_keep(self) -> WatchResponse:
        now = self._loop.time()
        counts = self._sources.counts(now)
        assert counts is not None  # noqa: S101  somebody has said what is not saved
        of = self._words[counts]
        known = WatchResponse(
            environment=self._source.config.identity.environment,
            target=self.target,
            state=of.state,
            deleted_reason=of.deleted_reason,
            age_ms=int(self._sources.age(counts, now) * 1000),
            endpoints=of.endpoints,
            direct_forbidden=of.direct_forbidden,
        )
        if self._sources.switch is not None:
            known.mesh_switch.CopyFrom(MeshSwitch(**self._sources.switch._asdict()))
        return known


def _known(e: Endpoint) -> Known:
    """An instance as the balancer has it."""
    weight = min(e.weight, MAX_WEIGHT)
    return Known(
        Instance(e.direct_address, weight, e.zone, e.tags.get(LANE_TAG, ""), e.disabled, e.direct_healthy),
        e.tls_identity,
    )


class Watching:
    """A target that is watched for one channel."""

    __slots__ = ("_left", "_source", "_watcher")

    def __init__(self, source: Source, watcher: Watcher) -> None:
        self._source = source
        self._watcher = watcher
        self._left = False

    @property
    def state(self) -> TargetState:
        """What is known."""
        return self._watcher.state

    def freshness(self) -> tuple[float, bool]:
        """How old, in seconds, what is known is, and whether nobody vouches for it any more."""
        return self._watcher.freshness()

    async def leave(self) -> None:
        """The channel needs it no more. The second time does nothing."""
        if not self._left:
            self._left = True
            await self._source.leave(self._watcher)
