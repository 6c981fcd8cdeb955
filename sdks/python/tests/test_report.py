"""What a process measured on both ways, as it is told to a Directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import octomesh
from directories import PATIENCE, FakeDirectory, listening, until, word
from octo.directory.v1.directory_pb2 import PathReport, ReportResponse
from octomesh._directory import report
from octomesh._directory.watch import watch
from octomesh._settings import Identity
from octomesh._ways.config import Config
from octomesh._ways.target import LATENCY_BUCKETS, MAX_FAILURES, PathStats

ME = Identity("web", "test", "web-1")


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[FakeDirectory]:
    fake = await listening(tmp_path)
    fake.said["stock"] = fake.said["cart"] = word("10.0.0.1:1")
    yield fake
    await fake.stop()


def config(tmp_path: Path, *planes: FakeDirectory) -> Config:
    return Config(ME, proxy=str(tmp_path / "proxy"), directories=tuple(p.address for p in planes))


@pytest.mark.parametrize(
    ("microseconds", "bucket"),
    [
        (0, 0),
        (0.4, 0),
        (1, 0),
        (1.2, 1),
        (2, 1),
        (2.5, 2),
        (4, 2),
        (5, 3),
        (1024, 10),
        (1025, 11),
        (2**27, 27),
        (1e12, 27),
    ],
)
def test_buckets_are_those_of_all_languages(microseconds: float, bucket: int) -> None:
    """Bucket i has what took at most 2^i microseconds and more than 2^(i-1) (directory.proto)."""
    stats = PathStats()
    stats.ended(microseconds / 1e6)
    assert [i for i, n in enumerate(stats.latency) if n] == [bucket]


def test_a_report_has_what_was_counted_since() -> None:
    stats = PathStats()
    assert report.since(stats.counted(), report._NOTHING, "stock", PathReport.PATH_MESH) is None
    stats.ended(0.001)
    stats.error(14, 2)
    before = stats.counted()
    stats.ended(0.001)
    stats.stream_ended()
    stats.error(14, 2)
    stats.error(4, 1)
    stats.saved += 3
    got = report.since(stats.counted(), before, "stock", PathReport.PATH_MESH)
    assert got is not None
    assert (got.target, got.path, got.calls, got.saved_by_fallback) == ("stock", PathReport.PATH_MESH, 2, 3)
    assert sum(got.latency_buckets) == got.latency_buckets[10] == 1, "streams have no latency"
    assert len(got.latency_buckets) == LATENCY_BUCKETS
    assert {(e.code, e.origin): e.count for e in got.errors} == {(14, 2): 1, (4, 1): 1}


def test_kinds_of_failures_are_bounded() -> None:
    stats = PathStats()
    for code in range(10_000):
        stats.stream_ended()
        stats.error(code, 1)
    assert len(stats.failed) <= MAX_FAILURES + 1
    assert sum(stats.failed.values()) == 10_000


async def test_the_proxy_is_told_and_says_when_to_come_again(
    tmp_path: Path, proxy: FakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "FIRST_REPORT", 0.02)
    stock, cart = watch(config(tmp_path), "stock"), watch(config(tmp_path), "cart")
    await until(lambda: stock.state.source is not None)
    stock.state.mesh.ended(0.001)
    stock.state.direct.ended(0.002)
    cart.state.direct.stream_ended()
    first = await asyncio.wait_for(proxy.reports.get(), PATIENCE)
    assert (first.environment, first.application, first.instance) == ("test", "web", "web-1")
    assert first.incarnation == octomesh.process_incarnation()
    assert {(p.target, p.path, p.calls) for p in first.paths} == {
        ("stock", PathReport.PATH_MESH, 1),
        ("stock", PathReport.PATH_DIRECT, 1),
        ("cart", PathReport.PATH_DIRECT, 1),
    }
    proxy.answer = octomesh.RpcError(octomesh.Code.UNAVAILABLE, "not now")
    stock.state.mesh.ended(0.001)
    refused = await asyncio.wait_for(proxy.reports.get(), PATIENCE)
    stock.state.mesh.ended(0.001)
    proxy.answer = ReportResponse(interval_ms=3_600_000)
    async with asyncio.timeout(PATIENCE):
        while (taken := await proxy.reports.get()).paths[0].calls != 2:
            pass
    assert refused.paths[0].calls in (1, 2)
    assert len(taken.paths) == 1, "what was refused is in the next one, and what was taken is not"
    stock.state.mesh.ended(0.001)
    await stock.leave()  # the next one is an hour away: it says what it leaves
    last = await asyncio.wait_for(proxy.reports.get(), PATIENCE)
    assert [(p.target, p.calls) for p in last.paths] == [("stock", 1)]
    await cart.leave()
    assert proxy.reports.empty()


async def test_the_control_plane_is_told_where_there_is_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "FIRST_REPORT", 0.02)
    plane = await FakeDirectory().listen("127.0.0.1:0")
    plane.said["stock"] = word("10.0.0.1:1")
    watching = watch(config(tmp_path, plane), "stock")
    watching.state.direct.ended(0.001)
    got = await asyncio.wait_for(plane.reports.get(), PATIENCE)
    assert [(p.target, p.path, p.calls) for p in got.paths] == [("stock", PathReport.PATH_DIRECT, 1)]
    await watching.leave()
    await until(lambda: plane.connections == 0)
    await plane.stop()


async def test_what_nobody_takes_is_not_waited_for(tmp_path: Path, proxy: FakeDirectory) -> None:
    """A Directory that hangs keeps no channel from closing."""
    hang = asyncio.Event()

    async def never(*_: object) -> ReportResponse:
        await hang.wait()
        return ReportResponse()

    proxy.report = never  # type: ignore[method-assign]
    watching = watch(config(tmp_path), "stock")
    await until(lambda: watching.state.source is not None)
    watching.state.mesh.ended(0.001)
    await asyncio.wait_for(watching.leave(), PATIENCE)
    hang.set()
