"""Commands and reports."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections import defaultdict

from google.protobuf.message import Message
from octo.conformance.v1 import control_pb2 as control

import octomesh
from testee.batch import Batch
from testee.client import Running, connect
from testee.server import Serving

MAX_FRAME = 64 << 20
"""Bytes of a command: the largest carries a few messages of 4 MiB by size, not by data."""
DRAIN = 2.0
"""Seconds that open calls may go on once the runner has gone."""


def frame(message: Message) -> bytes:
    """A message behind its length."""
    data = message.SerializeToString()
    return len(data).to_bytes(4, "big") + data


class Ledger:
    """The connection to the runner's ledger. What is told has left this process before the handler goes on."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._lock = threading.Lock()

    def write(self, message: Message) -> None:
        """Tell an entry, whole."""
        with self._lock:
            self._socket.sendall(frame(message))


class Testee:
    """Both roles."""

    def __init__(self, out: int) -> None:
        self._out = out
        self.channels: dict[str, octomesh.Channel] = {}
        self.servers: dict[str, Serving] = {}
        self.calls: dict[str, Running] = {}
        self.batches: dict[str, Batch] = {}
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.handlers = 0
        self._ledgers: dict[str, Ledger] = {}

    def ledger(self, address: str) -> Ledger:
        """Return the connection to a ledger."""
        if address not in self._ledgers:
            self._ledgers[address] = Ledger(address)
        return self._ledgers[address]

    def channel(self, name: str) -> octomesh.Channel:
        """Return a channel that Connect has made."""
        try:
            return self.channels[name]
        except KeyError:
            raise LookupError(f"no channel {name!r}") from None

    async def run(self) -> None:
        """Carry out commands until the runner closes their pipe."""
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader(limit=MAX_FRAME)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        hello = control.Hello(
            control_version=1,
            language="python",
            sdk_version=octomesh.__version__,
            protocol_min=1,
            protocol_max=1,
        )
        self._report(control.Report(hello=hello))
        tasks: set[asyncio.Task[None]] = set()
        while True:
            try:
                size = int.from_bytes(await commands.readexactly(4), "big")
                if size > MAX_FRAME:
                    raise ValueError(f"a command of {size} bytes, at most {MAX_FRAME}")
                command = control.Command.FromString(await commands.readexactly(size))
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                break
            task = loop.create_task(self._carry_out(command))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for channel in self.channels.values():
            await channel.close()
        await asyncio.gather(*(s.server.stop(DRAIN) for s in self.servers.values()))

    def _report(self, report: control.Report) -> None:
        data = memoryview(frame(report))
        while data:
            data = data[os.write(self._out, data) :]

    async def _carry_out(self, command: control.Command) -> None:
        try:
            report = await self._do(command)
        except Exception as error:
            report = control.Report(failure=f"{type(error).__name__}: {error}")
        report.id = command.id
        self._report(report)

    async def _do(self, command: control.Command) -> control.Report:
        match command.WhichOneof("command"):
            case "start_server":
                serving = Serving(self, command.start_server)
                address = await serving.start()
                self.servers[command.start_server.name] = serving
                return control.Report(started=control.Started(address=address))
            case "stop_server":
                server = self.servers.pop(command.stop_server.name).server
                whole = await server.stop(command.stop_server.drain_ms / 1000)
                return control.Report(done=control.Done(cut=not whole))
            case "connect":
                self.channels[command.connect.channel] = connect(command.connect)
            case "run_call":
                return control.Report(call_result=await self.call(command.run_call))
            case "run_batch":
                batch = Batch(self, command.run_batch)
                return control.Report(batch_result=await batch.run())
            case "signal":
                self._signal(command.signal)
            case "get_stats":
                stats = control.Stats(handlers=self.handlers, calls=len(self.calls))
                return control.Report(stats=stats)
            case _:
                raise ValueError("unknown command")
        return control.Report(done=control.Done())

    async def call(self, do: control.RunCall) -> control.CallResult:
        """Make one call, to its end."""
        running = Running(self.channel(do.channel), do)
        self.calls[do.call_id] = running
        try:
            return await running.run()
        finally:
            del self.calls[do.call_id]

    def _signal(self, signal: control.Signal) -> None:
        """Change a call that runs here, as its caller or as its handler."""
        kind, call_id = signal.kind, signal.call_id
        if kind == control.Signal.KIND_RELEASE:
            self.gates[call_id].set()
        elif call_id in self.batches:
            self.batches[call_id].finish()
            if kind == control.Signal.KIND_CANCEL:
                for name, running in self.calls.items():
                    if name.startswith(f"{call_id}-"):
                        running.cancel()
        elif call_id not in self.calls:
            raise LookupError(f"no call {call_id} runs here")
        elif kind == control.Signal.KIND_CANCEL:
            self.calls[call_id].cancel()
        else:
            self.calls[call_id].resumed.set()
