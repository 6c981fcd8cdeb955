"""What a process learns of a target: at its proxy, at the control plane, from the disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import octomesh
from directories import DELETED, PATIENCE, UNKNOWN, FakeDirectory, listening, until, word
from octo.directory.v1.directory_pb2 import ReportResponse
from octomesh import _state
from octomesh._decide.registration import Pauses
from octomesh._decide.sources import Source, Switch
from octomesh._directory.watch import watch
from octomesh._directory.watcher import RUNTIME
from octomesh._settings import Identity
from octomesh._ways.config import Config
from octomesh._ways.target import TargetState, Watch
from octomesh.context import Carried, carried

ME = Identity("web", "test", "web-1")


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[FakeDirectory]:
    fake = await listening(tmp_path)
    yield fake
    await fake.stop()


@pytest.fixture
async def plane() -> AsyncIterator[FakeDirectory]:
    fake = await FakeDirectory().listen("127.0.0.1:0")
    yield fake
    await fake.stop()


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """Whatever is watched ends when its last user leaves: with its tasks, and without a word of asyncio."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


def config(tmp_path: Path, *planes: FakeDirectory, proxy: bool = True, state: str = "") -> Config:
    return Config(
        ME,
        proxy=str(tmp_path / "proxy") if proxy else "",
        directories=tuple(p.address for p in planes),
        node="n1",
        state=state,
    )


def addresses(state: TargetState) -> list[str]:
    return [known.instance.address for known in state.instances]


async def heard(watching: Watch) -> TargetState:
    """Wait for a word. On a slow machine it may come after the proxy was given up for a moment."""
    await until(lambda: watching.state.source is not None)
    assert watching.state.heard.is_set()
    return watching.state


async def test_the_proxy_says_what_holds(tmp_path: Path, proxy: FakeDirectory) -> None:
    said = word("10.0.0.1:1", "10.0.0.2:2", permille=50, revision=7)
    said.endpoints[1].MergeFrom(
        type(said.endpoints[1])(
            weight=5_000_000, zone="z", tags={"lane": "gray"}, disabled=True, tls_identity="spiffe://a/b/c"
        )
    )
    proxy.said["stock"] = said
    changes: list[int] = []
    watching = watch(config(tmp_path), "stock")
    watching.state.listen(changes, lambda: changes.append(len(watching.state.instances)))
    state = await heard(watching)
    assert state.settled.is_set()
    assert (state.console, state.forbidden, state.source) == (Switch(50, 7), False, Source.PROXY)
    first, second = state.instances
    assert first.instance[:2] == ("10.0.0.1:1", 100)
    assert second.instance == ("10.0.0.2:2", 1_000_000, "z", "gray", True, True)
    assert second.identity == "spiffe://a/b/c"
    (stream,) = proxy.streams
    request = stream.request
    assert (request.environment, request.application, request.node, request.target) == ("test", "web", "n1", "stock")
    assert list(request.features) == ["switch", "fallback", "report"]
    assert request.runtime == RUNTIME
    proxy.say("stock", word("10.0.0.3:3", permille=60, revision=8, direct_forbidden=True))
    await until(lambda: state.forbidden)
    assert (addresses(state), state.console) == (["10.0.0.3:3"], Switch(60, 8))
    proxy.say("stock", word(state=DELETED))
    await until(lambda: not state.instances)
    assert state.console is None, "it was removed"
    assert changes == [2, 1, 0]
    assert watching.freshness()[1] is False
    await watching.leave()
    await until(lambda: not proxy.streams)


async def test_channels_of_a_loop_share_what_they_know(tmp_path: Path, proxy: FakeDirectory) -> None:
    proxy.said["stock"] = word("10.0.0.1:1")
    first, second = watch(config(tmp_path), "stock"), watch(config(tmp_path), "stock")
    other = watch(config(tmp_path), "cart")
    assert first.state is second.state
    assert first.state is not other.state
    await heard(first)
    await until(lambda: proxy.watched == 2)
    assert proxy.connections == 1
    await first.leave()
    await first.leave()
    proxy.say("stock", word("10.0.0.2:2"))
    await until(lambda: addresses(second.state) == ["10.0.0.2:2"])
    await second.leave()
    await other.leave()
    await until(lambda: proxy.connections == 0)
    assert proxy.watched == 2


