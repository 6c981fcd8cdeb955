"""The state of one connection and of its streams: bytes in, hooks called, bytes out (proto/spec/wire.md, leaving.md).

Nothing here does input or output, reads a clock, or knows of threads. The owner feeds what arrived, writes what
`Connection.take` gives, ticks every half second, and calls everything from one thread. `Connection` stands in four
files, one for each class that it derives from: what it knows (state.py), what its owner does (sending.py), what its
peer does (receiving.py), and how it ends (here).

What costs time takes few operations: frames of whole messages go through one loop (`feed`), which compares the header's
first four bytes at once, and out through `open` and `send`, which queue header, head and body uncopied. All else stands
in methods beside.
"""

from __future__ import annotations

from octomesh._wire.hello import LAST_GRACEFUL, GoAway
from octomesh._wire.receiving import Receiving
from octomesh._wire.sending import NotOpenError, StreamLimitError
from octomesh._wire.state import ACCEPTOR, DIALER, OPEN, Owner, WireError
from octomesh._wire.status import Reason, Status, refuse
from octomesh._wire.stream import STARTED, Stream

__all__ = ["ACCEPTOR", "DIALER", "Connection", "NotOpenError", "Owner", "StreamLimitError", "WireError"]


class Connection(Receiving):
    """One side of a connection: a state machine between bytes and hooks.

    A dialer calls `hello` first, an acceptor waits for `Owner.on_hello`. After `feed` has raised `WireError`: call
    `abort`, write what `take` still gives, and close.
    """

    __slots__ = ()

    def leave(self, code: int, message: str = "") -> None:
        """Asks the peer to move, by GOAWAY_DRAINING or GOAWAY_ID_EXHAUSTED.

        Open calls and those that still arrive are served; nothing is permitted to be sent again (L-GRACE-1).
        """
        if not self.leaves and self._phase == OPEN:
            self._go_away(GoAway(code, LAST_GRACEFUL, message=message.encode()))

    def finish(self, code: int, message: str = "") -> None:
        """The drain deadline (L-FINAL).

        At the side that serves, streams that were not started are refused, so that they may go again, and a final
        GOAWAY says that of the others the end is not known. The side that opens calls resets its streams and says
        DRAINED (L-FINAL-6). The connection carries nothing any more; `Stream.on_ended` tells each open stream.
        """
        if self._phase != OPEN:
            return
        refused, lost = Reason.PROXY_DRAINING, Reason.DRAIN_DEADLINE
        ended = [
            (s, refuse(lost if self.opens or s.bits & STARTED else refused, self.origin, message))
            for s in self.streams()
        ]
        for s, status in ended:
            if self.opens or not s.bits & STARTED:
                self.reset(s, status)
            else:
                self._remove(s)
        while self._delayed:  # no call is left that it could harm
            self._resets = 0
            self._send_delayed()
        if self._refusals:  # nothing may follow the last word
            self._flush_refusals()
        if self.opens:
            self.drained()
        else:
            self._go_away(GoAway(code, self._started, final=True, message=message.encode()))
        self._end()
        for s, status in ended:
            s.on_ended(status)

    def abort(self) -> None:
        """The connection ends here: closes every open stream, and tells each by `Stream.on_ended` what is known of it.

        What is queued may still be written.
        """
        self._end()
        for s in self.streams():
            status = self._verdict(s)
            self._remove(s)
            s.on_ended(status)

    def lost(self, *, unwritten: bool) -> None:
        """`abort` for a connection that has ended, to which nothing more is written.

        Streams of which nothing was, surely were not processed. unwritten: the socket took nothing of what `take`
        returned last.
        """
        self._unwritten = self._before if unwritten else self._taken  # ids are opened, and written, in their order
        self.abort()

    def _verdict(self, s: Stream) -> Status:
        """What is known of a stream whose connection ended.

        One above the last of a final GOAWAY was surely not processed (L-FINAL-3), nor one of which nothing was written
        (W-CONN-4); of all others nobody can say.
        """
        if not self.got_final:
            if self.opens and s.id > self._unwritten:
                return refuse(Reason.PROXY_UNREADY, self.origin, "the connection was lost before it took the call")
            return refuse(Reason.CONNECTION_LOST, self.origin, "the connection was lost")
        if s.id > self._final_last:
            return refuse(Reason.PROXY_DRAINING, self.origin, "the peer left before it took the call")
        return refuse(Reason.DRAIN_DEADLINE, self.origin, "the peer left, its drain deadline had passed")
