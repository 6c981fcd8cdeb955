"""What a Directory has said of targets, kept on disk to start from when nobody answers (D-WATCH-11).

A folder may be shared by processes, and by SDKs of other languages: each file is written beside its place, synced and
renamed, and one that is not whole is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from typing import Final
from urllib.parse import quote_plus

from google.protobuf.message import DecodeError

from octo.directory.v1.directory_pb2 import Saved, WatchResponse

_MAGIC: Final = b"octo-target-1\n"
"""Begins each file, and names its format."""
_SUM: Final = hashlib.sha256().digest_size
_GENERATIONS: Final = 3
"""How many files are kept of a target."""
_LOOKS: Final = 10
"""How often files are listed that are gone when they are to be read, since others write newer ones."""
_MAX_SIZE: Final = 16 << 20
"""Bytes of a file: about a hundred thousand instances."""
_LEFT_AFTER: Final = 60.0
"""Seconds after which a file that was begun and not finished is somebody's who is dead."""
_BESIDE: Final = "new-"
_MAX_NUMBER: Final = (1 << 64) - 1


def load(
    folder: str, environment: str, application: str, target: str, now: float
) -> tuple[WatchResponse | None, list[str]]:
    """Return the newest that is whole of what was kept of a target, as from the disk and with its age; None: nothing.

    With it comes what is to be said of files that were passed over. now is the host's clock, in seconds since 1970.
    """
    place = _place(folder, environment, application, target)
    for _ in range(_LOOKS):
        found, problems, gone = _look(place, (environment, target, application), now)
        if found is not None or not gone:
            break
    return found, problems


def _look(place: str, of: tuple[str, str, str], now: float) -> tuple[WatchResponse | None, list[str], bool]:
    """Look once. The last word says that files were listed, and not there any more: another process has newer ones."""
    try:
        numbers = _numbers(place)
    except OSError as error:
        return None, [str(error)], False
    problems, gone = [], False
    for number in numbers:
        path = os.path.join(place, str(number))
        try:
            saved = _read(path)
            if (saved.snapshot.environment, saved.snapshot.target, saved.application) != of:
                raise ValueError("it is of another target, application or environment")
        except FileNotFoundError:
            gone = True
            continue
        except (OSError, ValueError, DecodeError) as error:
            problems.append(f"{path}: {error}")
            continue
        found = saved.snapshot
        found.source = WatchResponse.SOURCE_DISK
        since = int(now * 1000) - saved.written_unix_ms
        if since > 0:  # else the clock was set back
            found.age_ms = min(found.age_ms + since, _MAX_NUMBER)
        return found, problems, False
    return None, problems, gone


def save(folder: str, application: str, known: WatchResponse, now: float) -> None:
    """Keep what is known of the target that it names, and remove generations that are too old.

    Raises `OSError`, and `ValueError` for what is too large. It waits for the disk: call it in a thread.
    """
    content = Saved(written_unix_ms=int(now * 1000), application=application, snapshot=known).SerializeToString()
    size = len(_MAGIC) + _SUM + len(content)
    if size > _MAX_SIZE:
        raise ValueError(f"it has {size} bytes, at most {_MAX_SIZE} are kept")
    place = _place(folder, known.environment, application, known.target)
    _make(place)
    numbers = _numbers(place)
    path = os.path.join(place, str(numbers[0] + 1 if numbers else 1))
    _write(place, path, _MAGIC + hashlib.sha256(content).digest() + content)
    for number in numbers[_GENERATIONS - 1 :]:
        with contextlib.suppress(FileNotFoundError):  # another process may have been first
            os.remove(os.path.join(place, str(number)))
    _sweep(place, now)


def _place(folder: str, environment: str, application: str, target: str) -> str:
    """The folder of a target's files. Names become parts of paths that mean nothing to the file system."""
    return os.path.join(
        folder, f"env-{_escaped(environment)}", f"app-{_escaped(application)}", f"target-{_escaped(target)}"
    )


def _make(folder: str) -> None:
    """Make a folder and those above it, which nobody else may change."""
    try:
        os.mkdir(folder, 0o750)
    except FileExistsError:
        pass
    except FileNotFoundError:
        above = os.path.dirname(folder)
        if above in ("", folder):
            raise
        _make(above)
        _make(folder)


def _escaped(name: str) -> str:
    return quote_plus(name, errors="surrogateescape")


def _numbers(place: str) -> list[int]:
    """The generations in a folder, the newest first."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return []
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) <= 20]
    return sorted((n for n in numbers if n <= _MAX_NUMBER), reverse=True)


def _read(path: str) -> Saved:
    size = os.stat(path).st_size
    if size > _MAX_SIZE:
        raise ValueError(f"{size} bytes, at most {_MAX_SIZE}")
    with open(path, "rb") as f:
        data = f.read(_MAX_SIZE + 1)
    if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + _SUM:
        raise ValueError("not what is known of a target, or cut off")
    begin = len(_MAGIC) + _SUM
    if hashlib.sha256(data[begin:]).digest() != data[len(_MAGIC) : begin]:
        raise ValueError("its content is not what was written: the checksum differs")
    return Saved.FromString(data[begin:])


def _write(place: str, path: str, data: bytes) -> None:
    """Write beside the place, sync, and rename."""
    file, beside = tempfile.mkstemp(prefix=_BESIDE, dir=place)
    try:
        with os.fdopen(file, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException:
        os.remove(beside)
        raise
    with contextlib.suppress(OSError):  # the rename, too, survives a crash of the host
        directory = os.open(place, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _sweep(place: str, now: float) -> None:
    """Remove what a process that ended while it wrote has left."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_BESIDE) and now - entry.stat().st_mtime > _LEFT_AFTER:
                os.remove(entry.path)
