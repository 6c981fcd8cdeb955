"""The checkout itself.

Its calls to the cart and the catalogue are made in the handler's task, so they have the deadline, the cancellation, the
trace and the baggage of the call that it serves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from shop.cart.v1.cart_octo import CartClient
from shop.cart.v1.cart_pb2 import ClearRequest
from shop.cart.v1.cart_pb2 import GetRequest as GetCartRequest
from shop.catalogue.v1.catalogue_octo import CatalogueClient
from shop.catalogue.v1.catalogue_pb2 import OutOfStock, ReserveLine, ReserveRequest, WatchStockRequest
from shop.checkout.v1 import checkout_pb2 as pb
from shop.checkout.v1.checkout_octo import Checkout

import octomesh
from checkout.orders import Order, Orders, final
from octomesh import Code, RpcError


class CheckoutService(Checkout):
    """Implements the checkout on clients of what it calls."""

    def __init__(self, cart: CartClient, catalogue: CatalogueClient) -> None:
        self._cart = cart
        self._catalogue = catalogue
        self._orders = Orders()
        self._leaving = False

    def leave(self) -> None:
        """Tell watchers to go elsewhere."""
        self._leaving = True
        self._orders.wake()

    async def place_order(
        self, request: pb.PlaceOrderRequest, _context: octomesh.ServerContext, /
    ) -> pb.PlaceOrderResponse:
        """Order what is in the user's cart, once."""
        if not request.order_id or not request.user:
            raise RpcError(Code.INVALID_ARGUMENT, "want an order id and a user")
        order = self._orders.get(request.order_id)
        async with order.turn:  # one at a time: a repetition waits for what it repeats
            if order.confirmed:
                return pb.PlaceOrderResponse(total_cents=order.total)
            order.begin()
            try:
                total = await self._place(order, request)
            except BaseException:  # also where the call's time is over
                order.add(pb.STATUS_REJECTED)
                raise
            order.confirm(total)
            return pb.PlaceOrderResponse(total_cents=total)

    async def _place(self, order: Order, request: pb.PlaceOrderRequest) -> int:
        """Reserve what is in the cart, and empty it; returns the sum in cents."""
        cart = await self._cart.get(GetCartRequest(user=request.user))
        if not cart.items:
            raise RpcError(Code.FAILED_PRECONDITION, "the cart is empty")
        lines = [ReserveLine(sku=item.sku, quantity=item.quantity) for item in cart.items]
        reserve = ReserveRequest(order_id=request.order_id, lines=lines)
        while True:
            try:
                reserved = await self._catalogue.reserve(reserve)
                break
            except RpcError as error:
                missing = out_of_stock(error)
                if missing is None or not request.wait_for_stock:
                    raise  # with its details: what is out of stock
            order.add(pb.STATUS_WAITING)
            await self._wait_for(missing)
        order.add(pb.STATUS_RESERVED)
        # Where this fails the reservation stays: placing the order again finds it.
        await self._cart.clear(ClearRequest(user=request.user))
        return reserved.total_cents

    async def _wait_for(self, missing: OutOfStock) -> None:
        """Watch the stock until there is enough, or the deadline of the call passes."""
        async with self._catalogue.watch_stock(WatchStockRequest(skus=[missing.sku])) as stock:
            async for now in stock:
                if now.stock >= missing.wanted:
                    return
        raise RpcError(Code.UNAVAILABLE, "the catalogue stopped telling its stock")

    async def watch_order(
        self, request: pb.WatchOrderRequest, _context: octomesh.ServerContext, /
    ) -> AsyncIterator[pb.WatchOrderResponse]:
        """Send each status of an order, from the first to the last."""
        if not request.order_id:
            raise RpcError(Code.INVALID_ARGUMENT, "want an order id")
        order = self._orders.get(request.order_id)
        sent = 0
        while True:
            changed, history = order.changed, order.history
            while sent < len(history):
                status = history[sent]
                sent += 1
                yield pb.WatchOrderResponse(status=status)
                if final(status):
                    return
            if self._leaving:
                raise RpcError(Code.UNAVAILABLE, "this instance is leaving")
            await changed.wait()


def out_of_stock(error: RpcError) -> OutOfStock | None:
    """Return what an error says is missing; None: it is another error."""
    if error.code == Code.FAILED_PRECONDITION:
        for detail in error.details:
            missing = OutOfStock()
            if detail.Unpack(missing):
                return missing
    return None
