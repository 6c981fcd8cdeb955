"""The checkout, between a cart and a catalogue of this process, by the real protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from checkout import trace
from checkout.service import CheckoutService, out_of_stock
from shop.cart.v1 import cart_octo, cart_pb2
from shop.catalogue.v1 import catalogue_octo, catalogue_pb2
from shop.checkout.v1 import checkout_octo
from shop.checkout.v1 import checkout_pb2 as pb

import octomesh
from octomesh import Code, RpcError

PATIENCE = 10.0


class Cart(cart_octo.Cart):
    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    async def get(self, request: cart_pb2.GetRequest, _context: octomesh.ServerContext, /) -> cart_pb2.GetResponse:
        items = self.items if request.user == "ada" else {}
        return cart_pb2.GetResponse(items=[cart_pb2.Item(sku=s, quantity=q) for s, q in items.items()])

    async def clear(
        self, _request: cart_pb2.ClearRequest, _context: octomesh.ServerContext, /
    ) -> cart_pb2.ClearResponse:
        self.items = {}
        return cart_pb2.ClearResponse()


class Catalogue(catalogue_octo.Catalogue):
    """Has atlases, at a price of 100."""

    def __init__(self) -> None:
        self.stock = 10
        self.changed = asyncio.Event()

    def restock(self, n: int) -> None:
        self.stock = n
        self.changed.set()
        self.changed = asyncio.Event()

    async def reserve(
        self, request: catalogue_pb2.ReserveRequest, _context: octomesh.ServerContext, /
    ) -> catalogue_pb2.ReserveResponse:
        wanted = sum(line.quantity for line in request.lines)
        if wanted > self.stock:
            missing = catalogue_pb2.OutOfStock(sku="atlas", wanted=wanted, available=self.stock)
            raise RpcError(Code.FAILED_PRECONDITION, "out of stock", details=[missing])
        self.stock -= wanted
        return catalogue_pb2.ReserveResponse(total_cents=100 * wanted)

    async def watch_stock(
        self, _request: catalogue_pb2.WatchStockRequest, _context: octomesh.ServerContext, /
    ) -> AsyncIterator[catalogue_pb2.WatchStockResponse]:
        while True:
            changed = self.changed
            yield catalogue_pb2.WatchStockResponse(sku="atlas", stock=self.stock)
            await changed.wait()


class Shop:
    def __init__(self) -> None:
        self.cart = Cart()
        self.catalogue = Catalogue()
        self.spans: list[dict[str, Any]] = []
        self.stack = AsyncExitStack()
        self.checkout: checkout_octo.CheckoutClient
        self.service: CheckoutService

    async def channel(self, target: str, service: octomesh.Service) -> octomesh.Channel:
        spans = trace.interceptor(target, f"{target}-1", lambda line: self.spans.append(line[trace.MESSAGE]))
        server = octomesh.Server(target, mode="off", application=f"caller of {target}", interceptors=[spans]).add(
            service
        )
        self.stack.push_async_callback(server.stop, 0)
        return await self.stack.enter_async_context(octomesh.in_process(server))

    async def place(self, order_id: str, user: str = "ada", *, wait: bool = False, timeout: float = PATIENCE) -> int:
        request = pb.PlaceOrderRequest(order_id=order_id, user=user, wait_for_stock=wait)
        return (await self.checkout.place_order(request, timeout=timeout, baggage={"tier": "gold"})).total_cents

    async def history(self, order_id: str, until: pb.Status) -> list[pb.Status]:
        seen = []
        async with self.checkout.watch_order(pb.WatchOrderRequest(order_id=order_id), timeout=PATIENCE) as stream:
            async for now in stream:
                seen.append(now.status)
                if now.status == until:
                    break
        return seen


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    async with shop.stack:
        cart = cart_octo.CartClient(await shop.channel("cart", shop.cart))
        catalogue = catalogue_octo.CatalogueClient(await shop.channel("catalogue", shop.catalogue))
        shop.service = CheckoutService(cart, catalogue)
        shop.checkout = checkout_octo.CheckoutClient(await shop.channel("checkout", shop.service))
        yield shop


async def test_an_order_is_placed_once_and_has_one_trace(shop: Shop) -> None:
    shop.cart.items = {"atlas": 3}
    with octomesh.trace_context(f"00-{'a' * 32}-{'b' * 16}-01"):
        assert await shop.place("o1") == 300
        assert await shop.place("o1") == 300
    assert shop.catalogue.stock == 7
    assert await shop.history("o1", pb.STATUS_CONFIRMED) == [
        pb.STATUS_RECEIVED,
        pb.STATUS_RESERVED,
        pb.STATUS_CONFIRMED,
    ]
    spans = [span for span in shop.spans if span["trace"] == "a" * 32]
    assert [span["method"] for span in spans] == [
        "shop.cart.v1.Cart/Get",
        "shop.catalogue.v1.Catalogue/Reserve",
        "shop.cart.v1.Cart/Clear",
        "shop.checkout.v1.Checkout/PlaceOrder",
        "shop.checkout.v1.Checkout/PlaceOrder",
    ]
    order = spans[3]
    assert order["parent"] == "b" * 16
    assert {span["parent"] for span in spans[:3]} == {order["span"]}
    for span in spans:
        assert span["baggage"] == {"tier": "gold"}
        assert span["budget_us"] > 0


async def test_an_order_of_what_is_not_there_says_what_is_missing(shop: Shop) -> None:
    shop.cart.items = {"atlas": 11}
    with pytest.raises(RpcError) as caught:
        await shop.place("o1")
    assert caught.value.origin is octomesh.Origin.APPLICATION
    missing = out_of_stock(caught.value)
    assert missing is not None
    assert (missing.wanted, missing.available) == (11, 10)
    assert await shop.history("o1", pb.STATUS_REJECTED) == [pb.STATUS_RECEIVED, pb.STATUS_REJECTED]
    with pytest.raises(RpcError, match="the cart is empty"):
        await shop.place("o2", "bob")
    with pytest.raises(RpcError, match="want an order id"):
        await shop.place("")


async def test_an_order_waits_for_stock_until_its_deadline(shop: Shop) -> None:
    shop.cart.items = {"atlas": 11}
    with pytest.raises(TimeoutError):
        await shop.place("o1", wait=True, timeout=0.05)
    assert (await shop.history("o1", pb.STATUS_REJECTED))[-1] == pb.STATUS_REJECTED
    placed = asyncio.create_task(shop.place("o2", wait=True))
    await shop.history("o2", pb.STATUS_WAITING)
    shop.catalogue.restock(11)
    assert await placed == 1100
    history = await shop.history("o2", pb.STATUS_CONFIRMED)
    assert history[0] == pb.STATUS_RECEIVED
    assert history[-2:] == [pb.STATUS_RESERVED, pb.STATUS_CONFIRMED]


async def test_who_watches_an_order_goes_elsewhere_when_the_instance_leaves(shop: Shop) -> None:
    watching = asyncio.create_task(shop.history("o1", pb.STATUS_CONFIRMED))
    shop.cart.items = {"atlas": 11}
    with pytest.raises(RpcError):
        await shop.place("o0")
    shop.service.leave()
    with pytest.raises(RpcError, match="leaving") as caught:
        await watching
    assert caught.value.code is Code.UNAVAILABLE
