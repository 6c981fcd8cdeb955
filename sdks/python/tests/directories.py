"""A Directory that says what a test tells it to say, as those of proxy and control plane do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self, TypeVar

import octomesh
from octo.directory.v1 import directory_pb2 as pb
from octo.directory.v1.directory_octo import Directory

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds until a test gives up."""
PRESENT, UNKNOWN, DELETED = (
    pb.WatchResponse.STATE_PRESENT,
    pb.WatchResponse.STATE_UNKNOWN,
    pb.WatchResponse.STATE_DELETED,
)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  what is waited for is the SDK's own, and tells nobody
            await asyncio.sleep(0.001)


def word(
    *addresses: str,
    permille: int | None = None,
    revision: int = 1,
    state: pb.WatchResponse.State = PRESENT,
    **more: object,
) -> pb.WatchResponse:
    """What a Directory says of a target: its instances, and the switch."""
    said = pb.WatchResponse(state=state, **more)  # type: ignore[arg-type]
    for n, address in enumerate(addresses):
        said.endpoints.add(instance=f"i{n}", direct_address=address, weight=100, direct_healthy=True)
    if permille is not None:
        said.mesh_switch.permille, said.mesh_switch.revision = permille, revision
    return said


class Stream:
    """One Watch that runs."""

    def __init__(self, request: pb.WatchRequest, context: octomesh.ServerContext) -> None:
        self.request = request
        self.context = context
        self.queue: asyncio.Queue[pb.WatchResponse | Exception | None] = asyncio.Queue()


class FakeDirectory(Directory):
    """The service, and the server that has it."""

    def __init__(self) -> None:
        self.said: dict[str, pb.WatchResponse] = {}
        """What a Watch begins with; a target that is not there: nothing, it is silent."""
        self.streams: list[Stream] = []
        """Those that run."""
        self.watched = 0
        """Those that ran or run."""
        self.reports: asyncio.Queue[pb.ReportRequest] = asyncio.Queue()
        self.answer: pb.ReportResponse | Exception = pb.ReportResponse(interval_ms=50)
        self.requests: asyncio.Queue[pb.RegisterRequest] = asyncio.Queue()
        self.registers = asyncio.Queue[asyncio.Queue[pb.RegisterResponse | Exception]]()
        """Of each Register that has begun, where its answers are to be put."""
        self.publishes = False
        """Each Register is answered at once."""
        self.withdrawing: Callable[[], object] = lambda: None
        self._server: octomesh.Server | None = None

    async def listen(self, address: str) -> Self:
        """Serve at an address."""
        self._server = octomesh.Server(
            "octo.directory",
            listen=address,
            socket="",
            environment="test",
            registration=octomesh.Registration(off=True),
        ).add(self)
        await self._server.start()
        return self

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return self._server.addresses[0]

    @property
    def connections(self) -> int:
        """How many there are."""
        assert self._server is not None
        return len(self._server.links)

    async def stop(self) -> None:
        """Be gone, as by SIGKILL."""
        if self._server is not None:
            server, self._server = self._server, None
            for link in list(server.links):
                link.abort()
            await server.stop(0)

    def say(self, target: str, said: pb.WatchResponse) -> None:
        """Say something of a target from now on."""
        self.said[target] = said
        for stream in self.streams:
            if stream.request.target == target:
                stream.queue.put_nowait(said)

    def end(self, how: Exception | None = None) -> None:
        """End the streams."""
        for stream in self.streams:
            stream.queue.put_nowait(how)

    async def watch(
        self, request: pb.WatchRequest, context: octomesh.ServerContext, /
    ) -> AsyncIterator[pb.WatchResponse]:
        stream = Stream(request, context)
        self.streams.append(stream)
        self.watched += 1
        try:
            if request.target in self.said:
                yield self.said[request.target]
            while (said := await stream.queue.get()) is not None:
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            self.streams.remove(stream)

    async def report(self, request: pb.ReportRequest, _context: octomesh.ServerContext, /) -> pb.ReportResponse:
        self.reports.put_nowait(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def register(
        self, requests: AsyncIterator[pb.RegisterRequest], _context: octomesh.ServerContext, /
    ) -> AsyncIterator[pb.RegisterResponse]:
        answers: asyncio.Queue[pb.RegisterResponse | Exception] = asyncio.Queue()
        self.registers.put_nowait(answers)
        if self.publishes:
            answers.put_nowait(pb.RegisterResponse(state=pb.RegisterResponse.STATE_PUBLISHED))

        async def read() -> None:
            async for request in requests:
                self.requests.put_nowait(request)
                if request.deregister:
                    self.withdrawing()
                    answers.put_nowait(pb.RegisterResponse(state=pb.RegisterResponse.STATE_WITHDRAWN))

        reading = asyncio.create_task(read())
        try:
            while True:
                answer = await answers.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                if answer.state == pb.RegisterResponse.STATE_WITHDRAWN:
                    return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def listening(tmp_path: Path, name: str = "proxy") -> FakeDirectory:
    """One that stands where a proxy does."""
    return await FakeDirectory().listen(f"unix:{tmp_path / name}")
