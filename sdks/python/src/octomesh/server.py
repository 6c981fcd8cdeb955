"""Serving a target: on addresses of one's own, on the local proxy's socket, or both."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final, Self

from octomesh._calls import CONTENT_TYPES
from octomesh._directory.registrar import Registrar
from octomesh._generated import Service
from octomesh._handling.call import ServerCall
from octomesh._handling.endpoint import Endpoint
from octomesh._link import Link, RefusedError
from octomesh._settings import (
    DEFAULT_MAX_RECEIVE,
    VERSION,
    Identity,
    directories,
    split_address,
    unix_path,
)
from octomesh._ways.config import Config
from octomesh._wire.conn import ACCEPTOR, DIALER
from octomesh._wire.heads import RequestHead
from octomesh._wire.hello import (
    GOAWAY_DRAINING,
    GOAWAY_REFUSED,
    PEER_GATEWAY,
    PEER_PROXY,
    PEER_SDK,
    ROLE_CALL,
    ROLE_SERVE,
    GoAway,
    Hello,
    Welcome,
)
from octomesh._wire.limits import UNSET_LIMITS, Limits
from octomesh._wire.status import Origin, Reason, Status, refuse
from octomesh.context import Peer
from octomesh.interceptors import Interceptor
from octomesh.registration import Registration, RegistrationStatus
from octomesh.tls import TLS, TLS_TIMEOUT, PeerError, Security, over_tcp

_KEEP_PEERS: Final = 256
"""Callers of whom a connection to a proxy keeps what it has said of them; then the memory begins anew."""
_RETRY: Final = (0.05, 2.0)
"""Seconds between attempts to attach to the proxy: the first and the longest."""


class ServerLink(Link):
    """A connection on which this process serves: accepted from a caller, or dialed to the proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Server, hello: Hello | None) -> None:
        super().__init__(loop, ACCEPTOR if hello is None else DIALER, Origin.SERVER_SDK, server.limits)
        self.server: Final = server
        self._hello = hello
        self.from_sdk = hello is None
        """The other end may set no hop fields."""
        self.peer = Peer(proxied=hello is not None)
        self.moved: asyncio.Event = asyncio.Event()
        """Set when the peer asks this side to dial anew, or the connection has ended."""
        self._peers: dict[tuple[bytes, bytes | None], Peer] = {}
        self._room: asyncio.Future[None] | None = None
        self._verified = ""
        """The id that the other end has shown by TLS."""

    def begin(self) -> None:
        """Attach, or wait for a caller."""
        self.server.links.add(self)
        if self._hello is not None:
            self.conn.hello(self._hello)
        elif self.server.secure is not None and self.transport is not None:
            try:
                self._verified = str(self.server.secure.check(self.transport, of_server=False))
            except PeerError as error:
                self.fail(RefusedError(str(error)))
                self.abort()

    def accept(self) -> ServerCall:
        """Take a call."""
        return ServerCall(self)

    def on_hello(self, hello: Hello) -> None:
        """Answer a caller that dialed."""
        address = ""
        unix = True
        if self.transport is not None:
            name = self.transport.get_extra_info("peername")
            unix = not isinstance(name, tuple)
            address = "" if unix else f"{name[0]}:{name[1]}"
        self.from_sdk = unix or hello.kind not in (PEER_PROXY, PEER_GATEWAY)
        verified = self._verified if self.from_sdk else ""  # what TLS says of a proxy is not of the caller
        self.peer = Peer(
            hello.application.decode("utf-8", "replace"),
            hello.instance.decode("utf-8", "replace"),
            address,
            verified=verified,
        )
        environment = hello.environment.decode("utf-8", "replace")
        server = self.server
        if server.stopping:
            self.conn.refuse(GoAway(GOAWAY_DRAINING, message=b"the server is stopping"))
        elif hello.role != ROLE_CALL:
            self.conn.refuse(GoAway(GOAWAY_REFUSED, message=b"a server takes connections of role CALL only"))
        elif environment != server.identity.environment:
            text = f"environment {server.identity.environment} takes no calls from environment {environment}"
            self.conn.refuse(GoAway(GOAWAY_REFUSED, message=text.encode()))
        else:
            self.conn.welcome(
                Welcome(
                    kind=PEER_SDK,
                    instance=server.identity.instance.encode(),
                    incarnation=server.identity.incarnation,
                    software_version=f"python/{VERSION}".encode(),
                )
            )
            self.welcomed()

    def peer_of(self, h: RequestHead) -> Peer:
        """Who calls, by the word of a hop."""
        key = h.caller, h.verified_caller
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= _KEEP_PEERS:
                self._peers.clear()
            peer = self._peers[key] = self._peer_of(h)
        return peer

    def _peer_of(self, h: RequestHead) -> Peer:
        application = h.caller.decode("utf-8", "replace") if h.caller else self.peer.application
        verified = self.peer.verified
        if self._hello is not None and h.verified_caller:  # its own proxy's word; anybody else could claim it (W-HOP-6)
            verified = h.verified_caller.decode("utf-8", "replace")
        return Peer(application, self.peer.instance, self.peer.address, self.peer.proxied, verified)

    def moving(self) -> None:
        """The proxy hands over to a successor."""
        self.moved.set()

    def gone(self) -> None:
        """The connection has ended."""
        self.server.links.discard(self)
        self.moved.set()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def settle(self) -> None:
        """The side that dialed closes when all has been said; the acceptor waits for the end of what it reads."""
        if self.conn.closed or (self.conn.done and self._hello is not None):
            self.close()

    async def drained(self) -> None:
        """Wait while the socket takes no more, so that a stream of responses does not fill memory beside its credit."""
        if self._paused:
            if self._room is None or self._room.done():
                self._room = self.loop.create_future()
            await asyncio.shield(self._room)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


