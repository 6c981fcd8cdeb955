"""Connections of tests: owners that note what they are told, and pairs that feed each other."""

from __future__ import annotations

from octomesh._wire.conn import ACCEPTOR, DIALER, Connection
from octomesh._wire.hello import GoAway, Hello, Welcome
from octomesh._wire.limits import UNSET_LIMITS, Limits
from octomesh._wire.status import Origin, Status
from octomesh._wire.stream import Stream


class Call(Stream):
    """Notes what becomes of a call."""

    __slots__ = ("credits", "frames", "owner", "status")

    def __init__(self, owner: Recorder) -> None:
        self.owner = owner
        self.frames: list[tuple[str, int, bytes, bytes]] = []
        self.credits: list[bool] = []
        self.status: Status | None = None
        owner.calls.append(self)

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        self.frames.append(("request", flags, head, body))

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        self.frames.append(("response", flags, head, body))

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:
        self.frames.append(("message", flags, head, body))

    def on_credit(self, done: bool) -> None:
        self.credits.append(done)

    def on_closed(self, status: Status) -> None:
        assert self.status is None, "a call ends once"
        self.status = status

    @property
    def data(self) -> bytes:
        """All bodies that came."""
        return b"".join(f[3] for f in self.frames)


class Recorder:
    """Notes what a connection tells its owner."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.said: list[object] = []
        self.woken = 0

    def on_hello(self, hello: Hello) -> None:
        self.said.append(hello)

    def on_welcome(self, welcome: Welcome) -> None:
        self.said.append(welcome)

    def on_pong(self, payload: int) -> None:
        self.said.append(payload)

    def on_goaway(self, goaway: GoAway) -> None:
        self.said.append(goaway)

    def on_drained(self) -> None:
        self.said.append("drained")

    def on_output(self) -> None:
        self.woken += 1

    def accept(self) -> Call:
        return Call(self)


def callee(limits: Limits = UNSET_LIMITS) -> tuple[Connection, Recorder]:
    """The side that serves a CALL connection, behind its handshake."""
    owner = Recorder()
    conn = Connection(ACCEPTOR, owner, limits, Origin.SERVER_SDK)
    conn.resume(1)
    return conn, owner


def opener(limits: Limits = UNSET_LIMITS, peer: Limits = UNSET_LIMITS) -> tuple[Connection, Recorder]:
    """The side that opens calls on a CALL connection, behind its handshake."""
    owner = Recorder()
    conn = Connection(DIALER, owner, limits, Origin.CLIENT_SDK)
    conn.resume(1, peer)
    return conn, owner
