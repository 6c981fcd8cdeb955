"""Many calls that are alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from octo.conformance.v1 import control_pb2 as control
from octo.conformance.v1 import service_pb2 as service

from octo.wire.v1 import head_pb2
from testee.client import INLINE, data

if TYPE_CHECKING:
    from testee.control import Testee

SINGLE = (head_pb2.CALL_KIND_UNARY, head_pb2.CALL_KIND_CLIENT_STREAM)
"""The kinds with exactly one response."""


class Batch:
    """A batch that runs."""

    def __init__(self, testee: Testee, do: control.RunBatch) -> None:
        self._testee = testee
        self._do = do
        self._next = 0
        self._finished = False
        self._elapsed: list[int] = []
        self._failed: dict[tuple[int, ...], control.BatchOutcome] = {}
        self._meshed: list[int] = []  # of each thousand calls, by the mesh
        self._values: dict[int, set[int]] = {control.PATH_MESH: set(), control.PATH_DIRECT: set()}
        self._result = control.BatchResult()

    def finish(self) -> None:
        """Begin no more calls."""
        self._finished = True

    async def run(self) -> control.BatchResult:
        """Make all calls, so many at a time, with the code that makes a single one."""
        name = self._do.call.call_id
        self._testee.batches[name] = self
        try:
            await asyncio.gather(*(self._work() for _ in range(max(self._do.in_flight, 1))))
        finally:
            del self._testee.batches[name]
        result, elapsed = self._result, sorted(self._elapsed)
        result.calls = self._next
        result.mesh_by_thousand.extend(self._meshed)
        result.mesh_values.extend(sorted(self._values[control.PATH_MESH]))
        result.direct_values.extend(sorted(self._values[control.PATH_DIRECT]))
        result.failed.extend(sorted(self._failed.values(), key=lambda f: min(f.calls)))
        if elapsed:
            result.min_us, result.p50_us = elapsed[0], elapsed[len(elapsed) // 2]
            result.p99_us = elapsed[len(elapsed) * 99 // 100]
        return result

    async def _work(self) -> None:
        while not self._finished and (not self._do.calls or self._next < self._do.calls):
            n = self._next
            self._next += 1
            try:
                result = await self._testee.call(self._call(n))
            except BaseException:
                self._finished = True
                raise
            self._add(n, result)

    def _call(self, n: int) -> control.RunCall:
        call = control.RunCall()
        call.CopyFrom(self._do.call)
        call.call_id = f"{call.call_id}-{n}"
        if self._do.HasField("vary"):
            value = f"v{n % max(self._do.vary.values, 1)}"
            if self._do.vary.what == control.Vary.WHAT_HASH_KEY:
                call.options.hash_key = value
            else:
                call.options.metadata.add(key="conformance-value", value=value.encode())
        return call

    def _add(self, n: int, result: control.CallResult) -> None:
        status = result.status
        if status.code == 0 and self._as_ordered(result):
            self._elapsed.append(result.elapsed_us)
            self._went(n, result.path)
            return
        key = (status.code, status.reason, status.origin, status.disposition)
        if key not in self._failed:
            self._failed[key] = control.BatchOutcome(status=status)
        self._failed[key].calls.append(n)

    def _went(self, n: int, path: int) -> None:
        """Note which way a call took that ended OK."""
        while len(self._meshed) <= n // 1000:
            self._meshed.append(0)
        if path == control.PATH_MESH:
            self._result.mesh += 1
            self._meshed[n // 1000] += 1
        elif path == control.PATH_DIRECT:
            self._result.direct += 1
        if self._do.HasField("vary") and path in self._values:
            self._values[path].add(n % max(self._do.vary.values, 1))

    def _as_ordered(self, result: control.CallResult) -> bool:
        """Tell whether the responses are those of the definition.

        Those of a server that has a definition of its own are not known here, but for their number.
        """
        call: control.RunCall = self._do.call
        definition: service.ResponseDefinition = call.response
        want = [data(p) for p in call.requests] if definition.echo else []
        last = len(definition.responses) - 1
        for i, payload in enumerate(definition.responses):
            want += [data(payload)] * (1 + (definition.repeat if i == last else 0))
        if call.kind in SINGLE:
            want = [b"".join(want[: len(call.requests)])] if definition.echo else (want[:1] or [b""])
        if definition.at:
            return len(result.responses) == len(want)
        return len(result.responses) == len(want) and all(
            got.size == len(w) and (len(w) > INLINE or got.data == w)
            for got, w in zip(result.responses, want, strict=True)
        )
