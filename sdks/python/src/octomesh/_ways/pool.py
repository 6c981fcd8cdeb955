"""Direct connections to the instances of one target, and which of them a call takes (S-DIRECT)."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final

from octomesh._decide.balance import MAX_TRIES, DialBudget, Instance, pick, tiers
from octomesh._peer import ClientLink, Peer, dialer, pause
from octomesh._ways.config import Config, Endpoint
from octomesh._ways.loops import PerLoop
from octomesh._ways.target import Known, TargetState
from octomesh._wire.hello import ROLE_CALL, Hello
from octomesh._wire.status import Reason
from octomesh.errors import RpcError, unsent
from octomesh.tls import Security

log: Final = logging.getLogger("octomesh")

_AGAIN: Final = 0.05
"""Seconds until a call that waits for instances looks again."""


class _Dials:
    """Bounds how fast this process begins direct connections, over all its loops."""

    def __init__(self) -> None:
        self.budget = DialBudget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self.budget = DialBudget()


_DIALS: Final = _Dials()

Tiers = list[list[Peer]]


class Pool:
    """Spreads calls over the instances of one target, in one loop. Nothing else: governance is the proxy's."""

    def __init__(self, config: Config, target: str, loop: asyncio.AbstractEventLoop) -> None:
        self.config: Final = config
        self.target: Final = target
        self.users = 0
        self._loop = loop
        self._lanes: dict[str, Tiers] = {"": []}
        self._peers: dict[tuple[str, str], Peer] = {}
        self._leaving: dict[Peer, asyncio.Task[None]] = {}
        self._secure: dict[str, Security] = {}
        self._closed = False

    def update(self, instances: Sequence[Known]) -> None:
        """Make the pool's instances those that are given. What is open to others goes on."""
        if self._closed:
            return
        plain: list[Instance] = []
        at: list[Peer | None] = []
        keep: dict[tuple[str, str], Peer] = {}
        for known in instances:
            instance = known.instance
            peer = None
            if instance.callable:
                key = (instance.address, known.identity)
                peer = keep.get(key) or self._peers.get(key) or self._new(instance.address, known.identity)
                if peer is None:  # nobody here can call it
                    instance = instance._replace(healthy=False)
                else:
                    peer.weight = instance.weight
                    keep[key] = peer
            plain.append(instance)
            at.append(peer)
        lanes: dict[str, Tiers] = {}
        for lane in {"", *(i.lane for i in plain if i.callable)}:
            lanes[lane] = [[p for n in tier if (p := at[n])] for tier in tiers(plain, lane, self.config.zone)]
        self._lanes = lanes
        for key, peer in self._peers.items():
            if key not in keep:
                self._drop(peer)
        self._peers = keep

    def _new(self, address: str, identity: str) -> Peer | None:
        """None where the instance cannot be called from here."""
        config = self.config
        try:
            if identity and config.tls is None:
                raise ValueError(f"it must show that it is {identity}, and this channel has no TLS")
            connect = dialer(address, self.hello, self._security(config.server_identity or identity))
        except (ValueError, OSError) as error:
            log.warning("an instance of %s cannot be called direct, at %s: %s", self.target, address, error)
            return None
        return Peer(self._loop, address, connect)

    def _security(self, expected: str) -> Security | None:
        """What is done for TLS with servers of an id; empty: of any of this environment."""
        tls = self.config.tls
        if tls is not None and expected not in self._secure:
            self._secure[expected] = Security(tls, self.config.identity.environment, expected)
        return self._secure.get(expected)

    def hello(self) -> Hello:
        """What this process says first to an instance."""
        return self.config.identity.hello(ROLE_CALL, self.config.limits)

    def add(self, address: str, connect: Callable[[Peer], Awaitable[ClientLink]]) -> None:
        """Make a peer that connect reaches the only instance."""
        peer = self._peers[address, ""] = Peer(self._loop, address, connect)
        self._lanes = {"": [[peer]]}

    def _drop(self, peer: Peer) -> None:
        task = self._leaving[peer] = self._loop.create_task(peer.leave(), context=Context())
        task.add_done_callback(lambda _: self._leaving.pop(peer, None))

    @property
    def open(self) -> bool:
        """There is an instance to call."""
        return any(self._lanes.values())

    @property
    def count(self) -> int:
        """How many instances can be called."""
        return len(self._peers)

    @property
    def only(self) -> Peer | None:
        """The one instance that all calls go to, if there is one alone."""
        if len(self._lanes) == 1 and len(self._peers) == 1 and self._lanes[""]:
            return self._lanes[""][0][0]
        return None

    async def pick(self, lane: str, deadline: float | None, wait: bool) -> ClientLink:
        """The connection for one call of a lane.

        Raises `RpcError`; with wait not before the deadline, but for NO_ENDPOINT.
        """
        tried: list[Peer] = []  # that this call found closed: an ejection may have ended meanwhile
        while True:
            now = self._loop.time()
            near = self._lanes.get(lane) or self._lanes[""]
            n = sum([len(tier) for tier in near])
            if not n:
                raise unsent(Reason.NO_ENDPOINT, f"no instance of {self.target} can be called direct")
            peer = pick(near, tried, now, random.randrange)
            if peer is None:  # the others have gone meanwhile
                tried.clear()
                continue
            if n > 1 and peer.idle and not _may_dial(near, now):
                peer = _instead(near, tried, now) or peer
            try:
                return await peer.get(deadline, wait and n == 1)
            except RpcError as error:
                if error.reason != Reason.PROXY_UNREACHABLE:
                    raise
                if peer.dropped:
                    continue
                tried.append(peer)
                if len(tried) < min(MAX_TRIES, n):
                    continue
                if not wait:
                    raise
            await pause(_AGAIN, deadline)
            tried.clear()

    async def ready(self, deadline: float | None) -> None:
        """Wait for a connection. Raises `RpcError` if no instance is known."""
        while True:
            peers = list(self._peers.values())
            if not peers:
                raise unsent(Reason.NO_ENDPOINT, f"no instance of {self.target} can be called direct")
            for peer in peers:
                try:
                    await peer.get(deadline, False)
                except RpcError as error:
                    if error.reason != Reason.PROXY_UNREACHABLE:
                        raise
                else:
                    return
            await pause(_AGAIN, deadline)

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        leaving = dict(self._leaving)
        peers = [*self._peers.values(), *leaving]
        await asyncio.gather(*(peer.close() for peer in peers))
        await asyncio.gather(*leaving.values())


