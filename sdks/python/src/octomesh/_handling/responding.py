"""What a server sends of a call."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from google.protobuf.message import Message

from octomesh._handling.failures import BadMessageError, wrong_type
from octomesh._handling.state import CallState
from octomesh._wire.compression import ENCODINGS, GZIP, compress
from octomesh._wire.frame import COMPRESSED, END, MESSAGE, MSG, RESPONSE
from octomesh._wire.heads import HEADERS_PRESENT, ResponseHead
from octomesh._wire.limits import MAX_SDK_HEAD
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse

_LONG_MESSAGE: Final = 8 << 10
_PROCESSED: Final = Disposition.PROCESSED


class Responding(CallState):
    """See `octomesh._handling.call.ServerCall`."""

    __slots__ = ()

    def send_headers(self) -> None:
        """Send the initial metadata alone."""
        if not self.headers_sent and not self._over:
            self._link.conn.send(self, RESPONSE, 0, self._first_head())

    def _first_head(self) -> bytes:
        self.headers_sent = True
        h = ResponseHead()
        h.headers_present, h.metadata = True, self.headers
        if self._wants_gzip:
            h.message_encoding = GZIP
        return h.encode()

    async def _send(self, response: Any) -> None:
        if not isinstance(response, self.entry.respond):
            raise wrong_type(self.entry, response)
        while self.blocked and not self._over:
            await self._credited()
        if self._over:
            raise asyncio.CancelledError
        try:
            body, flags = response.SerializeToString(), MSG
        except Exception as error:  # protobuf has its own kinds by implementation
            raise BadMessageError(
                Reason.BAD_MESSAGE, f"the response does not serialize: {error}", _PROCESSED
            ) from error
        if self._wants_gzip:
            body, flags = compress(body), MSG | COMPRESSED
        kind, head = (MESSAGE, b"") if self.headers_sent else (RESPONSE, self._first_head())
        if not self._link.conn.send(self, kind, flags, head, body):
            await self._credited()
        else:
            await self._link.drained()

    def on_credit(self, done: bool) -> None:
        """A send may go on."""
        if done:
            credit, self._credit = self._credit, None
            if credit is not None and not credit.done():
                credit.set_result(None)

    async def _credited(self) -> None:
        self._credit = self._link.loop.create_future()
        await self._credit

    def _finish(self, response: Message | None, status: Status | None) -> None:
        """Send what ends the call."""
        entry = self.entry
        body, flags = b"", END
        if status is None and not entry.streams_out:
            if not isinstance(response, entry.respond):
                status = wrong_type(entry, response).status
            else:
                try:
                    body, flags = response.SerializeToString(), MSG | END
                except Exception as error:  # protobuf has its own kinds by implementation
                    status = refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, f"the response does not serialize: {error}")
                    status.disposition = Disposition.PROCESSED
        if status is None and self._wants_gzip and flags & MSG:
            body, flags = compress(body), flags | COMPRESSED
        conn = self._link.conn
        self._over = True
        conn.send(self, RESPONSE, flags, self._final_head(status, bool(flags & COMPRESSED)), body)

    def _final_head(self, status: Status | None, compressed: bool) -> bytes:
        if status is None and not self.headers and not self.trailers and not compressed and self._times is None:
            return HEADERS_PRESENT
        h = ResponseHead()
        h.headers_present = status is None or self.headers_sent or bool(self.headers)
        h.trailers = self.trailers
        if not self.headers_sent:
            h.metadata = self.headers
            if compressed:
                h.message_encoding = GZIP
        if status is not None:
            h.status = status
            if status.reason == Reason.UNKNOWN_ENCODING:
                h.accepted_encodings = ENCODINGS
        if self._times is not None:
            h.timings = self._times.stages()
        head = h.encode()
        if len(head) > MAX_SDK_HEAD and h.timings:
            h.timings = b""
            head = h.encode()
        if len(head) > MAX_SDK_HEAD and status is not None:  # the code matters more than what explains it
            status.details = b""
            head = h.encode()
        if len(head) > MAX_SDK_HEAD:
            h.trailers = ()
            head = h.encode()
        if len(head) > MAX_SDK_HEAD and status is not None:
            status.message = status.message[:_LONG_MESSAGE]
            head = h.encode()
        return head
