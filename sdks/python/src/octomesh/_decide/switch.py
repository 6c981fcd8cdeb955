"""Who says which share of the calls takes the mesh (S-SWITCH; vectors: switch.json)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from octomesh._decide.ratio import WHOLE

MAX_FILE: Final = 1 << 20
"""Bytes of a kill switch's file."""
EVERY: Final = "*"
"""The name that stands for all targets without a line of their own."""


class Mode(Enum):
    """Which ways calls may take at all."""

    AUTO = "auto"
    """Both, by the share."""
    ON = "on"
    """The mesh alone: nothing falls back."""
    OFF = "off"
    """Direct alone: nothing goes to a proxy."""


class By(Enum):
    """Whose word a decision goes by, the first before the others."""

    TARGET = "target"
    """The target's policy forbids direct calls."""
    FILE = "file"
    ENVIRONMENT = "environment"
    CONSOLE = "console"
    DEFAULT = "default"


class Word(NamedTuple):
    """What somebody on this host says of a target, by a file or the environment."""

    mode: Mode = Mode.AUTO
    permille: int | None = None
    """The share, where mode is AUTO; None with AUTO: nobody on this host is to have a word."""


class Decision(NamedTuple):
    """What holds for new calls."""

    mode: Mode
    permille: int
    by: By


def parse_word(text: str) -> Word:
    """Reads a permille, `on`, `off` or `auto`. Raises ValueError."""
    if text in ("on", "off", "auto"):
        return Word(Mode(text))
    if (
        text.isascii()
        and text.isdecimal()
        and (text == "0" or text[0] != "0")
        and len(text) <= 4
        and int(text) <= WHOLE
    ):
        return Word(permille=int(text))
    raise ValueError(f"{text!r} is neither a permille from 0 to 1000 nor on, off or auto")


def parse_file(text: bytes) -> dict[str, Word]:
    """Reads a kill switch's file (S-SWITCH-4): a line for each target, or `*` for all others, with a word.

    One bad line makes the whole file bad. Raises ValueError, which names the line.
    """
    if len(text) > MAX_FILE:
        raise ValueError(f"{len(text)} bytes, at most {MAX_FILE}")
    said: dict[str, Word] = {}
    for number, line in enumerate(text.decode(errors="surrogateescape").split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"line {number}: want a target, or *, and a permille, on, off or auto")
        if words[0] in said:
            raise ValueError(f"line {number}: {words[0]} has a line already")
        try:
            said[words[0]] = parse_word(words[1])
        except ValueError as e:
            raise ValueError(f"line {number}: {e}") from None
    return said


def word_of(file: Mapping[str, Word], target: str) -> Word | None:
    """What a file says of a target; None: nothing."""
    return file.get(target) or file.get(EVERY)


def parse_environment(mode: str | None, permille: str | None) -> Word | None:
    """What OCTO_MODE and, where that says nothing, OCTO_PERMILLE say; None: nothing (S-SWITCH-3).

    `auto` says nothing there. Raises ValueError, which names the variable.
    """
    if mode not in (None, "", "auto"):
        if mode not in ("on", "off"):
            raise ValueError(f"OCTO_MODE: {mode!r} is none of on, off and auto")
        return Word(Mode(mode))
    if not permille:
        return None
    try:
        word = parse_word(permille)
    except ValueError:
        word = Word()
    if word.permille is None:
        raise ValueError(f"OCTO_PERMILLE: {permille!r} is no permille from 0 to 1000")
    return word


def decide(file: Word | None, environment: Word | None, console: int | None, forbidden: bool) -> Decision:
    """Puts the words in their order (S-SWITCH-1).

    The target's own policy (forbidden: no direct calls), the kill switch by file and by environment, the console's
    switch (its permille; None: nobody has set one), and that all calls take the mesh.
    """
    d = _local(file, environment)
    if d is None and console is not None:
        d = Decision(Mode.AUTO, min(console, WHOLE), By.CONSOLE)
    if d is None:
        d = Decision(Mode.AUTO, WHOLE, By.DEFAULT)
    if forbidden and (d.mode is not Mode.ON or d.permille < WHOLE):
        return Decision(Mode.ON, WHOLE, By.TARGET)
    return d


def _local(file: Word | None, environment: Word | None) -> Decision | None:
    """What is said on this host; None if nothing is."""
    for word, by in ((file, By.FILE), (environment, By.ENVIRONMENT)):
        if word is None:
            continue
        if word.mode is Mode.AUTO:
            return None if word.permille is None else Decision(Mode.AUTO, min(word.permille, WHOLE), by)
        return Decision(word.mode, WHOLE if word.mode is Mode.ON else 0, by)
    return None


def scaled(permille: int, tenths: int) -> int:
    """The share while the mesh returns: tenths of what it is to be (S-STATE-8)."""
    return permille * tenths // 10