def _may_dial(near: Tiers, now: float) -> bool:
    """A call may begin a connection: where its target has none, always (S-DIRECT-7)."""
    if all(peer.idle for tier in near for peer in tier):
        return True
    return _DIALS.budget.take(now, random.random())  # noqa: S311  it spreads


def _instead(near: Tiers, tried: list[Peer], now: float) -> Peer | None:
    """Choose among those that are connected, else one that is being connected."""
    connected = [[p for p in tier if p.usable() is not None and p not in tried] for tier in near]
    found = pick(connected, (), now, random.randrange)
    if found is not None:
        return found
    return next((p for tier in near for p in tier if p.dialing is not None and p not in tried), None)


def fixed_pool(config: Config, target: str, endpoints: Sequence[Endpoint]) -> Pool:
    """A pool of the endpoints that a user gave."""
    pool = Pool(config, target, asyncio.get_running_loop())
    pool.update([Known(Instance(e.address, e.weight, "", "", False, True)) for e in endpoints])
    return pool


_POOLS: Final[PerLoop[Pool]] = PerLoop()


def shared_pool(config: Config, state: TargetState) -> Pool:
    """The pool of what is known of a target, for one more user in this loop. It follows what is known."""
    pools = _POOLS.here()
    pool = pools.get(id(state))
    if pool is None:
        pool = pools[id(state)] = Pool(config, state.target, asyncio.get_running_loop())
        pool.update(state.instances)
        found = pool
        state.listen(pool, lambda: found.update(state.instances))
    pool.users += 1
    return pool


async def unshare_pool(pool: Pool, state: TargetState) -> None:
    """Give a pool back; the last user closes it."""
    pool.users -= 1
    if pool.users:
        return
    state.unlisten(pool)
    _POOLS.here().pop(id(state), None)
    await pool.close()