async def test_a_call_hands_its_deadline_to_no_stream(tmp_path: Path, proxy: FakeDirectory) -> None:
    proxy.said["stock"] = word("10.0.0.1:1")
    token = carried.set(Carried(asyncio.get_running_loop().time() + PATIENCE, baggage=((b"k", b"v"),)))
    watching = watch(config(tmp_path), "stock")
    carried.reset(token)
    await heard(watching)
    (stream,) = proxy.streams
    assert stream.context.time_left() is None
    assert stream.context.baggage == []
    await watching.leave()


async def test_the_control_plane_is_asked_while_the_proxy_does_not_answer(tmp_path: Path, plane: FakeDirectory) -> None:
    plane.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path, plane), "stock")
    state = await heard(watching)
    assert (addresses(state), state.source) == (["10.0.0.1:1"], Source.CONTROL_PLANE)
    proxy = FakeDirectory()
    proxy.said["stock"] = word("10.0.0.2:2")
    await proxy.listen(f"unix:{tmp_path / 'proxy'}")
    await until(lambda: state.source is Source.PROXY)
    assert addresses(state) == ["10.0.0.2:2"]
    await until(lambda: plane.connections == 0)  # nobody keeps a connection there that he does not need
    proxy.say("stock", word("10.0.0.2:2", stale=True))
    await until(lambda: bool(plane.streams))
    assert state.source is Source.CONTROL_PLANE or addresses(state) == ["10.0.0.2:2"]
    await until(lambda: state.source is Source.CONTROL_PLANE)
    proxy.say("stock", word("10.0.0.3:3"))
    await until(lambda: addresses(state) == ["10.0.0.3:3"])
    await proxy.stop()
    await until(lambda: state.source is Source.CONTROL_PLANE)
    await watching.leave()


async def test_who_knows_nothing_is_passed_over(tmp_path: Path, proxy: FakeDirectory, plane: FakeDirectory) -> None:
    proxy.said["stock"] = word(state=UNKNOWN)
    plane.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path, plane), "stock")
    state = await heard(watching)
    assert (addresses(state), state.source) == (["10.0.0.1:1"], Source.CONTROL_PLANE)
    assert proxy.streams
    await watching.leave()


async def test_a_stream_that_ends_comes_again(tmp_path: Path, proxy: FakeDirectory) -> None:
    proxy.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path), "stock")
    state = await heard(watching)
    for n, how in enumerate((None, octomesh.RpcError(octomesh.Code.UNAVAILABLE, "not now")), 2):
        proxy.end(how)
        await until(lambda n=n: proxy.watched == n and bool(proxy.streams))  # type: ignore[misc]
        assert addresses(state) == ["10.0.0.1:1"], "what was said last goes on"
    proxy.say("stock", word("10.0.0.2:2"))
    await until(lambda: addresses(state) == ["10.0.0.2:2"])
    await watching.leave()


async def test_a_directory_that_says_when_is_heeded(
    tmp_path: Path, proxy: FakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[object, float]] = []

    def ended(_: Pauses, how: object, retry_after: float, _random: float) -> float:
        said.append((how, retry_after))
        return 0.0

    monkeypatch.setattr(Pauses, "ended", ended)
    proxy.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path), "stock")
    await heard(watching)
    proxy.end(octomesh.RpcError(octomesh.Code.RESOURCE_EXHAUSTED, "many come", retry_after=2.5))
    await until(lambda: bool(said))
    assert said[0][1] == 2.5
    await watching.leave()


async def test_the_first_calls_wait_for_a_word_and_not_for_ever(tmp_path: Path, proxy: FakeDirectory) -> None:
    watching = watch(config(tmp_path), "stock")  # of which the proxy says nothing
    state = watching.state
    async with asyncio.timeout(PATIENCE):
        await state.settled.wait()
    assert not state.heard.is_set()
    proxy.say("stock", word("10.0.0.1:1"))
    await until(lambda: bool(proxy.streams))
    proxy.say("stock", word("10.0.0.1:1"))
    await heard(watching)
    await watching.leave()


