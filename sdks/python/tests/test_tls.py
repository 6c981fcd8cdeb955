"""Direct calls by mutual TLS: who is called, who calls, and what strangers are told."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message

import octomesh
from certificates import Authority, spiffe
from octomesh import Code, Disposition, Origin, Reason, RpcError

PATIENCE = 30.0


class Verified(Echo):
    """Answers with the id by which it knows its caller."""

    async def say(self, _request: Message, context: octomesh.ServerContext, /) -> Message:
        return Message(text=context.peer.verified)


@asynccontextmanager
async def serving(tls: octomesh.TLS | None, environment: str = "test") -> AsyncIterator[str]:
    server = octomesh.Server("echo", listen="127.0.0.1:0", mode="off", environment=environment, tls=tls)
    server.add(Verified())
    await server.start()
    try:
        yield server.addresses[0]
    finally:
        await server.stop()


async def ask(address: str, tls: octomesh.TLS | None, **more: Any) -> str:
    """Say who the server thinks it is that calls."""
    settings = {"environment": "test", **more}
    async with octomesh.Channel("echo", direct=[address], mode="off", tls=tls, **settings) as channel:
        return (await EchoClient(channel).say(Message(), timeout=PATIENCE)).text


@pytest.mark.parametrize("expected", ["", spiffe("echo")], ids=["any of the environment", "the one that is named"])
async def test_both_ends_know_each_other(tmp_path: Path, expected: str) -> None:
    ca = Authority()
    async with serving(ca.files(tmp_path / "s", spiffe("echo"))) as address:
        mine = ca.files(tmp_path / "c", spiffe("shop"))
        assert await ask(address, mine, server_identity=expected) == spiffe("shop")


Stranger = Callable[[Path, Authority, Authority], tuple[octomesh.TLS | None, octomesh.TLS | None, dict[str, str]]]
"""Makes of a folder and two authorities: the server's files, the caller's, and what else the channel is told."""


def stranger(
    name: str, server: Callable[..., octomesh.TLS | None], caller: Callable[..., octomesh.TLS | None], **more: str
) -> Any:
    def made(
        folder: Path, ca: Authority, other: Authority
    ) -> tuple[octomesh.TLS | None, octomesh.TLS | None, dict[str, str]]:
        return server(folder / "s", ca, other), caller(folder / "c", ca, other), more

    return pytest.param(made, id=name)


def echo(folder: Path, ca: Authority, _other: Authority) -> octomesh.TLS:
    return ca.files(folder, spiffe("echo"))


def shop(folder: Path, ca: Authority, _other: Authority) -> octomesh.TLS:
    return ca.files(folder, spiffe("shop"))


def nothing(*_: object) -> None:
    return None


@pytest.mark.parametrize(
    "made",
    [
        stranger("another id", echo, shop, server_identity=spiffe("cart")),
        stranger("a server without TLS", nothing, shop),
        stranger("a caller without TLS", echo, nothing),
        stranger(
            "a caller of an authority that the server does not know",
            echo,
            lambda f, ca, o: o.files(f, spiffe("shop"), trusts=(ca,)),
        ),
        stranger(
            "a server of an authority that the caller does not know", echo, lambda f, _ca, o: o.files(f, spiffe("shop"))
        ),
        stranger(
            "a server whose certificate is over", lambda f, ca, _o: ca.files(f, spiffe("echo"), expired=True), shop
        ),
        stranger(
            "a caller whose certificate is over", echo, lambda f, ca, _o: ca.files(f, spiffe("shop"), expired=True)
        ),
        stranger(
            "another environment", echo, lambda f, ca, _o: ca.files(f, spiffe("shop", "prod")), environment="prod"
        ),
    ],
)
async def test_calls_to_strangers_end_before_they_are_sent(tmp_path: Path, made: Stranger) -> None:
    theirs, mine, more = made(tmp_path, Authority(), Authority())
    async with serving(theirs) as address:
        with pytest.raises(RpcError) as caught:
            await ask(address, mine, **more)
    error = caught.value
    assert (error.code, error.reason) == (Code.UNAVAILABLE, Reason.PROXY_UNREACHABLE)
    assert (error.origin, error.disposition) == (Origin.CLIENT_SDK, Disposition.NOT_PROCESSED)


async def test_files_that_change_count_at_the_next_handshake(tmp_path: Path) -> None:
    old, young = Authority(), Authority()
    server, caller = tmp_path / "s", tmp_path / "c"
    mine = old.files(caller, spiffe("shop"))
    async with serving(old.files(server, spiffe("echo"))) as address:
        assert await ask(address, mine) == spiffe("shop")
        young.files(server, spiffe("echo"))
        with pytest.raises(RpcError):
            await ask(address, mine)
        young.files(caller, spiffe("shop-renewed"))
        assert await ask(address, mine) == spiffe("shop-renewed")
        (server / "key.pem").write_text("half a file")  # the last good ones hold
        assert await ask(address, mine) == spiffe("shop-renewed")


def of_no_form(ca: Authority, folder: Path) -> dict[str, Any]:
    return {"tls": ca.files(folder, spiffe("shop")), "server_identity": "echo"}


def of_another_environment(ca: Authority, folder: Path) -> dict[str, Any]:
    return {"tls": ca.files(folder, spiffe("shop", "prod"))}


def of_two_ids(ca: Authority, folder: Path) -> dict[str, Any]:
    return {"tls": ca.files(folder, spiffe("shop"), spiffe("cart"))}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda _ca, _folder: {"server_identity": spiffe("echo")}, "needs tls"),
        (of_no_form, "spiffe://domain/environment/name"),
        (of_another_environment, "'prod'"),
        (of_two_ids, "2 URIs"),
    ],
)
def test_settings_that_make_no_sense(
    tmp_path: Path, made: Callable[[Authority, Path], dict[str, Any]], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        octomesh.Channel("echo", direct=["127.0.0.1:1"], mode="off", environment="test", **made(Authority(), tmp_path))


def test_a_file_that_is_missing_or_no_key_is_told_at_once(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, spiffe("shop"))
    Path(files.key).write_text("no key")
    with pytest.raises(ssl.SSLError):
        octomesh.Channel("echo", direct=["127.0.0.1:1"], mode="off", environment="test", tls=files)
    Path(files.key).unlink()
    with pytest.raises(FileNotFoundError):
        octomesh.Channel("echo", direct=["127.0.0.1:1"], mode="off", environment="test", tls=files)


def test_unix_sockets_have_no_tls(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, spiffe("echo"))
    with pytest.raises(ValueError, match="TCP only"):
        octomesh.Channel("echo", direct=[f"unix:{tmp_path / 's'}"], mode="off", environment="test", tls=files)
    with pytest.raises(ValueError, match="TCP only"):
        octomesh.Server("echo", listen=f"unix:{tmp_path / 's'}", mode="off", environment="test", tls=files)
