"""The ways of calls: the states of the one to the proxy, falling back, sending again, and what stands beside them."""

from __future__ import annotations

import asyncio
import collections
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message

import octomesh
from octomesh import Code, Disposition, Origin, Reason, RpcError
from octomesh._decide.balance import DIALS
from octomesh._decide.path import Event
from octomesh._ways.target import LATENCY_BUCKETS, PathStats
from octomesh._wire.limits import Limits
from proxies import PATIENCE, RawProxy, Request
from virtual import in_virtual_time


class Instance(Echo):
    """One that can be called direct."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.gate: asyncio.Event | None = None

    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        self.calls += 1
        self.running += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1
        return request

    again = say

    async def watch(self, request: Message, _context: octomesh.ServerContext, /) -> AsyncIterator[Message]:
        self.calls += 1
        yield request


@asynccontextmanager
async def instance(path: Path) -> AsyncIterator[Instance]:
    service = Instance()
    server = octomesh.Server("echo", listen=f"unix:{path}", socket="", mode="off").add(service)
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)


class Both:
    """A channel between a proxy that a test sets and an instance."""

    def __init__(self, proxy: RawProxy, direct: Instance, channel: octomesh.Channel) -> None:
        self.proxy = proxy
        self.direct = direct
        self.channel = channel
        self.client = EchoClient(channel)
        self.answering: asyncio.Task[None] | None = None
        self.meshed = 0

    @property
    def state(self) -> str:
        return self.channel.status().proxy

    async def went(self) -> octomesh.Path:
        """Make a call, and say where it went."""
        info = octomesh.CallInfo()
        await self.client.say(Message(), timeout=PATIENCE, info=info)
        return info.path

    async def answer(self) -> None:
        """Answer all calls that come to the proxy."""
        while True:
            (await self.proxy.requests.get()).answer()
            self.meshed += 1


@asynccontextmanager
async def both(tmp_path: Path, **settings: object) -> AsyncIterator[Both]:
    proxy = RawProxy(tmp_path / "proxy")
    async with instance(tmp_path / "direct") as direct:
        channel = octomesh.Channel(
            "echo",
            socket=str(proxy.path),
            direct=[f"unix:{tmp_path}/direct"],
            mode="auto",
            **settings,  # type: ignore[arg-type]
        )
        async with channel:
            b = Both(proxy, direct, channel)
            try:
                yield b
            finally:
                if b.answering is not None:
                    b.answering.cancel()
        await proxy.kill()


@asynccontextmanager
async def meshed(tmp_path: Path, limits: Limits = Limits()) -> AsyncIterator[tuple[EchoClient, RawProxy]]:  # noqa: B008
    """A client that has a proxy alone."""
    proxy = RawProxy(tmp_path / "proxy", limits)
    async with proxy, octomesh.Channel("echo", socket=str(proxy.path), mode="on") as channel:
        yield EchoClient(channel), proxy


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.001)


def ended(error: RpcError) -> tuple[object, ...]:
    return error.code, error.reason, error.origin, error.disposition


LOST = (Code.UNAVAILABLE, Reason.CONNECTION_LOST, Origin.CLIENT_SDK, Disposition.UNKNOWN)
UNREACHABLE = (Code.UNAVAILABLE, Reason.PROXY_UNREACHABLE, Origin.CLIENT_SDK, Disposition.NOT_PROCESSED)


@in_virtual_time
async def test_a_proxy_that_says_no_welcome_costs_calls_fifty_milliseconds(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        b.proxy.welcoming = False
        await b.proxy.listen()
        begin = now()
        assert await b.went() is octomesh.Path.DIRECT
        assert now() - begin == pytest.approx(0.05)
        begin = now()
        assert await b.went() is octomesh.Path.DIRECT
        assert now() == begin
        assert b.state == "suspect"
        await asyncio.sleep(2)
        assert b.state == "direct"


@in_virtual_time
async def test_a_proxy_that_is_not_there_costs_calls_nothing(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        begin = now()
        assert await b.went() is octomesh.Path.DIRECT
        assert now() == begin


@pytest.mark.parametrize("idempotent", [False, True])
@in_virtual_time
async def test_a_stopped_proxy_is_noticed_while_a_call_waits(tmp_path: Path, idempotent: bool) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        info, begin = octomesh.CallInfo(), now()
        call = asyncio.create_task(b.client.say(Message(), idempotent=idempotent, info=info))
        (await b.proxy.next()).link.stop()
        await until(lambda: b.state == "suspect")
        assert now() - begin <= 1.6
        at = now()
        assert await b.went() is octomesh.Path.DIRECT
        assert now() - at <= 0.051
        if idempotent:
            await call
            assert info.path is octomesh.Path.DIRECT
        else:
            with pytest.raises(RpcError) as caught:
                await call
            assert ended(caught.value) == LOST
        assert now() - begin <= 3
        assert b.state == "direct"


@in_virtual_time
async def test_a_stopped_proxy_without_calls_is_noticed_within_fifteen_seconds(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        await b.channel.ready()
        b.proxy.links[0].stop()
        await asyncio.sleep(16)
        assert b.state in ("direct", "probe")


@in_virtual_time
async def test_a_paused_proxy_is_trusted_again_with_its_first_byte(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        call = asyncio.create_task(b.client.say(Message()))
        request = await b.proxy.next()
        request.link.stop()
        await until(lambda: b.state == "suspect")
        request.link.go_on()
        request.answer()
        await call
        assert (b.state, b.channel.status().tenths) == ("mesh", 10)


@in_virtual_time
async def test_the_way_back_is_probed_and_ramped(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        assert await b.went() is octomesh.Path.DIRECT
        proxy = b.channel._here().proxy
        assert proxy is not None
        assert proxy.guard is not None
        guard = proxy.guard
        for pause in (1, 2, 4, 8, 10, 10):
            begin, due = now(), guard.path.wake
            await until(lambda: guard.path.wake != due)  # noqa: B023
            assert pause / 2 <= now() - begin <= pause * 1.5 + 0.01
            assert await b.went() is octomesh.Path.DIRECT
        await b.proxy.listen()
        b.answering = asyncio.create_task(b.answer())
        await until(lambda: b.state == "returning")
        for tenths in range(1, 11):
            assert b.channel.status().tenths == tenths
            before = b.meshed
            for _ in range(1000):
                await b.went()
            assert b.meshed - before == 100 * tenths
            await asyncio.sleep(1)
        assert b.state == "mesh"


@in_virtual_time
async def test_without_fallback_a_call_whose_way_is_not_there_ends(tmp_path: Path) -> None:
    async with both(tmp_path, fallback=False) as b:
        with pytest.raises(RpcError) as caught:
            await b.went()
        assert ended(caught.value) == UNREACHABLE
        assert b.direct.calls == 0


@in_virtual_time
async def test_the_share_is_exact_and_keys_stay(tmp_path: Path) -> None:
    async with both(tmp_path, permille=250) as b:
        await b.proxy.listen()
        b.answering = asyncio.create_task(b.answer())
        for _ in range(1000):
            await b.went()
        assert (b.meshed, b.direct.calls) == (250, 750)
        paths = collections.defaultdict(set)
        for n in range(200):
            info = octomesh.CallInfo()
            await b.client.say(Message(), hash_key=f"k{n % 50}", info=info)
            paths[n % 50].add(info.path)
        assert all(len(p) == 1 for p in paths.values())
        assert {p for each in paths.values() for p in each} == {octomesh.Path.MESH, octomesh.Path.DIRECT}


# Sending again.


@in_virtual_time
async def test_what_a_leaving_proxy_refuses_goes_to_its_successor(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        call = asyncio.create_task(client.say(Message(text="whole"), metadata=[("k", "v")], timeout=PATIENCE))
        first = await proxy.next()
        first.refuse(Reason.PROXY_DRAINING)
        second = await proxy.next()
        assert second.link is not first.link
        assert (second.head.attempt, second.body, list(second.head.metadata)) == (1, first.body, [(b"k", b"v")])
        second.answer("there")
        assert (await call).text == "there"


@in_virtual_time
async def test_what_was_not_processed_goes_the_other_way(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        call = asyncio.create_task(b.went())
        (await b.proxy.next()).refuse(Reason.PROXY_UNREADY)
        assert await call is octomesh.Path.DIRECT
        info = octomesh.CallInfo()
        stream = b.client.watch(Message(text="x"))
        answers = asyncio.create_task(stream.receive())
        (await b.proxy.next()).refuse(Reason.PROXY_UNREADY)
        answer = await answers
        assert answer is not None
        assert (answer.text, stream.path) == ("x", octomesh.Path.DIRECT)
        assert await stream.receive() is None
        assert info.path is octomesh.Path.NONE


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.CIRCUIT_OPEN, Reason.OVERLOADED, Reason.AUTH_DENIED])
@in_virtual_time
async def test_refusals_do_not_go_around_governance(tmp_path: Path, reason: Reason) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        for open_call in (b.client.say, lambda m: b.client.watch(m).receive()):
            call = asyncio.ensure_future(open_call(Message()))
            (await b.proxy.next()).refuse(reason)
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.reason == reason
        assert b.direct.calls == 0


@in_virtual_time
async def test_a_call_goes_again_at_most_twice(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        for open_call in (client.say, lambda m: client.watch(m).receive()):
            call = asyncio.ensure_future(open_call(Message()))
            for attempt in range(3):
                request = await proxy.next()
                assert request.head.attempt == attempt
                request.refuse(Reason.PROXY_UNREADY)
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.reason is Reason.PROXY_UNREADY
        assert proxy.requests.empty()


@in_virtual_time
async def test_only_what_may_run_twice_goes_again_when_a_connection_is_lost(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        call = asyncio.create_task(client.say(Message()))
        (await proxy.next()).link.abort()
        with pytest.raises(RpcError) as caught:
            await call
        assert ended(caught.value) == LOST
        call = asyncio.create_task(client.again(Message()))  # is idempotent
        (await proxy.next()).link.abort()
        (await proxy.next()).answer("twice")
        assert (await call).text == "twice"


@in_virtual_time
async def test_the_budget_bounds_what_goes_again(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        sent = 0
        for _ in range(30):  # each may go again once for nothing, and once more for a token
            call = asyncio.create_task(client.again(Message()))
            while not call.done():
                coming = asyncio.create_task(proxy.next())
                await asyncio.wait([call, coming], return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    sent += 1
                    coming.result().link.abort()
                coming.cancel()
            assert isinstance(call.exception(), RpcError)
        assert sent == 30 + 30 + 10


@in_virtual_time
async def test_a_stream_goes_again_only_with_its_request_alone(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        stream = client.chat()
        await stream.open()
        first = await proxy.next()
        first.refuse(Reason.PROXY_DRAINING)
        headers = asyncio.create_task(stream.headers())  # whoever looks has it go again
        second = await proxy.next()
        assert (second.body, second.head.attempt) == (b"", 1)
        await stream.send(Message(text="one"))
        await until(lambda: len(second.messages) == 1)
        second.refuse(Reason.PROXY_DRAINING)
        with pytest.raises(RpcError) as caught:
            await stream.receive()
        assert caught.value.reason is Reason.PROXY_DRAINING
        assert await headers == []


@in_virtual_time
async def test_a_stream_that_was_answered_does_not_go_again(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        stream = client.watch(Message())
        await stream.open()
        request = await proxy.next()
        request.say("one")
        answer = await stream.receive()
        assert answer is not None
        request.refuse(Reason.PROXY_DRAINING)
        with pytest.raises(RpcError):
            await stream.receive()
        assert proxy.requests.empty()


@in_virtual_time
async def test_a_stream_moves_once_for_all_that_use_it(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        stream = client.chat()
        users = [asyncio.create_task(stream.headers()), asyncio.create_task(stream.receive())]
        for _ in range(2):
            (await proxy.next()).refuse(Reason.PROXY_UNREADY)
        last = await proxy.next()
        last.say("here")
        assert [getattr(await u, "text", []) for u in users] == [[], "here"]
        await stream.close_send()
        await until(lambda: last.ended)
        last.answer("end")
        assert [m.text async for m in stream] == ["end"]
        assert proxy.requests.empty()


@in_virtual_time
async def test_a_stream_that_goes_again_obeys_its_deadline(tmp_path: Path) -> None:
    async with meshed(tmp_path) as (client, proxy):
        stream = client.watch(Message(), timeout=1)
        await stream.open()
        request = await proxy.next()
        proxy.welcoming = False
        request.refuse(Reason.PROXY_DRAINING)
        begin = now()
        with pytest.raises(TimeoutError):
            await stream.receive()
        assert now() - begin == pytest.approx(1)


# Connections.


@in_virtual_time
async def test_calls_wait_for_room_within_the_peers_limit(tmp_path: Path) -> None:
    async with meshed(tmp_path, Limits(max_streams=2)) as (client, proxy):
        calls = [asyncio.create_task(client.say(Message(text=str(n)))) for n in range(5)]
        late = asyncio.create_task(client.say(Message(), timeout=1))
        open_calls = [await proxy.next(), await proxy.next()]
        with pytest.raises(TimeoutError) as caught:
            await late
        assert isinstance(caught.value, RpcError)
        assert caught.value.disposition is Disposition.NOT_PROCESSED
        for answered in range(5):
            assert proxy.requests.empty()
            request: Request = open_calls.pop(0)
            request.answer(Message.FromString(request.body).text)
            if answered < 3:
                open_calls.append(await proxy.next())
        assert [m.text for m in await asyncio.gather(*calls)] == ["0", "1", "2", "3", "4"]


@in_virtual_time
async def test_a_proxy_that_leaves_has_its_calls_until_a_successor_stands(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        b.answering = asyncio.create_task(b.answer())
        await b.went()
        old = b.proxy.links[0]
        b.proxy.welcoming = False  # its successor is slow
        b.proxy.leave()
        await until(lambda: len(b.proxy.links) == 2)
        assert await b.went() is octomesh.Path.MESH
        assert b.state == "mesh"
        b.proxy.welcoming = True
        await until(lambda: old.lost.done())
        assert await b.went() is octomesh.Path.MESH
        assert (b.state, b.direct.calls) == ("mesh", 0)


@in_virtual_time
async def test_direct_calls_spread_by_weight_and_leave_out_who_is_not_reached(tmp_path: Path) -> None:
    async with instance(tmp_path / "a") as a, instance(tmp_path / "b") as b:
        endpoints = [octomesh.Endpoint(f"unix:{tmp_path}/{n}", w) for n, w in (("a", 3), ("b", 1), ("gone", 4))]
        async with octomesh.Channel("echo", direct=endpoints, mode="off", socket="") as channel:
            client = EchoClient(channel)
            for _ in range(400):
                await client.say(Message())
            assert a.calls + b.calls == 400
            assert 240 < a.calls < 360
            a.gate = b.gate = asyncio.Event()
            many = [asyncio.create_task(client.say(Message())) for _ in range(80)]
            await until(lambda: a.running + b.running == 80)
            assert 50 <= a.running <= 70  # the lighter for its weight takes the next
            a.gate.set()
            await asyncio.gather(*many)


@in_virtual_time
async def test_a_process_begins_so_many_direct_connections_a_second(tmp_path: Path) -> None:
    paths = [tmp_path / f"i{n}" for n in range(2 * DIALS)]
    stack = [instance(p) for p in paths]
    for each in stack:
        await each.__aenter__()
    async with octomesh.Channel("echo", direct=[f"unix:{p}" for p in paths], mode="off", socket="") as channel:
        client = EchoClient(channel)
        for _ in range(500):
            await client.say(Message())
        pool = channel._here().direct
        assert pool is not None
        assert sum(p.usable() is not None for p in pool._peers.values()) <= DIALS + 1
    for each in stack:
        await each.__aexit__(None, None, None)


@in_virtual_time
async def test_a_channel_that_closes_ends_its_calls_as_cancelled(tmp_path: Path) -> None:
    async with RawProxy(tmp_path / "proxy") as proxy:
        channel = octomesh.Channel("echo", socket=str(proxy.path), mode="on")
        client = EchoClient(channel)
        calls = [asyncio.ensure_future(client.say(Message())), asyncio.ensure_future(client.watch(Message()).receive())]
        for _ in calls:
            await proxy.next()
        await channel.close()
        for call in calls:
            with pytest.raises(RpcError) as caught:
                await call
            assert (caught.value.code, caught.value.reason) == (Code.CANCELLED, Reason.CANCELLED)
        with pytest.raises(RpcError, match="closed"):
            await client.say(Message())


@in_virtual_time
async def test_a_channel_that_closes_while_it_dials_ends_those_who_wait(tmp_path: Path) -> None:
    async with RawProxy(tmp_path / "proxy") as proxy:
        proxy.welcoming = False
        channel = octomesh.Channel("echo", socket=str(proxy.path), mode="on")
        calls = [asyncio.create_task(EchoClient(channel).say(Message())) for _ in range(3)]
        await until(lambda: proxy.hellos == 1)
        await channel.close()
        for call in calls:
            with pytest.raises(RpcError):
                await call


@in_virtual_time
async def test_channels_share_a_connection_until_the_last_has_closed(tmp_path: Path) -> None:
    async with RawProxy(tmp_path / "proxy") as proxy:
        channels = [octomesh.Channel(f"t{n}", socket=str(proxy.path), mode="on") for n in range(3)]
        for channel in channels:
            await channel.ready()
        assert len(proxy.links) == 1
        for channel in channels:
            assert not proxy.links[0].lost.done()
            await channel.close()
        await until(lambda: proxy.links[0].lost.done())


# The switch.


@in_virtual_time
async def test_the_kill_switchs_file_holds_within_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "switch"
    async with both(tmp_path, switch_file=str(file)) as b:
        await b.proxy.listen()
        b.answering = asyncio.create_task(b.answer())

        async def say(text: str) -> octomesh.ChannelStatus:
            new = tmp_path / "new"
            new.write_text(text)
            os.replace(new, file)
            await asyncio.sleep(1)
            return b.channel.status()

        assert await b.went() is octomesh.Path.MESH
        status = await say("echo off\n* on\n")
        assert (status.by, status.permille, status.fallback) == ("file", 0, False)
        assert await b.went() is octomesh.Path.DIRECT
        status = await say("echo on # all\n")
        assert (status.by, status.permille) == ("file", 1000)
        assert await b.went() is octomesh.Path.MESH
        assert (await say("echo off\necho maybe\n")).permille == 1000  # bad: what it said before holds
        assert sum("what it said before holds" in r.message for r in caplog.records) == 1
        assert (await say("other 5\n")).by == "default"
        file.unlink()
        await asyncio.sleep(1)
        assert str(b.channel.status()) == (
            "echo: 1000 permille by the mesh (default, revision 0), proxy mesh (10/10), 1 instances by option (0 s old)"
        )


@pytest.mark.parametrize(
    ("variables", "settings", "text"),
    [
        ({}, {}, "no proxy's socket"),
        ({"OCTO_MODE": "on"}, {"direct": ["h:1"]}, "mode is on"),
        ({"OCTO_MODE": "maybe"}, {"direct": ["h:1"]}, "OCTO_MODE"),
        ({"OCTO_PERMILLE": "1001"}, {"direct": ["h:1"]}, "OCTO_PERMILLE"),
        ({}, {"direct": ["h:1"], "permille": -1}, "permille -1"),
        ({}, {"direct": ["h"]}, "want host:port"),
        ({}, {"direct": [octomesh.Endpoint("h:1", -1)]}, "weight -1"),
        ({"OCTO_SOCKET": "/" + "x" * 107}, {}, "the limit is 107"),
        ({}, {"direct": ["h:1"], "server_identity": "spiffe://a/b/c"}, "needs tls"),
    ],
)
def test_settings_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], settings: dict[str, object], text: str
) -> None:
    for name in [name for name in os.environ if name.startswith("OCTO_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=text):
        octomesh.Channel("echo", **settings)  # type: ignore[arg-type]


# What is counted.


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0, 0),
        (1e-6, 0),
        (1.5e-6, 1),
        (2e-6, 1),
        (3e-6, 2),
        (4e-6, 2),
        (1e-3, 10),
        (1024e-6, 10),
        (1025e-6, 11),
        (1, 20),
    ],
)
def test_buckets_are_those_of_reports(seconds: float, bucket: int) -> None:
    stats = PathStats()
    stats.ended(seconds)
    stats.ended(3600)
    assert stats.latency[bucket] == 1
    assert stats.latency[LATENCY_BUCKETS - 1] == 1


def test_kinds_of_failures_are_bounded() -> None:
    stats = PathStats()
    for code in range(1000):
        stats.error(code, 1)
    assert len(stats.failed) <= 65
    assert sum(stats.failed.values()) == 1000


@in_virtual_time
async def test_events_of_a_connection_that_is_not_the_current_one_say_nothing(tmp_path: Path) -> None:
    async with both(tmp_path) as b:
        await b.proxy.listen()
        await b.channel.ready()
        proxy = b.channel._here().proxy
        assert proxy is not None
        link = proxy.usable()
        proxy.tell(Event.MISSED, None)
        proxy.tell(Event.FAILED, None)
        assert b.state == "mesh"
        proxy.tell(Event.MISSED, link)
        assert b.state == "suspect"
        proxy.tell(Event.ALIVE, link)
        assert b.state == "mesh"
