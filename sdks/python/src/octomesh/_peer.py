"""Connections on which this process calls, and who is called on them."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Final

from octomesh._calls import ClientCall, UnaryCall
from octomesh._decide.balance import ejection
from octomesh._decide.path import Event
from octomesh._link import Link, RefusedError
from octomesh._settings import split_address
from octomesh._wire.conn import DIALER
from octomesh._wire.hello import Hello
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse
from octomesh.errors import RpcError, unsent
from octomesh.tls import TLS_TIMEOUT, PeerError, Security

if TYPE_CHECKING:
    from octomesh._ways.guard import Guard

_DIALS: Final = 3
"""How often in a row a peer is dialed that answers that it leaves."""
_DIAL_TIMEOUT: Final = 5.0
_FIRST_BACKOFF: Final = 0.05
_MAX_BACKOFF: Final = 2.0
_FULL_BACKLOG: Final = 0.05
"""Seconds that a Unix socket whose backlog is full is tried again: its owner lives."""
PROXY_PATIENCE: Final = 5.0
"""Seconds that bridge a proxy's restart. A server has no successor at its address: its calls go elsewhere at once."""


class ClientLink(Link):
    """A connection on which this process calls."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, hello: Hello, peer: Peer, secure: Security | None = None
    ) -> None:
        super().__init__(loop, DIALER, Origin.CLIENT_SDK, hello.limits)
        self.peer: Final = peer
        self.probing = False
        """A PONG is awaited, which shows that the peer is there."""
        self.replaced = False
        """Another one is being made in its place, since the peer leaves."""
        self._slots: deque[asyncio.Future[None]] = deque()
        self._hello = hello
        self._secure = secure

    def begin(self) -> None:
        """Introduce this process, to whom it wants to call."""
        if self._secure is not None and self.transport is not None:
            try:
                self._secure.check(self.transport, of_server=True)
            except PeerError as error:
                self.fail(RefusedError(str(error)))
                self.abort()
                return
        self.conn.hello(self._hello)

    def waiting(self) -> bool:
        """A unary call is open, or a probe."""
        return self.probing or any(isinstance(s, UnaryCall) for s in self.conn.streams())

    def moving(self) -> None:
        """Take calls until another connection stands, which is begun now."""
        self.peer.replace(self)

    def missed(self) -> None:
        """The peer is silent."""
        self.peer.tell(Event.MISSED, self)

    def alive(self) -> None:
        """It is not."""
        self.peer.tell(Event.ALIVE, self)

    def ping(self) -> None:
        """Ask the peer to show that it is there."""
        self.probing = True
        self.conn.ping(0)  # if one is unanswered already, its PONG shows as much

    def on_pong(self, payload: int) -> None:  # noqa: ARG002
        """The peer has shown it."""
        if self.probing:
            self.probing = False
            self.peer.tell(Event.ANSWERED, self)

    def refused(self, status: Status) -> None:
        """Take note of how a call was reset: one that is refused because the peer leaves says so for all.

        What a proxy passes on is said of somebody behind it.
        """
        if (
            status.reason == Reason.PROXY_DRAINING
            and status.disposition == Disposition.NOT_PROCESSED
            and (not self.peer.patience or status.origin == Origin.CLIENT_PROXY)
        ):
            self.exhausted()

    def exhausted(self) -> None:
        """Open no more calls here: as good as a GOAWAY, and those that were refused may go again on another only."""
        self.conn.cease()
        self.peer.replace(self)

    async def room(self, deadline: float | None) -> None:
        """Wait until a call may have room within the limit of streams. Raises `RpcError` once its time is over."""
        slot: asyncio.Future[None] = self.loop.create_future()
        self._slots.append(slot)
        try:
            await until(slot, deadline)
        except BaseException:
            if slot.done():  # it is for another one
                self.loop.call_soon(self.settle)
            slot.cancel()
            raise

    def settle(self) -> None:
        """Let those go on who wait for room, too."""
        if self._slots:
            room = self.conn.room if self.conn.takes_calls else len(self._slots)
            while self._slots and room:
                future = self._slots.popleft()
                if not future.done():
                    future.set_result(None)
                    room -= 1
        super().settle()

    def gone(self) -> None:
        """The connection has ended."""
        self.settle()
        self.peer.lost(self)

    def retire(self) -> None:
        """Say that no new calls come, and close once the open ones have ended."""
        if self.conn.ready:
            self.conn.drained()
            self.settle()
        else:
            self.close()

    def shut(self) -> None:
        """End the connection and the calls on it: the peer learns of each, and last that no more come."""
        for s in self.conn.streams():
            if isinstance(s, ClientCall):  # all are
                s.finish(_CLOSED)
        self.retire()
        self.close()


_CLOSED: Final = refuse(Reason.CANCELLED, Origin.CLIENT_SDK, "the channel was closed")


class Dialing:
    """A dial that goes on: whoever needs its outcome waits for `over`."""

    __slots__ = ("error", "link", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over: asyncio.Future[None] = loop.create_future()
        self.link: ClientLink | None = None
        self.error = ""
        """Why there is no link."""


async def until(future: asyncio.Future[None], deadline: float | None) -> None:
    """Wait for a future as part of a call of which nothing was sent. Raises `RpcError` once its time is over."""
    if future.done():
        return
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(future)
    except TimeoutError:
        raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent") from None


async def pause(seconds: float, deadline: float | None) -> None:
    """Sleep as part of a call of which nothing was sent. Raises `RpcError` once its time is over."""
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.sleep(seconds)
    except TimeoutError:
        raise unsent(Reason.DEADLINE, "the deadline passed before the call was sent") from None


class Peer:
    """One address that calls go to: a proxy's socket, or a server's. It belongs to one loop.

    It is dialed when the first call needs it, has one connection for new calls, and keeps older ones until their calls
    have ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        connect: Callable[[Peer], Awaitable[ClientLink]],
        *,
        weight: int = 1,
        patience: float = 0.0,
    ) -> None:
        self.loop: Final = loop
        self.address: Final = address
        self.weight = weight
        self.patience: Final = patience
        """Seconds that a connection whose peer leaves goes on taking calls while no successor answers."""
        self.guard: Guard | None = None
        """Keeps the states of the way to a proxy; None: the peer is a server."""
        self.ejected_until = 0.0
        """Up to when it is left out, by the loop's clock."""
        self.dropped = False
        """The instance is none any more."""
        self.dialing: Dialing | None = None
        self.closed = False
        self._connect = connect
        self._links: set[ClientLink] = set()
        self._current: ClientLink | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._ejections = 0
        self._not_before = 0.0
        self._error = ""

    @property
    def mesh(self) -> bool:
        """It is a proxy."""
        return self.guard is not None

    @property
    def in_flight(self) -> int:
        """Calls that are open."""
        return sum([link.conn.open_streams for link in self._links])

    @property
    def current(self) -> ClientLink | None:
        """The connection for new calls, usable or not any more."""
        return self._current

    @property
    def idle(self) -> bool:
        """No connection takes calls, and none is being made."""
        return self.dialing is None and self.usable() is None

    def usable(self) -> ClientLink | None:
        """The connection that takes calls; None: none does."""
        link = self._current
        return link if link is not None and link.conn.takes_calls else None

    def tell(self, event: Event, link: ClientLink | None = None) -> None:
        """Tell the guard, if there is one."""
        if self.guard is not None:
            self.guard.on(event, link)

    async def get(self, deadline: float | None, patient: bool) -> ClientLink:
        """The connection for a new call. Without one it dials, or waits for whoever does.

        patient callers go on waiting after a failed dial, the others get `RpcError` with PROXY_UNREACHABLE.
        """
        while True:
            link = self.usable()
            if link is not None:
                return link
            self.tell(Event.NEED)
            if self.closed:
                if self.dropped:
                    raise self._unreachable("it is no instance any more")
                raise unsent(Reason.CANCELLED, "the channel is closed")
            if self.dialing is None:
                left = self._not_before - self.loop.time()
                if left > 0:
                    if not patient:
                        raise self._unreachable(self._error)
                    await pause(left, deadline)
                    continue
                self._begin()
            dialing = self.dialing
            assert dialing is not None  # noqa: S101  begun above
            await until(dialing.over, deadline)
            if dialing.link is not None:
                return dialing.link
            if not patient:
                raise self._unreachable(dialing.error)

    def _unreachable(self, why: str) -> RpcError:
        return unsent(Reason.PROXY_UNREACHABLE, f"dial {self.address}: {why}")

    def redial(self) -> None:
        """Begin a dial if no connection takes calls and none is being made, however long ago the last one failed."""
        if self.dialing is None and not self.closed and self.usable() is None:
            self._begin()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run what outlives the call that wanted it, without what that call hands down."""
        task = self.loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self) -> Dialing:
        dialing = self.dialing = Dialing(self.loop)
        self._spawn(self._dial(dialing))
        return dialing

    async def _dial(self, dialing: Dialing) -> None:
        link = None
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT):
                link = await self._connected()
        except TimeoutError as error:
            dialing.error = str(error) or f"no connection within {_DIAL_TIMEOUT:g} s"
        except (OSError, RefusedError) as error:
            dialing.error = str(error)
        except asyncio.CancelledError:
            dialing.error = "the channel is closed"
        finally:
            self._dialed(dialing, link)

    async def _connected(self) -> ClientLink:
        for again in reversed(range(_DIALS)):
            try:
                return await self._connect(self)
            except RefusedError as error:
                if not error.draining or not again:
                    raise
        raise AssertionError

    def _dialed(self, dialing: Dialing, link: ClientLink | None) -> None:
        """Book a dial's end, and let those go on that wait for it."""
        self.dialing = None
        if link is not None and self.closed:
            link.close()
            link, dialing.error = None, "the channel is closed"
        if link is None:
            self._failures += 1
            self._not_before = self.loop.time() + _backoff(self._failures)
            self._error = dialing.error = dialing.error or "it failed"
            self._eject()
            self.tell(Event.FAILED)
        else:
            self._failures = 0
            dialing.link = link
            old, self._current = self._current, link
            self._links.add(link)
            if old is not None:
                old.retire()
            if link.lost.done():  # while nobody knew it
                self.lost(link)
            self.tell(Event.WELCOMED, link)
        dialing.over.set_result(None)

    def replace(self, old: ClientLink) -> None:
        """Dial anew because a connection's peer leaves.

        The old one takes calls until another one stands, unless it has ceased, and goes on for those that are open.
        """
        if self._current is old and not old.replaced and not self.closed:
            old.replaced = True
            self._spawn(self._replace(old))

    async def _replace(self, old: ClientLink) -> None:
        give_up = self.loop.time() + self.patience
        while self._current is old and not self.closed:
            dialing = self.dialing or self._begin()
            await asyncio.shield(dialing.over)
            if dialing.link is not None or self._current is not old:
                return
            if self.loop.time() >= give_up:
                self._current = None
                old.retire()
                self.tell(Event.FAILED)
                return
            await asyncio.sleep(_backoff(1))

    def lost(self, link: ClientLink) -> None:
        """Forget a connection that has ended."""
        self._links.discard(link)
        if self._current is not link:
            return
        self._current = None
        if not self.closed:
            self._eject()
            self.tell(Event.GONE if link.silent else Event.LOST, link)

    def _eject(self) -> None:
        self._ejections += 1
        self.ejected_until = self.loop.time() + ejection(self._ejections)

    def succeeded(self) -> None:
        """End the doubling of ejections."""
        if self.ejected_until:
            self._ejections = 0
            self.ejected_until = 0.0

    async def leave(self) -> None:
        """Let what is open go on, and take nothing new. Returns once all has ended."""
        self.dropped = self.closed = True
        links = list(self._links)
        for link in links:
            link.retire()
        await self._settled(links)

    async def close(self) -> None:
        """End all connections, and the calls on them, as CANCELLED."""
        self.closed = True
        self._current = None
        links = list(self._links)
        for link in links:
            link.shut()
        await self._settled(links)

    async def _settled(self, links: list[ClientLink]) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if self.guard is not None:
            self.guard.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.dialing is not None:  # it was cancelled before it began
            self._dialed(self.dialing, None)
        for link in links:
            await asyncio.shield(link.lost)


