"""The kill switch's file, followed for all channels of a loop that name it (S-SWITCH-4)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final

from octomesh._decide.switch import MAX_FILE, Word, parse_file, word_of
from octomesh._ways.loops import PerLoop

log: Final = logging.getLogger("octomesh")

_LOOK: Final = 0.25
"""Seconds from one look at the file to the next: a change is to hold within a second."""


class SwitchFile:
    """A kill switch's file, as it was when it was looked at last. What cannot be read, or is bad, changes nothing."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self.path: Final = path
        self._loop = loop
        self._said: dict[str, Word] | None = None
        self._seen: tuple[int, ...] = ()
        self._bad = ""
        self._listeners: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def word(self, target: str) -> Word | None:
        """What it says of a target; None: nothing."""
        return None if self._said is None else word_of(self._said, target)

    def listen(self, user: object, listener: Callable[[], None]) -> None:
        """Have a listener called after each change, until `unlisten`. It must not raise."""
        self._listeners[id(user)] = listener
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._again)

    def unlisten(self, user: object) -> None:
        """End what `listen` began; with the last one the file is not looked at any more."""
        self._listeners.pop(id(user), None)
        if not self._listeners:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            _FILES.here().pop(self.path, None)

    def _again(self) -> None:
        self._timer = self._loop.call_later(_LOOK, self._again)
        before = self._said
        self._look()
        if self._said is not before:
            for listener in list(self._listeners.values()):
                listener()

    def _look(self) -> None:
        """Read the file if it has changed."""
        try:
            info = os.stat(self.path)
        except FileNotFoundError:
            if self._said is not None:
                log.info("the kill switch's file %s is gone, and says nothing any more", self.path)
            self._seen, self._bad, self._said = (), "", None
            return
        except (OSError, ValueError) as error:
            self._complain(error)
            return
        seen = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            with open(self.path, "rb") as file:
                self._said = parse_file(file.read(MAX_FILE + 1))
        except (OSError, ValueError) as error:
            self._complain(error)
            return
        self._bad = ""
        log.info("the kill switch's file %s was read, %d lines", self.path, len(self._said))

    def _complain(self, error: Exception) -> None:
        """Say once what is wrong."""
        if str(error) != self._bad:
            self._bad = str(error)
            log.error("the kill switch's file %s is bad; what it said before holds: %s", self.path, error)


_FILES: Final[PerLoop[SwitchFile]] = PerLoop()


def follow(path: str) -> SwitchFile:
    """The running loop's view of a file."""
    files = _FILES.here()
    if path not in files:
        files[path] = SwitchFile(path, asyncio.get_running_loop())
    return files[path]
