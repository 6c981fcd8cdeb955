"""Which of the two ways each call of a channel takes (proto/spec/switch.md), and both of them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from octomesh._decide.again import Budget, Ended, Next, Tried, again
from octomesh._decide.path import STEPS, Advice, Way, Ways, choose
from octomesh._decide.ratio import WHOLE, Blocks, sticky_mesh
from octomesh._decide.switch import Decision, Mode, decide, scaled
from octomesh._peer import PROXY_PATIENCE, ClientLink, Peer, dialer, pause
from octomesh._ways.config import Config
from octomesh._ways.guard import Guard
from octomesh._ways.killswitch import SwitchFile, follow
from octomesh._ways.loops import PerLoop
from octomesh._ways.pool import Pool, fixed_pool, shared_pool, unshare_pool
from octomesh._ways.target import Path, PathStats, Watch
from octomesh._wire.hello import ROLE_CALL
from octomesh._wire.status import Disposition, Reason
from octomesh.errors import RpcError, unsent

if TYPE_CHECKING:
    from collections.abc import Coroutine

_AGAIN: Final = 0.05
"""Seconds until a call that waits for a way looks again."""


class Going:
    """A call on its way: what decides where it goes, and where it is."""

    __slots__ = (
        "at", "by_mesh", "deadline", "free_used", "hash_key", "idempotent", "lane", "left", "made", "moved", "resent",
        "trace", "wait",
    )  # fmt: skip

    def __init__(
        self, deadline: float | None, wait: bool, idempotent: bool, hash_key: bytes, trace: bytes, lane: str
    ) -> None:
        self.deadline: Final = deadline
        """By the loop's clock."""
        self.wait: Final = wait
        """It waits for a connection instead of failing."""
        self.idempotent: Final = idempotent
        self.hash_key: Final = hash_key
        self.trace: Final = trace
        """The 16 bytes of an inherited trace's id; empty: none."""
        self.lane: Final = lane
        self.at = Path.NONE
        self.left = Path.NONE
        """Which way has failed it, or would have."""
        self.made = False
        """The share has decided, once for all attempts."""
        self.by_mesh = False
        """For the mesh."""
        self.moved = False
        """A failure has sent it the other way, where it stays."""
        self.resent = 0
        self.free_used = False

    def cross(self) -> None:
        """Go the other way."""
        self.moved, self.left = True, self.at
        self.at = Path.DIRECT if self.at is Path.MESH else Path.MESH

    def expired(self, now: float) -> bool:
        """Its time is over."""
        return self.deadline is not None and now >= self.deadline


class Settled(NamedTuple):
    """What holds for calls that begin now."""

    decision: Decision
    ways: Ways


class _Target:
    """What the protocol counts by process and target, over all loops."""

    __slots__ = ("blocks", "budget", "users")

    def __init__(self) -> None:
        self.users = 0
        self.budget = Budget()
        self.blocks = Blocks(lambda: random.getrandbits(64))


_TARGETS: Final[dict[tuple[str, str, str], _Target]] = {}
os.register_at_fork(after_in_child=_TARGETS.clear)

_PROXIES: Final[PerLoop[tuple[Peer, set[int]]]] = PerLoop()


def shared_proxy(config: Config, user: object) -> Peer:
    """The running loop's connection to a proxy, for one more user: channels with the same identity share one."""
    proxies = _PROXIES.here()
    key = (config.proxy, config.identity, config.limits)
    if key not in proxies:
        connect = dialer(f"unix:{config.proxy}", lambda: config.identity.hello(ROLE_CALL, config.limits))
        peer = Peer(asyncio.get_running_loop(), f"unix:{config.proxy}", connect, patience=PROXY_PATIENCE)
        peer.guard = Guard(peer)
        proxies[key] = peer, set()
    peer, users = proxies[key]
    users.add(id(user))
    return peer