class Server:
    """Serves a target."""

    def __init__(
        self,
        target: str,
        *,
        listen: str | Sequence[str] = (),
        socket: str | None = None,
        mode: str | None = None,
        application: str | None = None,
        environment: str | None = None,
        instance: str | None = None,
        tls: TLS | None = None,
        interceptors: Sequence[Interceptor] = (),
        max_receive: int = DEFAULT_MAX_RECEIVE,
        drain_timeout: float = 10.0,
        limits: Limits = UNSET_LIMITS,
        directory: Sequence[str] | None = None,
        registration: Registration | None = None,
    ) -> None:
        """Make a server. Raises `ValueError` for settings that cannot be.

        listen has addresses for direct calls, `host:port` (port 0: any) or `unix:path`. socket is the proxy's Unix
        socket (default: `OCTO_SOCKET`) to which the server attaches, unless mode (default: `OCTO_MODE`) is `off`. tls
        lets in, where the server listens, who shows by mutual TLS 1.3 an id of its trust domain and environment.
        drain_timeout is how long open calls may go on once the server stops, in seconds. directory has addresses of the
        control plane's Directories, `host:port` each (default: `OCTO_DIRECTORY`, with commas between several), where a
        server registers that is attached to no proxy. registration is what it says of its instance there.
        """
        self.target: Final = target
        self.identity: Final = Identity.of(application, environment, instance)
        self.limits: Final = limits
        self.max_receive: Final = max_receive
        self.stopping = False
        self.stopped = False
        self.links: set[ServerLink] = set()
        self.running: set[asyncio.Task[None]] = set()
        self._interceptors = tuple(interceptors)
        self._drain = drain_timeout
        self._listen = [listen] if isinstance(listen, str) else list(listen)
        for address in self._listen:
            split_address(address)
            if tls is not None:
                over_tcp(address)
        self.secure: Final = Security(tls, self.identity.environment) if tls is not None else None
        mode = mode or os.environ.get("OCTO_MODE") or "auto"
        if mode not in ("auto", "on", "off"):
            raise ValueError(f"mode {mode!r} (from OCTO_MODE): want auto, on or off")
        socket = socket if socket is not None else os.environ.get("OCTO_SOCKET", "")
        self._socket = unix_path(socket) if mode != "off" else ""
        if mode == "on" and not socket:
            raise ValueError("mode is on, but no proxy's socket is given: set OCTO_SOCKET, or the argument socket")
        self._said: Final = registration or Registration()
        self._said.check()
        self._known_as: Final = Config(
            self.identity, mode, self._socket, directories=directories(directory), tls=tls, limits=limits
        )
        self._registrar: Registrar | None = None
        self._services: set[bytes] = set()
        self._entries: dict[tuple[bytes, bytes], Endpoint] = {}
        self._acceptors: list[asyncio.Server] = []
        self._bound: dict[str, tuple[int, int] | None] = {}
        self._attaching: asyncio.Task[None] | None = None
        self._attached = asyncio.Event()
        self._ended: asyncio.Event = asyncio.Event()

    def add(self, *services: Service) -> Self:
        """Serve the methods of services, each an object of a class derived from generated code."""
        for service in services:
            name = service.SERVICE.encode()
            if name in self._services:
                raise ValueError(f"service {service.SERVICE} is served already")
            self._services.add(name)
            for attribute, method in service.METHODS.items():
                entry = Endpoint(method, getattr(service, attribute), self._interceptors)
                self._entries[name, method.name.encode()] = entry
        return self

    def find(self, h: RequestHead) -> Endpoint | Status:
        """Return what handles a call, or how it is refused."""
        entry = self._entries.get((h.service, h.method))
        if entry is None:
            service = h.service.decode("utf-8", "replace")
            if h.service not in self._services:
                return refuse(Reason.UNKNOWN_SERVICE, Origin.SERVER_SDK, f"unknown service {service}")
            method = h.method.decode("utf-8", "replace")
            return refuse(Reason.UNKNOWN_METHOD, Origin.SERVER_SDK, f"service {service} has no method {method}")
        if h.call_kind not in (0, entry.method.kind):  # a caller need not say it (W-STREAM-7)
            text = f"{entry.method.full_name} is called as {h.call_kind}, and is {entry.method.kind.name}"
            return refuse(Reason.UNKNOWN_METHOD, Origin.SERVER_SDK, text)
        if h.content_type not in CONTENT_TYPES:
            content_type = h.content_type.decode("utf-8", "replace")
            text = f"content type {content_type}: want none, application/grpc or application/grpc+proto"
            return refuse(Reason.UNKNOWN_CONTENT_TYPE, Origin.SERVER_SDK, text)
        return entry

    async def start(self) -> None:
        """Listen, and begin to attach; returns when the server listens. Raises `OSError` if an address is taken."""
        loop = asyncio.get_running_loop()
        for address in self._listen:
            path, host, port = split_address(address)
            if path:
                acceptor = await loop.create_unix_server(self._accepting(loop), path)
                self._bound[path] = _file_id(path)
            else:
                secure = self.secure
                acceptor = await loop.create_server(
                    self._accepting(loop),
                    host or None,
                    port,
                    reuse_address=True,
                    ssl=None if secure is None else secure.server,
                    ssl_handshake_timeout=None if secure is None else TLS_TIMEOUT,
                )
            self._acceptors.append(acceptor)
        if self._socket:
            self._attaching = loop.create_task(self._attach(loop))
        else:
            self._attached.set()
        if not self._said.off and (self._socket or self._known_as.directories):
            self._registrar = Registrar(self._known_as, self._said, self.target, self._reachable, self._attached)

    @property
    def registration(self) -> RegistrationStatus:
        """How the server's registration fares.

        A server registers its instance once it listens, and where it has a proxy is attached: with its proxy, else with
        the Directories that it knows. It comes back after a lost stream, and says that it leaves before it stops.
        """
        return RegistrationStatus() if self._registrar is None else self._registrar.status

    @property
    def _reachable(self) -> str:
        """The first address that others can be told; empty: none."""
        for acceptor in self._acceptors:
            for sock in acceptor.sockets:
                name = sock.getsockname()
                if isinstance(name, tuple) and not ipaddress.ip_address(name[0].partition("%")[0]).is_unspecified:
                    return _shown(name)
        return ""

    def _accepting(self, loop: asyncio.AbstractEventLoop) -> Any:
        return lambda: ServerLink(loop, self, None)

    async def ready(self) -> None:
        """Wait until calls can come: the server listens, and is attached to its proxy."""
        await self._attached.wait()

    @property
    def addresses(self) -> list[str]:
        """Where the server listens, as channels take it."""
        found = []
        for acceptor in self._acceptors:
            for sock in acceptor.sockets:
                name = sock.getsockname()
                found.append(_shown(name) if isinstance(name, tuple) else f"unix:{name}")
        return found

    async def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep a connection to the proxy on which this server is called."""
        pause = _RETRY[0]
        while not self.stopping:
            link = ServerLink(loop, self, self.identity.hello(ROLE_SERVE, self.limits, self.target))
            try:
                await loop.create_unix_connection(lambda link=link: link, self._socket)  # type: ignore[misc]
                await link.shaken
            except (OSError, RefusedError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY[1])
                continue
            pause = _RETRY[0]
            self._attached.set()
            await link.moved.wait()
            if link.lost.done():
                self._attached.clear()

    async def serve(self) -> None:
        """Serve until the process is told to end (SIGTERM, SIGINT) or the task is cancelled, then stop gracefully."""
        await self.start()
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        signals = [] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGINT]
        try:
            for s in signals:
                loop.add_signal_handler(s, told.set)
        except (ValueError, RuntimeError):  # not in the main thread: somebody else has the signals
            signals = []
        try:
            waits = [loop.create_task(told.wait()), loop.create_task(self._ended.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        finally:
            for s in signals:
                loop.remove_signal_handler(s)
            await self.stop()

    async def stop(self, drain_timeout: float | None = None) -> bool:
        """Stop: deregister, take no new calls, let open ones end, and close. Returns whether all of them could.

        drain_timeout is in seconds; None: what the server was made with. What is open then is cut off.
        """
        loop = asyncio.get_running_loop()
        late = loop.time() + (self._drain if drain_timeout is None else drain_timeout)
        if self._registrar is not None:
            await self._registrar.leave(late - loop.time())
        self.stopping = True
        if self._attaching is not None:
            self._attaching.cancel()
            await asyncio.gather(self._attaching, return_exceptions=True)
        for acceptor in self._acceptors:
            acceptor.close()
        for link in list(self.links):
            if link.conn.ready:
                link.conn.leave(GOAWAY_DRAINING, "the server is stopping")
            else:
                link.abort()
        whole = await self._drained(max(late - loop.time(), 0.0))
        self.stopped = True
        if self._registrar is not None:
            await self._registrar.close()
        for link in list(self.links):
            link.conn.finish(GOAWAY_DRAINING, "the drain deadline has passed")
            link.close()
        for task in list(self.running):
            task.cancel()
        if self.running:
            await asyncio.gather(*self.running, return_exceptions=True)
            self.running.clear()  # of those that were cancelled before they began
        for link in list(self.links):
            await link.lost
        for acceptor in self._acceptors:
            await acceptor.wait_closed()
        for path, bound in self._bound.items():
            if bound is not None and _file_id(path) == bound:  # else a successor listens there
                os.unlink(path)
        self._ended.set()
        return whole

    async def _drained(self, timeout: float) -> bool:
        """Wait for the end of calls and connections."""
        try:
            async with asyncio.timeout(timeout):
                while self.links:
                    await asyncio.wait([link.lost for link in self.links])
                while self.running:
                    await asyncio.wait(list(self.running))
        except TimeoutError:
            return False
        return True


def _shown(name: tuple[Any, ...]) -> str:
    """A TCP address as channels take it."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _file_id(path: str) -> tuple[int, int] | None:
    """Tell a file from another that took its path; None: there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
