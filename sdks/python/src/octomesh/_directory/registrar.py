"""A server's instance is made known to the Directory, kept there, and withdrawn before it stops (D-REG)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from octo.directory.v1.directory_pb2 import RegisterRequest, RegisterResponse
from octomesh._decide.registration import Phase, Progress
from octomesh._directory.calls import REGISTER, apart, how_ended
from octomesh._directory.lines import channel
from octomesh.errors import Code, RpcError
from octomesh.registration import Registration, RegistrationStatus
from octomesh.streams import BidiStream, CallEndedError

if TYPE_CHECKING:
    from octomesh._ways.config import Config

log: Final = logging.getLogger("octomesh")

LEAVE_TIMEOUT: Final = 1.0
"""Seconds that a server that stops waits for the Directory to hear of it."""
_PHASES: Final = {
    RegisterResponse.STATE_PUBLISHED: Phase.PUBLISHED,
    RegisterResponse.STATE_SUPERSEDED: Phase.SUPERSEDED,
    RegisterResponse.STATE_WITHDRAWN: Phase.WITHDRAWN,
}

_Stream = BidiStream[RegisterRequest, RegisterResponse]


class Registrar:
    """Keeps one server registered."""

    def __init__(
        self,
        config: Config,
        registration: Registration,
        target: str,
        address: str,
        attached: asyncio.Event,
    ) -> None:
        """Begin, in the running loop.

        config names the proxy, else the Directories. address is where the server says that it listens; attached is set
        while it is attached to its proxy, and waited for where there is one.
        """
        identity = config.identity
        self._request: Final = RegisterRequest(
            environment=identity.environment,
            application=identity.application,
            instance=identity.instance,
            incarnation=identity.incarnation,
            targets=[target],
            direct_address=registration.address or address,
            zone=registration.zone,
            tags=registration.tags,
            weight=registration.weight,
        )
        self._changed: Final[Callable[[RegistrationStatus], None] | None] = registration.changed
        self._attached: Final = attached if config.proxy else None
        self._progress: Final = Progress()
        self._error: RpcError | None = None
        self._stream: _Stream | None = None
        self._leaving = False
        self._channel: Final = channel(config, by_proxy=bool(config.proxy))
        self._task: Final = apart(asyncio.get_running_loop(), self._run())

    @property
    def status(self) -> RegistrationStatus:
        """How it fares."""
        return RegistrationStatus(self._progress.phase, self._progress.reason, self._error)

    async def leave(self, timeout: float) -> None:
        """Withdraw the instance, and wait until the Directory has heard it: so many seconds at most."""
        if self._leaving:
            return
        self._leaving = True
        if self._stream is None:
            return
        withdrawing = asyncio.ensure_future(self._withdraw(self._stream))
        await asyncio.wait([self._task], timeout=min(timeout, LEAVE_TIMEOUT))
        withdrawing.cancel()
        await asyncio.gather(withdrawing, return_exceptions=True)

    async def close(self) -> None:
        """End it, whatever is said still."""
        self._leaving = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _run(self) -> None:
        """Register again and again until it is over."""
        while await self._wanted():
            self._progress.begin()
            error = await self._once()
            self._stream = None
            if error is None or self._leaving:
                return
            await asyncio.sleep(self._ended(error))

    async def _wanted(self) -> bool:
        """Wait until the server is attached, where it has a proxy. False: it stops."""
        if self._attached is not None:
            await self._attached.wait()
        return not self._leaving

    async def _once(self) -> RpcError | None:
        """One stream. None: it is over."""
        try:
            async with self._channel.bidi_stream(REGISTER, {}) as stream:
                self._stream = stream
                try:
                    await stream.send(self._request)
                    if self._leaving:
                        await self._withdraw(stream)
                except CallEndedError:
                    pass  # receiving says why
                async for message in stream:
                    if self._said(message):
                        return None
        except RpcError as error:
            return error
        return RpcError(Code.UNAVAILABLE, "the Directory ended the registration's stream")

    async def _withdraw(self, stream: _Stream) -> None:
        """Say that the instance leaves. Receiving tells whether it was heard."""
        request = self._request
        try:
            await stream.send(
                RegisterRequest(
                    environment=request.environment,
                    application=request.application,
                    instance=request.instance,
                    incarnation=request.incarnation,
                    targets=request.targets,
                    deregister=True,
                )
            )
            await stream.close_send()
        except (CallEndedError, RpcError):
            pass  # it is withdrawn, or its lease ends

    def _said(self, message: RegisterResponse) -> bool:
        """Book the Directory's word. Returns whether nothing more is to be done."""
        before = self.status
        self._error = None
        # What is not known is not a promise.
        over = self._progress.said(_PHASES.get(message.state, Phase.PENDING), message.reason)
        self._tell(before)
        return over

    def _ended(self, error: RpcError) -> float:
        """Book a stream's end, and return in how many seconds to come again."""
        before = self.status
        self._error = error
        spread = random.random()  # noqa: S311  it is only spread
        pause = self._progress.ended(how_ended(error), error.retry_after, error.message, spread)
        self._tell(before)
        return pause

    def _tell(self, before: RegistrationStatus) -> None:
        """Tell who wants to know of a change, and the log of a new trouble."""
        now = self.status
        if (before.phase, before.reason) == (now.phase, now.reason):
            return
        if now.error is not None and before.error is None:
            log.info("the instance is not registered; trying on: %s", now.error)
        if self._changed is not None:
            try:
                self._changed(now)
            except Exception:
                log.exception("a registration's changed raised")