async def unshare_proxy(peer: Peer, user: object) -> None:
    """Give a proxy's connection back; the last user closes it."""
    proxies = _PROXIES.here()
    for key, (found, users) in list(proxies.items()):
        if found is peer:
            users.discard(id(user))
            if users:
                return
            del proxies[key]
    await peer.close()


class Route:
    """Decides for each call of a channel which way it takes, in one loop, and has both."""

    def __init__(
        self,
        config: Config,
        target: str,
        changed: Callable[[], None],
        watch: Callable[[Config, str], Watch] | None,
        pool: Pool | None = None,
    ) -> None:
        """Begin in the running loop.

        changed is called whenever what `fast` has said may not hold any more. watch asks Directories, where settings
        want that. pool is the only way, where there is one already.
        """
        self.loop: Final = asyncio.get_running_loop()
        self.target: Final = target
        self.config: Final = config
        self.closed = False
        self._changed = changed
        self._settled: Settled | None = None
        identity = config.identity
        self._key: Final = (identity.environment, identity.application, target)
        self._shared: Final = _TARGETS.setdefault(self._key, _Target())
        self._shared.users += 1
        self.budget: Final = self._shared.budget
        self.watch: Final = watch(config, target) if watch is not None and config.watched(target) else None
        self.proxy: Final = shared_proxy(config, self) if config.proxy else None
        self.fixed: Final = pool or (fixed_pool(config, target, config.direct) if config.direct else None)
        self._known = None if self.watch is None else shared_pool(config, self.watch.state)
        self._file: SwitchFile | None = None
        if config.switch_file:
            self._file = follow(config.switch_file)
            self._file.listen(self, self._refresh)
        if self.watch is not None:
            self.watch.state.listen(self, self._refresh)
        self._guard: Final = None if self.proxy is None else self.proxy.guard
        if self._guard is not None:
            self._guard.listen(self, changed)

    def _refresh(self) -> None:
        """Something that decisions are made of has changed."""
        self._settled = None
        self._changed()

    @property
    def direct(self) -> Pool | None:
        """Where direct calls go; None: nowhere."""
        return self.fixed or self._known

    def settled(self) -> Settled:
        """What holds for a call that begins now."""
        settled = self._settled
        if settled is None:
            state = None if self.watch is None else self.watch.state
            said = None if self._file is None else self._file.word(self.target)
            console = state.console.permille if state is not None and state.console is not None else None
            decision = decide(said, self.config.word, console, state is not None and state.forbidden)
            direct = self.direct
            ways = Ways(
                self.proxy is not None and decision.mode is not Mode.OFF,
                direct is not None and decision.mode is not Mode.ON and direct.open,
                not self.config.fallback,
            )
            settled = self._settled = Settled(decision, ways)
        return settled

    def fast(self) -> ClientLink | None:
        """The connection that all calls take until `changed` is called, or it takes none any more; None: they differ.

        That is so where the share and the states leave nothing to decide, and one connection all there is.
        """
        if self.closed or (self.watch is not None and not self.watch.state.settled.is_set()):
            return None
        decision, (mesh, direct, pinned) = self.settled()
        if mesh and (not direct or decision.permille >= WHOLE):
            assert self.proxy is not None and self._guard is not None  # noqa: S101, PT018  mesh says so
            sure = not direct or pinned or self._guard.tenths == STEPS
            return self.proxy.usable() if sure and not self.proxy.ejected_until else None
        if direct and (not mesh or decision.permille <= 0):
            assert self.direct is not None  # noqa: S101  direct says so
            only = self.direct.only
            return only.usable() if only is not None and not only.ejected_until else None
        return None

    def stats(self, at: Path) -> PathStats | None:
        """Where calls of a way are counted; None: nobody wants to know."""
        if self.watch is None or at is Path.NONE:
            return None
        state = self.watch.state
        return state.mesh if at is Path.MESH else state.direct

    def measured(self, link: ClientLink, begun: float) -> None:
        """Count a unary call that has ended well, and went where nothing was to decide: `over` for these."""
        if self.watch is not None:
            state = self.watch.state
            (state.mesh if link.peer.mesh else state.direct).ended(self.loop.time() - begun)

    def over(self, call: Going, begun: float | None, error: RpcError | None) -> None:
        """Count a call that has ended: begun is when, of a unary one, by the loop's clock."""
        stats = self.stats(call.at)
        if stats is None or not call.made:
            return
        if begun is None:
            stats.stream_ended()
        else:
            stats.ended(self.loop.time() - begun)
        if error is not None:
            stats.error(error.code, error.origin)
        if error is None or error.disposition == Disposition.PROCESSED:
            left = self.stats(call.left)
            if left is not None:
                left.saved += 1

    def other(self, call: Going) -> bool:
        """The other way is open to a call after a failure (S-AGAIN-11)."""
        ways = self.settled().ways
        if call.moved or ways.pinned:
            return False
        return (call.at is Path.MESH and ways.direct) or (call.at is Path.DIRECT and ways.mesh)

    def again(self, call: Going, error: RpcError) -> bool:
        """Prepare a call for being sent again after an error, whose REQUEST is all that was sent; False: it ends so."""
        if self.closed or call.expired(self.loop.time()):
            return False
        tried = Tried(call.idempotent, True, call.free_used, call.resent, self.other(call), self.budget.tenths)
        todo, cost, free = again(Ended(error.code, error.reason, error.origin, error.disposition), tried)
        if todo is Next.END or not self.budget.take(cost):
            return False
        if todo is Next.OTHER:
            call.cross()
        call.free_used = call.free_used or free
        call.resent += 1
        return True

    def succeeded(self, link: ClientLink) -> None:
        """A call has ended well."""
        link.peer.succeeded()
        self.budget.succeeded()

    async def pick(self, call: Going) -> ClientLink:
        """The connection for a call. Raises `RpcError` if it has nowhere to go."""
        if self.closed:
            raise unsent(Reason.CANCELLED, "the channel is closed")
        if call.expired(self.loop.time()):
            raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent")
        watch = self.watch
        if watch is not None and not watch.state.settled.is_set():
            await _event(watch.state.settled, call.deadline)
        settled = self.settled()
        if not call.made:
            call.made, call.by_mesh = True, self._share(call, settled)
        if not call.moved:
            await self._choose(call, settled)
        if call.at is Path.NONE and watch is not None:
            await self._await_way(call, watch)
        while True:
            try:
                return await self._take(call)
            except RpcError as error:
                if call.expired(self.loop.time()):
                    raise
                if (
                    call.at is Path.DIRECT
                    and error.reason == Reason.NO_ENDPOINT
                    and settled.ways.mesh
                    and not call.moved
                ):  # none of its lane
                    call.at, call.left, call.moved = Path.MESH, Path.NONE, True
                elif error.reason == Reason.PROXY_UNREACHABLE and self.other(call):
                    call.cross()
                else:
                    raise

    async def _await_way(self, call: Going, watch: Watch) -> None:
        """Wait where no way is open: for a Directory's first word, or if the call waits for that, until one opens."""
        await _event(watch.state.heard, call.deadline)
        while True:
            settled = self.settled()
            call.by_mesh = self._share(call, settled)
            await self._choose(call, settled)
            if call.at is not Path.NONE or not call.wait or self.closed:
                return
            await pause(_AGAIN, call.deadline)

    async def _take(self, call: Going) -> ClientLink:
        """Pick on the way that was chosen."""
        direct = self.direct
        if call.at is Path.MESH and self.proxy is not None:
            return await self.proxy.get(call.deadline, call.wait and not self.other(call))
        if call.at is Path.DIRECT and direct is not None:
            return await direct.pick(call.lane, call.deadline, call.wait)
        raise self._nowhere()

    def _nowhere(self) -> RpcError:
        """How a call ends that no way is open to."""
        decision = self.settled().decision
        if decision.mode is Mode.ON:
            return unsent(
                Reason.PROXY_UNREACHABLE,
                f"calls to {self.target} take the mesh only (decided by: {decision.by.value}), "
                "and there is no proxy to call",
            )
        return unsent(Reason.NO_ENDPOINT, f"no proxy is to be called, and no instance of {self.target} is known")

    async def _choose(self, call: Going, settled: Settled) -> None:
        """Take a way by the share and the state of the mesh."""
        mesh, direct, pinned = settled.ways
        advice = Advice.MESH
        if call.by_mesh and mesh and direct and not pinned and self._guard is not None:
            advice = await self._guard.advice(call.deadline)
        way, saved = choose(call.by_mesh, advice, settled.ways)
        call.left = Path.NONE
        if way in (Way.MESH, Way.MESH_OR_SOON):
            call.at = Path.MESH
        elif way is Way.DIRECT:
            call.at = Path.DIRECT
            if saved:
                call.left = Path.MESH
        else:
            call.at = Path.NONE

    def _share(self, call: Going, settled: Settled) -> bool:
        """The share takes a call into the mesh."""
        permille, (mesh, direct, pinned) = settled.decision.permille, settled.ways
        if not mesh or not direct:
            return mesh  # there is nothing to decide
        if not pinned and self._guard is not None:
            # What is lost altogether still decides for the mesh: the states then send the call direct, and it counts
            # as saved.
            tenths = self._guard.tenths
            if tenths > 0:
                permille = scaled(permille, tenths)
        if permille <= 0 or permille >= WHOLE:
            return permille > 0
        key = call.hash_key or call.trace
        if key:
            return sticky_mesh(self.target.encode(), key, permille)
        return self._shared.blocks.mesh(permille)

    async def ready(self, deadline: float | None) -> None:
        """Wait until a call could go. Raises `RpcError` if none can."""
        watch = self.watch
        if watch is not None and not watch.state.settled.is_set():
            await _event(watch.state.settled, deadline)
        while True:
            if self.closed:
                raise unsent(Reason.CANCELLED, "the channel is closed")
            decision, (mesh, direct, pinned) = self.settled()
            if mesh and (decision.permille > 0 or not direct) and self.proxy is not None:
                try:
                    await self.proxy.get(deadline, not direct and watch is None)
                except RpcError as error:
                    if error.reason != Reason.PROXY_UNREACHABLE:
                        raise
                else:
                    return
            if direct and (not pinned or decision.permille < WHOLE) and self.direct is not None:
                await self.direct.ready(deadline)
                return
            if watch is None and not mesh:
                raise self._nowhere()
            await pause(_AGAIN, deadline)

    async def close(self) -> None:
        """End what only this route uses, and the calls on it."""
        self.closed = True
        self._shared.users -= 1
        if not self._shared.users and _TARGETS.get(self._key) is self._shared:
            del _TARGETS[self._key]
        if self._file is not None:
            self._file.unlisten(self)
        if self._guard is not None:
            self._guard.unlisten(self)
        if self.watch is not None:
            self.watch.state.unlisten(self)
        ends: list[Coroutine[object, object, None]] = []
        if self.fixed is not None:
            ends.append(self.fixed.close())
        if self.watch is not None and self._known is not None:
            ends.append(self._leave(self.watch, self._known))
        if self.proxy is not None:
            ends.append(unshare_proxy(self.proxy, self))
        for end in ends:
            await end

    @staticmethod
    async def _leave(watch: Watch, known: Pool) -> None:
        await unshare_pool(known, watch.state)
        await watch.leave()


async def _event(event: asyncio.Event, deadline: float | None) -> None:
    """Wait for an event as part of a call of which nothing was sent. Raises `RpcError` once its time is over."""
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent") from None
