"""The caller."""

from __future__ import annotations

import asyncio
import hashlib
import time
from functools import partial
from typing import Any, Protocol

from octo.conformance.v1 import control_pb2 as control
from octo.conformance.v1 import service_pb2 as service

import octomesh
from octo.wire.v1 import head_pb2, status_pb2

INLINE = 64 << 10
"""Up to where a response goes to the runner whole."""

REQUEST, RESPONSE = service.CallRequest, service.CallResponse
CLIENT_STREAM = head_pb2.CALL_KIND_CLIENT_STREAM
PATHS = {
    octomesh.Path.NONE: control.PATH_UNSPECIFIED,
    octomesh.Path.MESH: control.PATH_MESH,
    octomesh.Path.DIRECT: control.PATH_DIRECT,
}
KINDS = {
    head_pb2.CALL_KIND_UNARY: octomesh.Kind.UNARY,
    head_pb2.CALL_KIND_SERVER_STREAM: octomesh.Kind.SERVER_STREAMING,
    CLIENT_STREAM: octomesh.Kind.CLIENT_STREAMING,
    head_pb2.CALL_KIND_BIDI_STREAM: octomesh.Kind.BIDI_STREAMING,
}


def connect(c: control.Connect) -> octomesh.Channel:
    """Make the channel of a Connect."""
    make = partial(
        octomesh.Channel,
        c.target,
        environment=c.environment,
        application=c.application,
        tls=files(c),
        server_identity=c.tls.peer,
    )
    if c.HasField("ways"):
        ways = c.ways
        return make(
            mode="auto",
            socket=ways.socket,
            direct=ways.direct,
            directory=ways.directories,
            state=ways.state,
            switch_file=ways.switch_file,
            permille=ways.permille if ways.HasField("permille") else None,
            fallback=not ways.no_fallback,
            zone=ways.zone,
        )
    if c.socket:
        return make(mode="on", socket=c.socket)
    return make(mode="off", direct=[c.direct])


def files(c: control.Connect | control.StartServer) -> octomesh.TLS | None:
    """The files of a command, if it wants TLS."""
    return octomesh.TLS(c.tls.certificate, c.tls.key, c.tls.authorities) if c.HasField("tls") else None


