"""What is kept of targets on disk, as sdks/go/internal/state keeps it: both languages read each other's files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from octo.directory.v1.directory_pb2 import Endpoint, MeshSwitch, WatchResponse
from octomesh import _state
from vectors import each

NOON = 1_700_000_000.0


def snapshot(target: str, address: str) -> WatchResponse:
    return WatchResponse(
        environment="test",
        target=target,
        state=WatchResponse.STATE_PRESENT,
        age_ms=500,
        endpoints=[Endpoint(instance="a", direct_address=address, weight=100, direct_healthy=True)],
        mesh_switch=MeshSwitch(permille=50, revision=7),
    )


def save(folder: Path, known: WatchResponse) -> None:
    _state.save(str(folder), "cart", known, NOON)


def load(folder: Path, target: str, later: float = 0.0) -> tuple[WatchResponse | None, list[str]]:
    return _state.load(str(folder), "test", "cart", target, NOON + later)


@pytest.mark.parametrize("target", ["shop.stock", "..", "../up", "a/b", "mit leer", "*", "größe"])
def test_what_was_kept_comes_back_with_its_age(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "kept"
    known = snapshot(target, "10.0.0.1:7000")
    save(folder, known)
    got, problems = load(folder, target, 3600)
    assert got is not None
    assert problems == []
    assert (got.source, got.age_ms) == (WatchResponse.SOURCE_DISK, 500 + 3_600_000)
    got.source, got.age_ms = known.source, known.age_ms
    assert got == known
    back, _ = load(folder, target, -3600)
    assert back is not None
    assert back.age_ms == 500, "the clock was set back"
    assert os.listdir(tmp_path) == ["kept"], "nothing is written outside of the folder"
    for environment, application, other in (
        ("prod", "cart", target),
        ("test", "web", target),
        ("test", "cart", "shop.mail"),
    ):
        assert _state.load(str(folder), environment, application, other, NOON) == (None, [])


@each("state.json")
def test_the_files_are_those_of_other_languages(tmp_path: Path, given: dict[str, Any], want: dict[str, Any]) -> None:
    path = tmp_path / want["path"]
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes.fromhex(given["file"]))
    who = given["environment"], given["application"], given["target"]
    written = int(want.get("written_unix_ms", 0))
    got, problems = _state.load(str(tmp_path), *who, written / 1000 + 1)
    if not want["whole"]:
        assert got is None
        assert len(problems) == 1
        return
    assert problems == []
    assert got is not None
    assert (got.age_ms, got.mesh_switch.permille) == (500 + 1000, want["permille"])
    assert [e.direct_address for e in got.endpoints] == [want["address"]]
    _state.save(str(tmp_path), given["application"], got, NOON)
    assert sorted(p.name for p in path.parent.iterdir()) == ["1", "2"]


def test_nobody_else_may_write_there(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b", snapshot("stock", "10.0.0.1:1"))
    made = [path for path in (tmp_path / "a").rglob("*") if path.is_dir()]
    assert len(made) == 4
    assert all(path.stat().st_mode & 0o777 & ~0o750 == 0 for path in made)


def test_what_is_not_whole_is_never_loaded(tmp_path: Path) -> None:
    save(tmp_path, snapshot("stock", "10.0.0.1:1"))
    save(tmp_path, snapshot("stock", "10.0.0.2:2"))
    newest = tmp_path / "env-test" / "app-cart" / "target-stock" / "2"
    whole = newest.read_bytes()

    def check(data: bytes) -> None:
        newest.write_bytes(data)
        got, problems = load(tmp_path, "stock")
        assert got is not None
        assert got.endpoints[0].direct_address == "10.0.0.1:1"
        assert len(problems) == 1
        assert problems[0].startswith(f"{newest}: ")

    for i in range(len(whole)):
        check(whole[:i])
        check(whole[:i] + bytes([whole[i] ^ 0x40]) + whole[i + 1 :])
    check(whole + b"\0")
    os.truncate(newest, (16 << 20) + 1)
    got, problems = load(tmp_path, "stock")
    assert got is not None
    assert "at most" in problems[0]


def test_a_folder_that_cannot_be_read_is_a_cold_start(tmp_path: Path) -> None:
    place = tmp_path / "env-test" / "app-cart" / "target-stock"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no folder")
    got, problems = load(tmp_path, "stock")
    assert got is None
    assert len(problems) == 1


def test_three_generations_are_kept(tmp_path: Path) -> None:
    for _ in range(10):
        save(tmp_path, snapshot("stock", "10.0.0.1:1"))
    place = tmp_path / "env-test" / "app-cart" / "target-stock"
    dead, alive = place / "new-dead", place / "new-alive"
    for path, at in ((dead, NOON - 3600), (alive, NOON)):
        path.write_bytes(b"")
        os.utime(path, (at, at))
    save(tmp_path, snapshot("stock", "10.0.0.1:1"))
    assert sorted(os.listdir(place)) == ["10", "11", "9", "new-alive"]


def test_processes_share_a_folder(tmp_path: Path) -> None:
    def work(_: int) -> None:
        for _ in range(25):
            save(tmp_path, snapshot("stock", "10.0.0.1:1"))
            got, problems = load(tmp_path, "stock")
            assert got is not None, problems

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    known = snapshot("stock", "10.0.0.1:1")
    known.deleted_reason = "x" * (16 << 20)
    with pytest.raises(ValueError, match="at most"):
        save(tmp_path, known)
    assert load(tmp_path, "stock") == (None, [])
