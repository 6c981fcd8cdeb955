"""A server makes its instance known to the Directory, and withdraws it before it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from echo.v1.echo_octo import Echo
from echo.v1.echo_pb2 import Message

import octomesh
from directories import PATIENCE, FakeDirectory, until
from octo.directory.v1.directory_pb2 import RegisterResponse
from octomesh import Registration, RegistrationPhase, RegistrationStatus
from octomesh._decide.registration import Pauses


class Service(Echo):
    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        return request


class Registering:
    """A server that registers, with the statuses that it had."""

    def __init__(self, fake: FakeDirectory, **more: Any) -> None:
        self.statuses: asyncio.Queue[RegistrationStatus] = asyncio.Queue()
        settings: dict[str, Any] = {
            "zone": "z",
            "weight": 7,
            "tags": {"lane": "gray"},
            "changed": self.statuses.put_nowait,
        } | more
        self.server = octomesh.Server(
            "stock",
            listen="127.0.0.1:0",
            socket="",
            mode="off",
            application="shop",
            environment="test",
            instance="shop-1",
            directory=[fake.address],
            registration=Registration(**settings),
        ).add(Service())

    async def phase(self, want: RegistrationPhase) -> RegistrationStatus:
        async with asyncio.timeout(PATIENCE):
            while (status := await self.statuses.get()).phase is not want:
                pass
        return status


def says(state: RegisterResponse.State, reason: str = "") -> RegisterResponse:
    return RegisterResponse(state=state, reason=reason)


PUBLISHED = says(RegisterResponse.STATE_PUBLISHED)


@pytest.fixture
async def fake() -> AsyncIterator[FakeDirectory]:
    fake = await FakeDirectory().listen("127.0.0.1:0")
    yield fake
    await fake.stop()


async def answers(fake: FakeDirectory) -> asyncio.Queue[RegisterResponse | Exception]:
    return await asyncio.wait_for(fake.registers.get(), PATIENCE)


async def test_a_server_registers_and_leaves_before_it_stops(fake: FakeDirectory) -> None:
    before = asyncio.all_tasks()
    s = Registering(fake)
    assert s.server.registration == RegistrationStatus()
    await s.server.start()
    stream = await answers(fake)
    request = await fake.requests.get()
    address = s.server.addresses[0]
    assert (request.environment, request.application, request.instance) == ("test", "shop", "shop-1")
    assert (request.incarnation, list(request.targets)) == (octomesh.process_incarnation(), ["stock"])
    assert (request.direct_address, request.weight, request.zone, dict(request.tags)) == (
        address,
        7,
        "z",
        {"lane": "gray"},
    )
    stream.put_nowait(says(RegisterResponse.STATE_PENDING, "its proxy is new"))
    assert await s.phase(RegistrationPhase.PENDING) == RegistrationStatus(RegistrationPhase.PENDING, "its proxy is new")
    stream.put_nowait(PUBLISHED)
    assert await s.phase(RegistrationPhase.PUBLISHED) == s.server.registration
    host, port = address.split(":")
    reached: list[asyncio.Task[Any]] = []
    fake.withdrawing = lambda: reached.append(asyncio.ensure_future(asyncio.open_connection(host, int(port))))
    assert await s.server.stop()
    (_, writer), *_ = await asyncio.gather(*reached)
    writer.close()
    assert len(reached) == 1, "it listens still when it withdraws"
    withdrawal = await fake.requests.get()
    assert withdrawal.deregister
    assert (withdrawal.instance, withdrawal.incarnation) == (request.instance, request.incarnation)
    assert (await s.phase(RegistrationPhase.WITHDRAWN)).error is None
    await until(lambda: asyncio.all_tasks() <= before or fake.connections == 0)


async def test_a_server_comes_back_to_its_directory(fake: FakeDirectory) -> None:
    s = Registering(fake)
    await s.server.start()
    for _ in range(3):
        stream = await answers(fake)
        stream.put_nowait(PUBLISHED)
        assert (await s.phase(RegistrationPhase.PUBLISHED)).error is None
        stream.put_nowait(octomesh.RpcError(octomesh.Code.UNAVAILABLE, "it is restarted"))
        status = await s.phase(RegistrationPhase.CONNECTING)
        assert status.reason == "it is restarted"
        assert status.error is not None
        assert status.error.code is octomesh.Code.UNAVAILABLE
    await s.server.stop(0)


async def test_a_refusal_is_typed_and_does_not_come_again_soon(
    fake: FakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    real = Pauses.ended

    def ended(self: Pauses, how: Any, retry_after: float, random: float) -> float:
        pauses.append(real(self, how, retry_after, random))
        return 0.0

    monkeypatch.setattr(Pauses, "ended", ended)
    s = Registering(fake)
    await s.server.start()
    for _ in range(2):
        (await answers(fake)).put_nowait(octomesh.RpcError(octomesh.Code.PERMISSION_DENIED, "not this application"))
        status = await s.phase(RegistrationPhase.CONNECTING)
        assert status.error is not None
        assert status.error.code is octomesh.Code.PERMISSION_DENIED
        assert status.reason == "not this application"
        (await answers(fake)).put_nowait(PUBLISHED)
        await s.phase(RegistrationPhase.PUBLISHED)
        s.server._registrar._stream.cancel()  # type: ignore[union-attr]
        await s.phase(RegistrationPhase.CONNECTING)
    assert 15 <= pauses[0] < 45
    await s.server.stop(0)


async def test_a_newer_process_has_the_name(fake: FakeDirectory) -> None:
    s = Registering(fake)
    await s.server.start()
    (await answers(fake)).put_nowait(says(RegisterResponse.STATE_SUPERSEDED, "a newer process registered"))
    assert (await s.phase(RegistrationPhase.SUPERSEDED)).reason == "a newer process registered"
    registrar = s.server._registrar
    assert registrar is not None
    await asyncio.wait_for(asyncio.shield(registrar._task), PATIENCE)
    assert fake.registers.empty(), "it does not come again"
    assert await s.server.stop()
    assert s.server.registration.phase is RegistrationPhase.SUPERSEDED


async def test_a_directory_that_does_not_answer_does_not_keep_a_server(fake: FakeDirectory) -> None:
    s = Registering(fake)
    await s.server.start()
    await answers(fake)
    fake.withdrawing = lambda: (_ for _ in ()).throw(RuntimeError("it hangs"))
    async with asyncio.timeout(PATIENCE):
        assert await s.server.stop()
    gone = Registering(fake)
    await fake.stop()
    await gone.server.start()
    status = await gone.phase(RegistrationPhase.CONNECTING)
    while status.error is None:
        status = await asyncio.wait_for(gone.statuses.get(), PATIENCE)
    assert status.error.code is octomesh.Code.UNAVAILABLE
    async with asyncio.timeout(PATIENCE):
        assert await gone.server.stop()


async def test_who_wants_to_know_may_fail(fake: FakeDirectory, caplog: pytest.LogCaptureFixture) -> None:
    def changed(_: RegistrationStatus) -> None:
        raise ValueError("boom")

    s = Registering(fake, changed=changed)
    await s.server.start()
    (await answers(fake)).put_nowait(PUBLISHED)
    await until(lambda: s.server.registration.phase is RegistrationPhase.PUBLISHED)
    assert "boom" in caplog.text
    await s.server.stop(0)


@pytest.mark.parametrize(
    "settings",
    [{"directory": []}, {"directory": ["127.0.0.1:1"], "registration": Registration(off=True)}],
    ids=["none", "not wanted"],
)
async def test_a_server_without_a_directory_does_not_register(settings: dict[str, Any]) -> None:
    server = octomesh.Server("stock", listen="127.0.0.1:0", socket="", mode="off", **settings).add(Service())
    await server.start()
    assert server.registration == RegistrationStatus()
    assert await server.stop()


async def test_who_listens_on_all_addresses_has_none_to_tell(fake: FakeDirectory) -> None:
    for listen, address in (("0.0.0.0:0", ""), ("[::1]:0", "[::1]:")):
        server = octomesh.Server(
            "stock", listen=listen, socket="", mode="off", environment="test", directory=[fake.address]
        ).add(Service())
        await server.start()
        request = await asyncio.wait_for(fake.requests.get(), PATIENCE)
        assert request.direct_address.startswith(address)
        assert bool(request.direct_address) is bool(address)
        assert not request.HasField("weight")
        assert await server.stop()
        await fake.requests.get()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"directory": ["nowhere"]}, "of a Directory"),
        ({"registration": Registration(address="unix:/tmp/s")}, "want host:port"),
        ({"registration": Registration(address="here")}, "want host:port"),
        ({"registration": Registration(weight=-1)}, "weight"),
        ({"registration": Registration(weight=1_000_001)}, "weight"),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        octomesh.Server("stock", listen="127.0.0.1:0", socket="", mode="off", **settings)


def test_the_environment_names_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTO_DIRECTORY", " 10.0.0.1:7602, 10.0.0.2:7602 ,")
    server = octomesh.Server("stock", mode="off")
    assert server._known_as.directories == ("10.0.0.1:7602", "10.0.0.2:7602")