def data(payload: service.Payload) -> bytes:
    """What a payload stands for."""
    if not payload.size:
        return payload.data
    return (bytes(range(251)) * (payload.size // 251 + 1))[: payload.size]


def entries(metadata: list[tuple[str, str | bytes]]) -> list[service.Entry]:
    """Metadata as the runner has it."""
    return [service.Entry(key=k, value=v if isinstance(v, bytes) else v.encode()) for k, v in metadata]


def value(entry: service.Entry) -> str | bytes:
    """An entry's value as a user would give it."""
    return entry.value if entry.key.endswith("-bin") else entry.value.decode("utf-8", "surrogateescape")


class Receiving(Protocol):
    """A stream of responses."""

    async def receive(self) -> service.CallResponse | None:
        """Return the next."""


class Running:
    """One call that runs."""

    def __init__(self, channel: octomesh.Channel, do: control.RunCall) -> None:
        self._channel = channel
        self._do = do
        self._result = control.CallResult()
        self._info = octomesh.CallInfo()
        self._task: asyncio.Task[None] | None = None
        self.resumed = asyncio.Event()

    def cancel(self) -> None:
        """Cancel it, as its caller."""
        if self._task is not None:
            self._task.cancel()
            if self._do.options.cancel_twice:
                self._task.cancel()

    async def run(self) -> control.CallResult:
        """Run it to its end."""
        begin = time.monotonic_ns()
        options = self._do.options
        with octomesh.trace_context(options.traceparent, options.tracestate):
            self._task = asyncio.create_task(self._run())
        try:
            await self._task
        except asyncio.CancelledError:
            self._result.status.CopyFrom(
                control.Outcome(
                    code=octomesh.Code.CANCELLED,
                    reason=status_pb2.REASON_CANCELLED,
                    origin=status_pb2.ORIGIN_CLIENT_SDK,
                    message="cancelled",
                    native=True,
                )
            )
        except octomesh.RpcError as error:
            self._result.status.CopyFrom(outcome(error))
        except Exception as error:
            text = f"not the SDK's error: {type(error).__name__}: {error}"
            self._result.status.CopyFrom(control.Outcome(code=octomesh.Code.UNKNOWN, message=text))
        self._result.elapsed_us = (time.monotonic_ns() - begin) // 1000
        if options.cancel_after_end:
            self.cancel()
        self._result.status.SetInParent()
        return self._result

    def _options(self) -> octomesh.CallOptions:
        o, do = self._do.options, self._do
        options = octomesh.CallOptions(
            metadata=[
                ("conformance-call-id", do.call_id),
                ("conformance-response-bin", do.response.SerializeToString()),
                *((e.key, value(e)) for e in o.metadata),
            ],
            baggage={e.key: value(e) for e in o.baggage},
            wait_for_ready=o.wait_for_ready,
            hash_key=o.hash_key,
            compression=o.compression,
            max_receive=o.max_receive,
        )
        if o.HasField("timeout_us"):
            options["timeout"] = o.timeout_us / 1e6
        if o.idempotent:
            options["idempotent"] = True
        return options

    async def _run(self) -> None:
        """Make the call by its kind, not by its name: a case may call what does not exist."""
        do = self._do
        kind = KINDS[do.kind]
        method = octomesh.Method(do.service, do.method, kind, REQUEST, RESPONSE)
        options = self._options()
        if kind is octomesh.Kind.UNARY:
            options["info"] = self._info
            try:
                self._took(await self._channel.unary(method, self._request(0), options))
            finally:
                self._met(self._info.headers, self._info.trailers, self._info.path)
        elif kind is octomesh.Kind.SERVER_STREAMING:
            responses = self._channel.server_stream(method, self._request(0), options)
            try:
                await self._receive(responses, None)
            finally:
                self._met(responses.received_headers, responses.trailers, responses.path)
        elif kind is octomesh.Kind.CLIENT_STREAMING:
            requests = self._channel.client_stream(method, options)
            try:
                await self._send(requests, None)
                if do.options.keep_open:
                    await asyncio.Event().wait()
                self._took(await requests.close_and_receive())
            finally:
                self._result.unsent = requests.unsent
                self._met(requests.received_headers, requests.trailers, requests.path)
        else:
            await self._bidi(method, options)

    async def _bidi(self, method: octomesh.Method[Any, Any], options: octomesh.CallOptions) -> None:
        stream = self._channel.bidi_stream(method, options)
        try:
            await self._send(stream, stream if self._do.options.full_duplex else None)
            if not self._do.options.keep_open:
                await stream.close_send()
            await self._receive(stream, None)
        finally:
            self._result.unsent = stream.unsent
            self._met(stream.received_headers, stream.trailers, stream.path)

    def _request(self, i: int) -> service.CallRequest:
        requests = self._do.requests
        request = REQUEST(data=data(requests[i]) if i < len(requests) else b"")
        if i == 0 and self._do.unknown_fields:
            request.MergeFromString(self._do.unknown_fields)
        return request

    async def _send(self, stream: Any, turns: Receiving | None) -> None:
        """Send all requests; receiving tells why it could not."""
        await stream.open()
        requests = self._do.requests
        for i in range(len(requests) + self._do.options.repeat):
            try:
                await stream.send(self._request(min(i, len(requests) - 1)))
            except octomesh.CallEndedError:
                return
            if turns is not None:
                try:
                    await self._receive(turns, 1)
                except octomesh.RpcError:
                    return
        if self._do.options.cancel_before_half_close:
            stream.cancel()

    async def _receive(self, stream: Receiving, count: int | None) -> None:
        """Take responses: so many, or all."""
        o, responses = self._do.options, self._result.responses
        while count is None or count > 0:
            if o.HasField("cancel_after_responses") and o.cancel_after_responses == len(responses):
                self.cancel()
                await asyncio.sleep(0)
            if o.HasField("pause_after_responses") and o.pause_after_responses == len(responses):
                await self.resumed.wait()
            response = await stream.receive()
            if response is None:
                return
            self._took(response)
            if count is not None:
                count -= 1

    def _took(self, response: service.CallResponse) -> None:
        got = control.Received(size=len(response.data))
        plain = RESPONSE(data=response.data)
        unknown = response.SerializeToString()[len(plain.SerializeToString()) :]
        got.unknown_fields = unknown
        if len(response.data) <= INLINE:
            got.data = response.data
        else:
            got.sha256 = hashlib.sha256(response.data).digest()
        self._result.responses.append(got)

    def _met(
        self, headers: list[tuple[str, str | bytes]], trailers: list[tuple[str, str | bytes]], path: octomesh.Path
    ) -> None:
        self._result.path = PATHS[path]
        self._result.headers.extend(entries(headers))
        self._result.trailers.extend(entries(trailers))


def outcome(error: octomesh.RpcError) -> control.Outcome:
    """The SDK's error, field by field."""
    return control.Outcome(
        code=error.code,
        reason=error.reason,  # type: ignore[arg-type]
        origin=error.origin,  # type: ignore[arg-type]
        disposition=error.disposition,  # type: ignore[arg-type]
        message=error.message,
        details=[service.Detail(type_url=d.type_url, value=d.value) for d in error.details],
        accepted_encodings=error.accepted_encodings,
        native=isinstance(error, TimeoutError) or error.code == octomesh.Code.CANCELLED,
    )
