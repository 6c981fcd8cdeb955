"""What Python's sides have in common, after tools/octobench/side: specs, samples, and calls in flight."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from google.protobuf.wrappers_pb2 import BytesValue

TARGET = "echo"
SERVICE = "octobench.Echo"
ENVIRONMENT = "bench"
# How many messages answer a call of the kind server-stream.
STREAM_MESSAGES = 100


@dataclass(frozen=True)
class Load:
    """What a client does."""

    kind: str
    size: int
    connections: int
    in_flight: int
    rate: float
    timeout: float | None  # in seconds

    def on(self, connection: int) -> int:
        """Say how many calls a connection keeps in flight."""
        return self.in_flight // self.connections + (connection < self.in_flight % self.connections)


@dataclass(frozen=True)
class Spec:
    """What a side is."""

    kind: str
    listen: str
    dial: str
    load: Load

    @staticmethod
    def parse(spec: Mapping[str, Any]) -> Spec:
        """Read what octobench says."""
        load = spec["Load"]
        timeout = load.get("Timeout", 0) / 1e9
        return Spec(
            spec["Kind"],
            spec.get("Listen", ""),
            spec.get("Dial", ""),
            Load(
                load["Kind"],
                load["Size"],
                load["Connections"],
                load["InFlight"],
                load.get("Rate", 0.0),
                timeout or None,
            ),
        )


class Exchange(Protocol):
    """A stream of messages each way."""

    async def send(self, message: BytesValue) -> None:
        """Send one."""

    async def receive(self) -> BytesValue:
        """Receive one."""


@dataclass(frozen=True)
class Caller:
    """Makes calls on one connection."""

    unary: Callable[[BytesValue], Awaitable[BytesValue]]
    server_stream: Callable[[BytesValue], AsyncIterator[BytesValue]]
    bidi: Callable[[], Awaitable[Exchange]]


@dataclass
class Side:
    """A running one."""

    stop: Callable[[], Awaitable[None]]
    address: str = ""
    counts: Counts | None = None


Start: TypeAlias = Callable[[Spec], Awaitable[Side]]

# Of the histogram: each power of two is split into so many buckets, up to 2**40 ns.
STEP_BITS = 5
STEPS = 1 << STEP_BITS
BUCKETS = (40 - STEP_BITS - 1) * STEPS + 2 * STEPS


def slot(nanoseconds: int) -> int:
    """Keep the highest STEP_BITS+1 bits of a latency."""
    exponent = max(nanoseconds.bit_length() - STEP_BITS - 1, 0)
    return min((exponent << STEP_BITS) + (nanoseconds >> exponent), BUCKETS - 1)


@dataclass
class Counts:
    """What a client has counted since its start."""

    start: int = field(default_factory=time.perf_counter_ns)
    latencies: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    messages: int = 0
    failures: int = 0
    failure: str = ""

    def failed(self, error: BaseException) -> None:
        """Count one and keep the first's text."""
        self.failures += 1
        self.failure = self.failure or f"{type(error).__name__}: {error}"

    def sample(self) -> dict[str, Any]:
        """Say it as octobench reads it."""
        return {
            "Nanoseconds": time.perf_counter_ns() - self.start,
            "Latencies": {str(i): n for i, n in enumerate(self.latencies) if n},
            "Messages": self.messages,
            "Failures": self.failures,
            "Failure": self.failure,
        }


async def start_workers(spec: Spec, callers: list[Caller], stop: Callable[[], Awaitable[None]]) -> Side:
    """Run a task for each call in flight, as users of an RPC library do."""
    counts = Counts()
    tasks: set[asyncio.Task[None]] = set()
    for i, caller in enumerate(callers):
        due: asyncio.Queue[int] | None = None
        if spec.load.rate:
            due = asyncio.Queue()
            tasks.add(asyncio.create_task(_pace(spec.load, i, counts.start, due)))
        tasks.update(asyncio.create_task(_work(spec.load, caller, due, counts)) for _ in range(spec.load.on(i)))

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stop()

    return Side(stop=end, counts=counts)


async def _pace(load: Load, connection: int, start: int, due: asyncio.Queue[int]) -> None:
    """Say when the calls of a connection are to go: its share of the rate, each connection after the one before it."""
    step = 1e9 / load.rate
    sent = connection
    while True:
        now = time.perf_counter_ns()
        while (at := start + int(sent * step)) <= now:
            due.put_nowait(at)
            sent += load.connections
        await asyncio.sleep((at - now) / 1e9)


async def _work(load: Load, caller: Caller, due: asyncio.Queue[int] | None, counts: Counts) -> None:
    """Make one call after the other, at their times if they have any, until one fails."""
    message = BytesValue(value=bytes(load.size))
    clock, latencies = time.perf_counter_ns, counts.latencies
    try:
        call = await _operation(load, caller, message, counts)
        while True:
            began = clock() if due is None else await due.get()
            await call()
            latencies[slot(clock() - began)] += 1
    except asyncio.CancelledError:
        raise
    except Exception as error:
        counts.failed(error)


async def _operation(load: Load, caller: Caller, message: BytesValue, counts: Counts) -> Callable[[], Awaitable[None]]:
    size = load.size

    def got(answer: BytesValue) -> None:
        if len(answer.value) != size:
            raise ValueError(f"an answer has {len(answer.value)} bytes")
        counts.messages += 1

    if load.kind == "unary":
        unary = caller.unary

        async def operation() -> None:
            got(await unary(message))

    elif load.kind == "server-stream":

        async def operation() -> None:
            answers = 0
            async for answer in caller.server_stream(message):
                got(answer)
                answers += 1
            if answers != STREAM_MESSAGES:
                raise ValueError(f"the stream had {answers} messages")

    else:
        exchange = await caller.bidi()

        async def operation() -> None:
            await exchange.send(message)
            got(await exchange.receive())

    return operation


async def run(start: Start, spec: Spec) -> None:
    """Run a side until the standard input ends."""
    side = await start(spec)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"Address": side.address}), flush=True)
    while await lines.readline():
        if side.counts is None:
            raise ValueError("this side has no samples")
        print(json.dumps(side.counts.sample()), flush=True)
    await side.stop()
