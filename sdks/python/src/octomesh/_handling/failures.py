"""How calls end that their handler did not end well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from octomesh._wire.status import Disposition, Origin, Reason, Status, refuse

if TYPE_CHECKING:
    from octomesh._handling.endpoint import Endpoint


class BadMessageError(Exception):
    """What arrived is no request, or what the handler gave no response."""

    def __init__(self, reason: Reason, text: str, disposition: Disposition | None = None) -> None:
        super().__init__(text)
        self.status = refuse(reason, Origin.SERVER_SDK, text)
        if disposition is not None:
            self.status.disposition = disposition


def crashed() -> Status:
    """The handler ended as no handler should. What it raised stays in the log."""
    return refuse(Reason.HANDLER_CRASHED, Origin.SERVER_SDK, "the handler crashed; see the server's log")


def past_deadline() -> Status:
    """The handler was cancelled since the caller's time is over."""
    status = refuse(Reason.DEADLINE, Origin.SERVER_SDK, "the deadline passed in the handler")
    status.disposition = Disposition.PROCESSED
    return status


def wrong_type(entry: Endpoint, given: Any, wanted: str = "") -> BadMessageError:
    """Make the error of a handler that gave something else than what is wanted; empty: a response of its method."""
    wanted = wanted or entry.respond.DESCRIPTOR.full_name
    text = f"the handler of {entry.method.full_name} gave {type(given).__qualname__}, not {wanted}"
    return BadMessageError(Reason.BAD_MESSAGE, text, Disposition.PROCESSED)
