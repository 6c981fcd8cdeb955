"""One call at its server, as its connection drives it."""

from __future__ import annotations

from typing import Final

from octomesh._calls import BUDGET
from octomesh._handling.endpoint import Endpoint
from octomesh._handling.running import Running
from octomesh._wire.compression import ENCODINGS, GZIP
from octomesh._wire.frame import COMPRESSED, END, MORE, MSG, RESPONSE
from octomesh._wire.heads import RequestHeads, ResponseHead
from octomesh._wire.inbox import Inbox
from octomesh._wire.proto import HeadError
from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse
from octomesh._wire.timeout import timeout_ns
from octomesh.context import ServerContext
from octomesh.errors import from_status
from octomesh.timings import Times

HEADS: Final = RequestHeads()
_WHOLE: Final = MSG | END
_SHAPE: Final = MSG | END | MORE | COMPRESSED


class ServerCall(Running):
    """One call at its server: the connection calls its hooks, and a task of its own runs the handler."""

    __slots__ = ()

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        """Let the call in, or refuse it."""
        link = self._link
        try:
            timeout, traceparent, h = HEADS.parse(head)
            if not h.from_sdk and link.from_sdk:
                raise HeadError("a field that only a hop may set")
        except HeadError as error:
            link.conn.reset(self, refuse(Reason.BAD_HEAD, Origin.SERVER_SDK, f"the request's head: {error}"))
            link.conn.release(self)
            return
        if h.want_timings:
            self._times = Times(link.server.identity.instance.encode())
        found = link.server.find(h)
        if not isinstance(found, Endpoint):
            self._reject(found)
            return
        self.entry = found
        deadline = None
        if timeout:
            deadline = link.loop.time() + timeout_ns(timeout) / 1e9
            self.alarm = link.alarms.set(deadline, self)
        peer = link.peer if not h.caller and h.verified_caller is None else link.peer_of(h)
        self.context = ServerContext(self, h, traceparent, deadline, peer)
        if h.message_encoding:
            self.encoding = h.message_encoding
            self._wants_gzip = self.encoding == GZIP and GZIP in h.accepted_encodings
        if flags & _SHAPE == _WHOLE and not found.streams_in and len(body) <= link.server.max_receive:
            self._start(body)
            return
        self._inbox = Inbox(link.server.max_receive, BUDGET)
        self._arrived(flags, body)

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:  # noqa: ARG002
        """More of the request came."""
        self._arrived(flags, body)

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        """Never comes at this side."""

    def on_closed(self, status: Status) -> None:
        """The caller is gone, or wants it no more."""
        if status.reason == Reason.DEADLINE:
            self._expired = True
        self._cut()
        if self._task is None:
            self._link.conn.release(self)

    def on_deadline(self) -> None:
        """The caller's time is over: the handler is cancelled, and its answer is that."""
        if not self._over:
            self._expired = True
            if self._begun and self._task is not None:
                self._task.cancel()

    # Requests.

    def _arrived(self, flags: int, body: bytes) -> None:
        inbox, entry = self._inbox, self.entry
        if inbox is None:
            self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "more than one request message"))
            return
        if flags & MSG:
            reason = inbox.add(self._link.conn, self, flags, body)
            if reason:
                limit = self._link.server.max_receive
                self._break_off(refuse(reason, Origin.SERVER_SDK, f"the request has more than {limit} bytes"))
                return
        if not entry.streams_in:
            if len(inbox.waiting) > 1:
                self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "more than one request message"))
            elif self.remote_ended:
                if inbox.waiting:
                    self._start(None)
                else:
                    self._break_off(refuse(Reason.BAD_MESSAGE, Origin.SERVER_SDK, "no request message"))
        elif self._task is None:
            self._start(None)
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def _start(self, body: bytes | None) -> None:
        link = self._link
        link.conn.started(self)
        self._task = task = link.loop.create_task(self._run(body))
        if not task.done():  # a task that begins at once may be
            link.server.running.add(task)

    def _reject(self, status: Status) -> None:
        """End a call that no handler sees."""
        if self.alarm is not None:
            self._link.alarms.clear(self.alarm)
        h = ResponseHead()
        h.status = status
        if status.reason == Reason.UNKNOWN_ENCODING:
            h.accepted_encodings = ENCODINGS
        if self._times is not None:
            h.timings = self._times.stages()
        self._link.conn.send(self, RESPONSE, END, h.encode())
        self._link.conn.release(self)

    def _break_off(self, status: Status) -> None:
        """End a call whose caller broke a rule."""
        if self._task is None:
            self._over = True
            self._reject(status)
            return
        status.disposition = Disposition.PROCESSED
        self._refused = from_status(status)
        self._link.conn.reset(self, status)
        self._cut()

    def _cut(self) -> None:
        self._over = True
        if self.alarm is not None:
            self._link.alarms.clear(self.alarm)
        if self._inbox is not None:
            self._inbox.drop()
        if self._begun and self._task is not None:  # else it sees for itself, and still does what belongs to its end
            self._task.cancel()