def _backoff(failures: int) -> float:
    """Seconds that double with the number of failures, less up to half at random."""
    longest = min(_FIRST_BACKOFF * (1 << min(failures - 1, 20)), _MAX_BACKOFF)
    return longest * (1 - random.random() / 2)  # noqa: S311  it spreads


def dialer(
    address: str, hello: Callable[[], Hello], secure: Security | None = None
) -> Callable[[Peer], Awaitable[ClientLink]]:
    """What connects to an address, and shakes hands. It raises `OSError` or `RefusedError`."""
    path, host, port = split_address(address)

    async def connect(peer: Peer) -> ClientLink:
        loop = peer.loop
        link = ClientLink(loop, hello(), peer, secure)
        try:
            if path:
                await loop.create_unix_connection(lambda: link, sock=await _unix(path))
            elif secure is not None:
                await loop.create_connection(
                    lambda: link, host, port, ssl=secure.client, server_hostname="", ssl_handshake_timeout=TLS_TIMEOUT
                )
            else:
                await loop.create_connection(lambda: link, host, port)
            await link.shaken
        except BaseException:
            link.abort()
            raise
        return link

    return connect


async def _unix(path: str) -> socket.socket:
    """Connect to a Unix socket, which never takes time, but may have a full backlog."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.setblocking(False)
        give_up = asyncio.get_running_loop().time() + _FULL_BACKLOG
        while True:
            try:
                found.connect(path)
            except BlockingIOError:
                if asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(0.001)
            else:
                return found
    except BaseException:
        found.close()
        raise
