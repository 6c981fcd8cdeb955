"""One call on a connection, as the connection keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from octomesh._wire.status import Status

# What `Stream.bits` holds.
REMOTE_END: Final = 0x01
"""The peer has half-closed."""
LOCAL_END: Final = 0x02
"""This side has half-closed."""
GOT_RESPONSE: Final = 0x04
SENT_RESPONSE: Final = 0x08
IN_MESSAGE: Final = 0x10
"""A message arrives in fragments."""
OUT_MESSAGE: Final = 0x20
"""A message leaves in fragments."""
BLOCKED: Final = 0x40
"""A send waits for credit."""
STARTED: Final = 0x80
"""Handed to a handler: nobody may call it not processed any more (L-FINE-1)."""
HELD: Final = 0x100
"""Counts as held, at the side that serves: it is open, or its handler runs on (W-END-9)."""
CLOSED: Final = 0x200
RETURNED: Final = 0x400
"""Its handler has returned, while the stream was open."""


class Stream:
    """One call on a connection.

    Whoever owns calls derives from this class: its object for a call is then the connection's, too.

    A connection sets the fields when the stream is opened, so there is no `__init__`, and a derived class needs none
    for them. The hooks are called while a connection is fed; they may use the connection, and must not raise: what they
    raise comes out of `Connection.feed`, behind the frame that it was about, and goes on with the next feed.
    """

    __slots__ = ("bits", "id", "msg_got", "msg_total", "recv_pending", "recv_window", "rest", "send_credit")

    id: int
    """The stream's id."""
    bits: int
    send_credit: int
    """What the peer still lets this side send, in bytes of frame cost."""
    recv_window: int
    """What this side still lets the peer send."""
    recv_pending: int
    """Consumed and not granted yet."""
    msg_total: int
    """The announced wire length of the message that is arriving in fragments."""
    msg_got: int
    rest: tuple[int, int, bytes, bytes | memoryview]
    """What a blocked send has still to send: type, flags, head, body."""

    @property
    def remote_ended(self) -> bool:
        """The peer has half-closed."""
        return self.bits & REMOTE_END != 0

    @property
    def local_ended(self) -> bool:
        """This side has half-closed."""
        return self.bits & LOCAL_END != 0

    @property
    def receiving(self) -> bool:
        """A message is arriving in fragments."""
        return self.bits & IN_MESSAGE != 0

    @property
    def blocked(self) -> bool:
        """A send waits for credit: nothing else may be sent until `on_credit` says that it is done."""
        return self.bits & BLOCKED != 0

    @property
    def closed(self) -> bool:
        """The stream is closed: whatever is sent on it is dropped."""
        return self.bits & CLOSED != 0

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:
        """The call was opened by the peer."""
        raise NotImplementedError

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:
        """A RESPONSE came. With END the stream is closed."""
        raise NotImplementedError

    def on_message(self, flags: int, head: bytes, body: bytes) -> None:
        """A MESSAGE came."""
        raise NotImplementedError

    def on_credit(self, done: bool) -> None:
        """A send that was blocked has gone on; done: all of it is queued, and more may be sent."""

    def on_reset(self, status: Status, http2_code: int) -> None:  # noqa: ARG002  bridges want the code
        """The peer ended the stream, which is closed."""
        self.on_closed(status)

    def on_failed(self, status: Status) -> None:
        """The peer broke a rule of the stream. A RESET is queued, the stream closed."""
        self.on_closed(status)

    def on_ended(self, status: Status) -> None:
        """The connection ended or was finished, and the stream with it."""
        self.on_closed(status)

    def on_closed(self, status: Status) -> None:
        """The stream ended otherwise than by a RESPONSE: the three hooks before come to this, unless overridden."""
        raise NotImplementedError
