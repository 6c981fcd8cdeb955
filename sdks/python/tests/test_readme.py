"""What the README shows runs, and its titles are those that all SDKs have."""

from __future__ import annotations

import asyncio
import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from echo.v1.echo_octo import EchoClient
from echo.v1.echo_pb2 import Message

import octomesh
import readme_example
from directories import PATIENCE, FakeDirectory

HERE = Path(__file__).parent
EXAMPLE = HERE / "readme_example.py"
ADDRESS = "127.0.0.1:7000"

test_say = readme_example.test_say


async def test_what_the_readme_shows_works(tmp_path: Path, caplog: Any, capsys: Any) -> None:
    caplog.set_level(logging.INFO)
    address = f"unix:{tmp_path / 's'}"
    shown: dict[str, Any] = {"__name__": "readme"}
    exec(compile(EXAMPLE.read_text("utf-8").replace(ADDRESS, address), EXAMPLE, "exec"), shown)
    server = asyncio.create_task(shown["serve_echo"]())
    try:
        async with octomesh.Channel("echo", direct=[address], interceptors=[shown["logged"]]) as channel:
            client = EchoClient(channel)
            await client.say(Message(text="up"), wait_for_ready=True, timeout=10)
            await shown["call_echo"]()
            await asyncio.to_thread(shown["call_from_a_thread"])
            await shown["read_stream"](client)
            with pytest.raises(octomesh.RpcError, match="nothing to say"):
                await client.say(Message())
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
    assert "echo.v1.Echo/Say took" in caplog.text
    numbers = [str(n) for n in range(10)]
    assert capsys.readouterr().out.split() == ["hello", "hello", *numbers, *numbers]


async def test_a_server_says_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = await FakeDirectory().listen("127.0.0.1:0")
    monkeypatch.setenv("OCTO_DIRECTORY", fake.address)
    monkeypatch.setenv("OCTO_ENVIRONMENT", "test")
    shown: dict[str, Any] = {"__name__": "readme"}
    exec(compile(EXAMPLE.read_text("utf-8").replace(ADDRESS, f"unix:{tmp_path / 's'}"), EXAMPLE, "exec"), shown)
    server = asyncio.create_task(shown["serve_in_a_zone"]())
    request = await asyncio.wait_for(fake.requests.get(), PATIENCE)
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    assert (request.zone, request.weight, dict(request.tags)) == ("east-1", 50, {"lane": "blue"})
    assert (await asyncio.wait_for(fake.requests.get(), PATIENCE)).deregister
    await fake.stop()


def test_the_readme_shows_it() -> None:
    readme = (HERE.parent / "README.md").read_text("utf-8")
    snippets = re.findall(r"^ *# README \w+\n(.*?)^ *# end$", EXAMPLE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 7
    for snippet in snippets:
        assert f"```python\n{textwrap.dedent(snippet).strip()}\n```" in readme


def test_titles_are_those_of_the_first_sdk() -> None:
    def titles(sdk: str) -> list[str]:
        readme = (HERE.parents[1] / sdk / "README.md").read_text("utf-8")
        return re.findall(r"^## (.*)$", readme, re.MULTILINE)

    assert titles("python") == titles("go")


def test_the_tests_that_the_kit_names_are_there() -> None:
    kit = (HERE.parents[1] / "README.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", kit))
    assert named
    defined = {n for f in HERE.rglob("test_*.py") for n in re.findall(r"def (test_\w+)\(", f.read_text("utf-8"))}
    assert named <= defined, f"sdks/README.md names tests that are not there: {sorted(named - defined)}"
