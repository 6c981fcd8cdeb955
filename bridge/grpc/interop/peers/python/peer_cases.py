"""The cases of ../peer.proto, for whichever library makes the calls."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SERVICE = "octo.interop.v1.Peer"
FAIL_TEXT = "not today: ☕ 100% näin"
ECHOED = ("x-ascii", "x-octets-bin")
FAILED_PRECONDITION, UNIMPLEMENTED, DEADLINE_EXCEEDED, CANCELLED = 9, 12, 4, 1

Entries = Sequence[tuple[str, str | bytes]]
Program = Callable[..., Coroutine[Any, Any, None]]


class CallFailedError(Exception):
    """How a call ended. details are the values of BytesValues."""

    def __init__(self, code: int, message: str, details: Sequence[bytes] = ()) -> None:
        super().__init__(f"{code} {message!r}")
        self.code, self.message, self.details = code, message, list(details)


@dataclass
class Answer:
    """What a unary call brought."""

    body: bytes
    headers: Entries = ()
    trailers: Entries = ()


class Chat(Protocol):
    """A stream of answers, and of requests if the call has one. receive returns None at its end."""

    async def send(self, body: bytes) -> None: ...
    async def close_send(self) -> None: ...
    async def receive(self) -> bytes | None: ...
    def cancel(self) -> None: ...


class Library(Protocol):
    """The calls, as a library makes them. All of them raise CallFailedError."""

    async def unary(self, method: str, body: bytes, metadata: Entries = (), gzip: bool = False) -> Answer: ...
    async def collect(self, bodies: Sequence[bytes]) -> bytes: ...
    async def server_stream(self, method: str, body: bytes, timeout: float | None = None) -> Chat: ...
    async def bidi_stream(self, method: str) -> Chat: ...


@dataclass
class Hangs:
    """Which calls of Hang have ended, at a server."""

    _ended: dict[bytes, asyncio.Event] = field(default_factory=dict)

    def of(self, name: bytes) -> asyncio.Event:
        """Return what is set at the end of the call."""
        return self._ended.setdefault(name, asyncio.Event())

    async def hang(self, name: bytes) -> AsyncIterator[bytes]:
        """Answer once, and then nothing until the caller is gone."""
        try:
            yield name
            await asyncio.Event().wait()
        finally:
            self.of(name).set()


def _same(got: object, want: object) -> None:
    if got != want:
        raise ValueError(f"got {str(got)[:200]!r}, want {str(want)[:200]!r}")


async def _fails(code: int, call: Awaitable[object]) -> CallFailedError:
    try:
        answer = await call
    except CallFailedError as error:
        _same(error.code, code)
        return error
    raise ValueError(f"got {str(answer)[:200]!r}, want the code {code}")


class Cases:
    """Each method is a case; the order is the order in which they run."""

    def __init__(self, library: Library, name: str) -> None:
        self._library, self._name = library, name

    async def _echo(self, body: bytes, gzip: bool = False) -> None:
        _same((await self._library.unary("Echo", body, gzip=gzip)).body, body)

    async def unary(self) -> None:
        await self._echo(b"hello")

    async def empty(self) -> None:
        await self._echo(b"")

    async def large(self) -> None:
        await self._echo(b"0123456789abcdef" * (3 << 16))

    async def server_stream(self) -> None:
        stream = await self._library.server_stream("Watch", bytes(range(100)))
        for number in range(100):
            _same(await stream.receive(), bytes([number]))
        _same(await stream.receive(), None)

    async def client_stream(self) -> None:
        _same(await self._library.collect([bytes([n]) for n in range(100)]), bytes(range(100)))

    async def bidi_stream(self) -> None:
        chat = await self._library.bidi_stream("Chat")
        for number in range(20):
            await chat.send(bytes(number))
            _same(await chat.receive(), bytes(number))
        await chat.close_send()
        _same(await chat.receive(), None)

    async def metadata(self) -> None:
        sent: list[tuple[str, str | bytes]] = [
            ("x-ascii", "one"),
            ("x-ascii", "two"),
            ("x-octets-bin", b"\x00\xff\x80"),
        ]
        answer = await self._library.unary("Echo", b"", sent)
        for got in (answer.headers, answer.trailers):
            # gRPC lets everybody join a key's values by commas, and grpc-js does so.
            _same(",".join(str(value) for key, value in got if key == "x-ascii").replace(" ", ""), "one,two")
            _same([value for key, value in got if key == "x-octets-bin"], [b"\x00\xff\x80"])

    async def error_details(self) -> None:
        error = await _fails(FAILED_PRECONDITION, self._library.unary("Fail", b"why"))
        _same(error.message, FAIL_TEXT)
        _same(error.details, [b"why"])

    async def unimplemented(self) -> None:
        await _fails(UNIMPLEMENTED, self._library.unary("Nothing", b""))

    async def compression(self) -> None:
        await self._echo(b"again " * 10_000, gzip=True)

    async def _hang(self, case: str, timeout: float | None) -> tuple[Chat, bytes]:
        name = f"{self._name}-{case}".encode()
        stream = await self._library.server_stream("Hang", name, timeout)
        _same(await stream.receive(), name)
        return stream, name

    async def deadline(self) -> None:
        stream, name = await self._hang("deadline", 1.0)
        await _fails(DEADLINE_EXCEEDED, stream.receive())
        _same((await self._library.unary("Ended", name)).body, name)

    async def cancel(self) -> None:
        stream, name = await self._hang("cancel", None)
        stream.cancel()
        await _fails(CANCELLED, stream.receive())
        _same((await self._library.unary("Ended", name)).body, name)


async def run_cases(library: Library, name: str) -> None:
    """Run all cases, and say of each how it went."""
    cases = Cases(library, name)
    for case in [name for name in vars(Cases) if not name.startswith("_")]:
        try:
            async with asyncio.timeout(60):
                await getattr(cases, case)()
        except Exception as error:  # whatever it is, the next case runs
            print(f"FAILED {case}: {type(error).__name__}: {str(error)[:300]!r}", flush=True)
        else:
            print(f"ok {case}", flush=True)


async def until_closed() -> None:
    """Return when whoever started the program is gone."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(version: str, serve: Program, call: Program) -> None:
    """Be what the arguments say."""
    match sys.argv[1:]:
        case ["version"]:
            print(version)
        case ["server", *args]:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(serve(*args))
        case ["client", *args]:
            asyncio.run(call(*args))
        case _:
            sys.exit("what to be: version, server or client")