async def test_who_has_nobody_to_ask_waits_for_nobody(tmp_path: Path) -> None:
    watching = watch(config(tmp_path, proxy=False, state=str(tmp_path / "kept")), "stock")
    assert watching.state.heard.is_set()
    assert watching.freshness() == (0.0, False)
    await watching.leave()
    away = watch(config(tmp_path), "stock")
    await asyncio.wait_for(away.state.heard.wait(), PATIENCE)  # there is no proxy
    await away.leave()


async def test_a_start_without_anybody_goes_by_the_disk(tmp_path: Path, proxy: FakeDirectory) -> None:
    kept = str(tmp_path / "kept")
    proxy.said["stock"] = word("10.0.0.1:1", permille=500, revision=7)
    before = watch(config(tmp_path, state=kept), "stock")
    await heard(before)
    await before.leave()
    await proxy.stop()
    on_disk, problems = _state.load(kept, "test", "web", "stock", time.time())
    assert problems == []
    assert on_disk is not None
    assert on_disk.mesh_switch.revision == 7

    after = watch(config(tmp_path, proxy=False, state=kept), "stock")
    assert (addresses(after.state), after.state.console) == (["10.0.0.1:1"], Switch(500, 7))
    assert after.state.source is Source.DISK
    assert after.freshness()[1], "nobody vouches for it"
    await after.leave()


async def test_what_changes_is_kept_while_it_runs(tmp_path: Path, proxy: FakeDirectory) -> None:
    kept = str(tmp_path / "kept")
    proxy.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path, state=kept), "stock")

    def on_disk(address: str) -> Callable[[], bool]:
        def look() -> bool:
            found, _ = _state.load(kept, "test", "web", "stock", time.time())
            return found is not None and found.endpoints[0].direct_address == address

        return look

    await until(on_disk("10.0.0.1:1"))
    proxy.say("stock", word("10.0.0.2:2"))
    await until(on_disk("10.0.0.2:2"))
    await watching.leave()


async def test_a_bad_disk_is_a_cold_start_with_a_word(
    tmp_path: Path, proxy: FakeDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "kept"
    place = kept / "env-test" / "app-web" / "target-stock"
    place.mkdir(parents=True)
    (place / "1").write_bytes(b"rubbish")
    proxy.said["stock"] = word("10.0.0.1:1")
    with caplog.at_level(logging.WARNING, "octomesh"):
        watching = watch(config(tmp_path, state=str(kept)), "stock")
    assert watching.state.instances == ()
    assert f"{place / '1'}: not what is known of a target" in caplog.text
    await heard(watching)
    await watching.leave()
    assert sorted(p.name for p in place.iterdir()) == ["1", "2"]


async def test_what_cannot_be_kept_harms_nobody(
    tmp_path: Path, proxy: FakeDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_bytes(b"no folder")
    proxy.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path, state=str(tmp_path / "kept")), "stock")
    await heard(watching)
    await watching.leave()
    assert "cannot be kept" in caplog.text


async def test_who_is_cancelled_while_it_leaves_leaves_nothing(tmp_path: Path, proxy: FakeDirectory) -> None:
    proxy.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path), "stock")
    await heard(watching)
    hang = asyncio.Event()

    async def never(*_: object) -> ReportResponse:
        await hang.wait()
        return ReportResponse()

    proxy.report = never  # type: ignore[method-assign]
    watching.state.mesh.ended(0.001)
    leaving = asyncio.create_task(watching.leave())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    hang.set()
    await until(lambda: proxy.connections == 0)


def test_what_a_closed_loop_has_left_is_forgotten(tmp_path: Path) -> None:
    """A channel may be used by one loop after another, and nobody closes it in between."""
    seen: list[list[str]] = []

    async def use() -> None:
        fake = await listening(tmp_path, f"proxy-{len(seen)}")
        fake.said["stock"] = word(f"10.0.0.1:{len(seen)}")
        watching = watch(Config(ME, proxy=str(tmp_path / f"proxy-{len(seen)}")), "stock")
        seen.append(addresses(await heard(watching)))
        await fake.stop()

    for _ in range(2):
        asyncio.run(use())
    assert seen == [["10.0.0.1:0"], ["10.0.0.1:1"]]
