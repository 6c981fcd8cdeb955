"""Peers that break rules, over real sockets: what they cost, and that the next call works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from echo.v1.echo_octo import Echo, EchoClient
from echo.v1.echo_pb2 import Message

import octomesh
import vectors
from octomesh import Code, Reason
from octomesh._wire.frame import COMPRESSED, CRITICAL, END, GOAWAY, MESSAGE, MORE, MSG, PING, REQUEST, RESPONSE
from octomesh._wire.heads import HEADERS_PRESENT, ResponseHead, total_length_piece
from octomesh._wire.hello import GOAWAY_PROTOCOL_ERROR, GOAWAY_REFUSED, ROLE_SERVE
from raw import PATIENCE, Raw, caller, dial, frame, knock, listening, say_head

WHOLE = MSG | END


class Service(Echo):
    async def say(self, request: Message, _context: octomesh.ServerContext, /) -> Message:
        return request


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = octomesh.Server("echo", listen="127.0.0.1:0", mode="off").add(Service())
    await server.start()
    yield server.addresses[0]
    await server.stop(0)


BROKEN_CALLS: dict[str, tuple[bytes, int, bytes, Code, Reason | None]] = {
    "a head that does not parse": (b"\xff", WHOLE, b"", Code.INVALID_ARGUMENT, Reason.BAD_HEAD),
    "a hop field of an SDK": (say_head(caller=b"x"), WHOLE, b"", Code.INVALID_ARGUMENT, Reason.BAD_HEAD),
    "a field twice": (say_head() + say_head(), WHOLE, b"", Code.INVALID_ARGUMENT, Reason.BAD_HEAD),
    "foreign content": (
        say_head(content_type=b"application/json"),
        WHOLE,
        b"",
        Code.UNIMPLEMENTED,
        Reason.UNKNOWN_CONTENT_TYPE,
    ),
    "an unknown encoding": (
        say_head(message_encoding=b"br"),
        WHOLE | COMPRESSED,
        b"x",
        Code.UNIMPLEMENTED,
        Reason.UNKNOWN_ENCODING,
    ),
    "compressed without a word": (say_head(), WHOLE | COMPRESSED, b"x", Code.INTERNAL, Reason.BAD_MESSAGE),
    "no gzip": (say_head(message_encoding=b"gzip"), WHOLE | COMPRESSED, b"x", Code.INTERNAL, Reason.BAD_MESSAGE),
    "no message": (say_head(), END, b"", Code.INTERNAL, Reason.BAD_MESSAGE),
    "no protobuf": (say_head(), WHOLE, b"\xff", Code.INTERNAL, Reason.BAD_MESSAGE),
    "an unknown critical flag": (say_head(), WHOLE | CRITICAL, b"", Code.UNIMPLEMENTED, Reason.UNKNOWN_FLAG),
    "known content": (say_head(content_type=b"application/grpc+proto"), WHOLE, b"", Code.OK, None),
    "an unspecified kind": (say_head(call_kind=0), WHOLE, b"", Code.OK, None),
}


@pytest.mark.parametrize("name", BROKEN_CALLS)
async def test_a_call_that_breaks_a_rule_ends_alone(address: str, name: str) -> None:
    head, flags, body, code, reason = BROKEN_CALLS[name]
    raw = await caller(address)
    status = await raw.end(raw.call(head, flags, body))
    assert (status.code, status.reason or None) == (code, reason), status
    assert (await raw.end(raw.call(say_head(), WHOLE))).code == Code.OK, "the connection did not go on"
    raw.writer.close()


async def test_a_second_message_of_a_unary_call_is_refused(address: str) -> None:
    raw = await caller(address)
    stream = raw.call(say_head(), MSG)
    raw.write(frame(MESSAGE, WHOLE, stream))
    status = await raw.end(stream)
    assert (status.code, status.reason) == (Code.INTERNAL, Reason.BAD_MESSAGE)
    raw.writer.close()


BAD_FRAMES = {
    "magic": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "too long": frame(PING, 0, 0)[:12] + (1 << 30).to_bytes(4, "big"),
    "order of ids": frame(MESSAGE, 0, 7),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_bad_framing_is_answered_and_ends_its_connection_alone(address: str, name: str) -> None:
    other, raw = await caller(address), await caller(address)
    # What comes behind is not read by anybody: a hard close would take the last word back.
    raw.write(BAD_FRAMES[name] + bytes(1 << 20))
    goaway = await raw.goaway()
    assert goaway.code == GOAWAY_PROTOCOL_ERROR
    assert goaway.message
    raw.writer.close()
    assert (await other.end(other.call(say_head(), WHOLE))).code == Code.OK
    other.writer.close()


ENDING = [v for v in vectors.load("malformed.json") if v["result"]["end"] is not None]


@pytest.mark.parametrize("vector", ENDING, ids=[v["id"] for v in ENDING])
async def test_streams_of_bytes_that_end_a_connection_are_told_why(address: str, vector: dict[str, Any]) -> None:
    raw = await caller(address)
    raw.write(vectors.from_chunks(vector["input"]["bytes"]))
    assert (await raw.goaway()).code == vector["result"]["end"]["code"]
    raw.writer.close()
    async with octomesh.Channel("echo", direct=[address], mode="off") as channel:
        assert (await EchoClient(channel).say(Message(text="next"), timeout=PATIENCE)).text == "next"


@pytest.mark.parametrize(
    "hello",
    [{"environment": b"other"}, {"role": ROLE_SERVE}, {"lowest_version": 2, "highest_version": 9}],
    ids=["environment", "role", "version"],
)
async def test_who_does_not_belong_is_refused(address: str, hello: dict[str, Any]) -> None:
    raw = await knock(address, **hello)
    assert (await raw.goaway()).code == GOAWAY_REFUSED
    raw.writer.close()


async def test_who_says_no_hello_is_closed_on(address: str) -> None:
    raw = await dial(address)
    async with asyncio.timeout(PATIENCE):
        assert await raw.reader.read() == b""
    raw.writer.close()


def response(flags: int, body: bytes = b"", **fields: Any) -> tuple[int, int, bytes, bytes]:
    h = ResponseHead()
    for name, value in fields.items():
        setattr(h, name, value)
    return RESPONSE, flags, h.encode(), body


BROKEN_ANSWERS: dict[str, tuple[list[tuple[int, int, bytes, bytes]], Code, Reason]] = {
    "a head that does not parse": ([(RESPONSE, END, b"\xff", b"")], Code.INVALID_ARGUMENT, Reason.BAD_HEAD),
    "no message": ([response(END)], Code.INTERNAL, Reason.BAD_MESSAGE),
    "no protobuf": ([response(WHOLE, b"\xff")], Code.INTERNAL, Reason.BAD_MESSAGE),
    "a foreign encoding": (
        [response(WHOLE | COMPRESSED, b"x", message_encoding=b"br")],
        Code.UNIMPLEMENTED,
        Reason.UNKNOWN_ENCODING,
    ),
    "foreign content": (
        [response(WHOLE, b"", content_type=b"text/html")],
        Code.UNIMPLEMENTED,
        Reason.UNKNOWN_CONTENT_TYPE,
    ),
    "MESSAGE with END": ([(MESSAGE, END, b"", b"")], Code.INTERNAL, Reason.STREAM_PROTOCOL),
    "half a message": (
        [(RESPONSE, MSG | MORE, total_length_piece(10), b"half"), (RESPONSE, END, b"", b"")],
        Code.INTERNAL,
        Reason.STREAM_PROTOCOL,
    ),
}


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
async def test_an_answer_that_breaks_a_rule_ends_its_call_alone(name: str) -> None:
    frames, code, reason = BROKEN_ANSWERS[name]

    async def serve(raw: Raw) -> None:
        stream = (await raw.next(REQUEST))[2]
        for kind, flags, head, body in frames:
            raw.write(frame(kind, flags, stream, head, body))
        stream = (await raw.next(REQUEST))[2]
        raw.write(frame(RESPONSE, WHOLE, stream, HEADERS_PRESENT, Message(text="next").SerializeToString()))
        await raw.frame()

    async with listening(serve) as address, octomesh.Channel("echo", direct=[address], mode="off") as channel:
        client = EchoClient(channel)
        with pytest.raises(octomesh.RpcError) as caught:
            await client.say(Message(), timeout=PATIENCE)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert caught.value.origin is octomesh.Origin.CLIENT_SDK
        assert (await client.say(Message(), timeout=PATIENCE)).text == "next", "the connection did not go on"


async def test_bad_framing_of_a_server_is_answered_and_ends_its_calls() -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(raw: Raw) -> None:
        if heard.done():  # the call after it dials again
            stream = (await raw.next(REQUEST))[2]
            raw.write(frame(RESPONSE, WHOLE, stream, HEADERS_PRESENT))
            await raw.frame()
        await raw.next(REQUEST)
        raw.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(1 << 20))
        heard.set_result((await raw.next(GOAWAY))[3])

    async with listening(serve) as address, octomesh.Channel("echo", direct=[address], mode="off") as channel:
        client = EchoClient(channel)
        with pytest.raises(octomesh.RpcError) as caught:
            await client.say(Message(), timeout=PATIENCE)
        assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.CONNECTION_LOST)
        assert caught.value.disposition is octomesh.Disposition.UNKNOWN
        async with asyncio.timeout(PATIENCE):
            assert await heard
        await client.say(Message(), timeout=PATIENCE)
