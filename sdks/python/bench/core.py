"""What a unary call costs in the protocol's core, client and server side, in microseconds of processor time.

    python bench/core.py [--calls 200000] [--body 1024] [--batch 16]

Heads are those of a call with a deadline, without and with a trace; no socket, no event loop, no protobuf message is
in it. `batch` calls are in each read and each write, as they are under load.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from octomesh._wire.conn import ACCEPTOR, DIALER, Connection
from octomesh._wire.frame import END, MSG, RESPONSE
from octomesh._wire.heads import (
    HEADERS_PRESENT,
    UNARY,
    RequestHeads,
    ResponseHeads,
    method_piece,
    timeout_piece,
    trace_piece,
)
from octomesh._wire.hello import ROLE_CALL, GoAway, Hello, Welcome
from octomesh._wire.status import Origin, Status
from octomesh._wire.stream import Stream

FIXED = method_piece(b"shop.inventory", b"shop.inventory.v1.Inventory", b"Reserve", UNARY)


class Owner:
    """Neither takes nor sees anything but calls."""

    def __init__(self, accept: Callable[[], Stream]) -> None:
        self.accept = accept

    def on_hello(self, hello: Hello) -> None: ...
    def on_welcome(self, welcome: Welcome) -> None: ...
    def on_pong(self, payload: int) -> None: ...
    def on_goaway(self, goaway: GoAway) -> None: ...
    def on_drained(self) -> None: ...
    def on_output(self) -> None: ...


class ClientCall(Stream):
    __slots__ = ("answer",)

    def on_response(self, flags: int, head: bytes, body: bytes) -> None:  # noqa: ARG002
        if ANSWERS.parse(head).status is None:
            self.answer = body

    def on_closed(self, status: Status) -> None:
        raise AssertionError(status)


class ServerCall(Stream):
    __slots__ = ("body", "head", "timeout", "traceparent")

    def on_request(self, flags: int, head: bytes, body: bytes) -> None:  # noqa: ARG002
        self.timeout, self.traceparent, self.head = HEADS.parse(head)
        self.body = body
        ARRIVED.append(self)

    def on_closed(self, status: Status) -> None:
        raise AssertionError(status)


ANSWERS = ResponseHeads()
HEADS = RequestHeads()
ARRIVED: list[ServerCall] = []


def run(calls: int, size: int, batch: int, traced: bool) -> tuple[float, float]:
    client = Connection(DIALER, Owner(ClientCall), origin=Origin.CLIENT_SDK)
    server = Connection(ACCEPTOR, Owner(ServerCall), origin=Origin.SERVER_SDK)
    client.resume(ROLE_CALL)
    server.resume(ROLE_CALL)
    body = b"x" * size
    clock = time.process_time  # other processes do not count
    at_client = at_server = 0.0
    for turn in range(calls // batch):
        t0 = clock()
        for n in range(batch):
            head = timeout_piece(500_000 + n) + FIXED
            if traced:
                head += trace_piece(b"00-0af7651916cd43dd8448eb211c80319c-%016x-01" % (turn * batch + n + 1))
            client.open(ClientCall(), MSG | END, head, body)
        wire = client.take()
        t1 = clock()
        server.feed(wire)
        for call in ARRIVED:
            server.started(call)
            server.send(call, RESPONSE, MSG | END, HEADERS_PRESENT, call.body)
            server.release(call)
        ARRIVED.clear()
        wire = server.take()
        t2 = clock()
        client.feed(wire)
        t3 = clock()
        at_client += t1 - t0 + t3 - t2
        at_server += t2 - t1
    done = calls // batch * batch
    assert client.open_streams == server.open_streams == server.held == 0
    return at_client / done * 1e6, at_server / done * 1e6


def main() -> None:
    p = argparse.ArgumentParser(description="what a unary call costs in the protocol's core")
    p.add_argument("--calls", type=int, default=200_000)
    p.add_argument("--body", type=int, default=1024, help="bytes of request and response")
    p.add_argument("--batch", type=int, default=16, help="calls in a read")
    args = p.parse_args()
    print(f"{'heads':<10} {'client µs':>10} {'server µs':>10}")
    for traced in (False, True):
        best = min((run(args.calls, args.body, args.batch, traced) for _ in range(3)), key=sum)
        print(f"{'traced' if traced else 'plain':<10} {best[0]:>10.2f} {best[1]:>10.2f}")


if __name__ == "__main__":
    main()
