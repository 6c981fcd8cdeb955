"""The cart itself."""

from __future__ import annotations

from shop.cart.v1.cart_octo import Cart
from shop.cart.v1.cart_pb2 import (
    AddRequest,
    AddResponse,
    ClearRequest,
    ClearResponse,
    GetRequest,
    GetResponse,
    Item,
)

import octomesh

MAX_ITEMS = 100
"""Different products in a cart."""
MAX_QUANTITY = 1_000_000
MAX_CARTS = 100_000


class CartService(Cart):
    """Implements the cart."""

    def __init__(self) -> None:
        self._carts: dict[str, dict[str, int]] = {}  # quantity by user and sku

    async def add(self, request: AddRequest, _context: octomesh.ServerContext, /) -> AddResponse:
        """Put so many more of a product into a user's cart."""
        user, sku, quantity = request.user, request.item.sku, request.item.quantity
        if not user or not sku or not 1 <= quantity <= MAX_QUANTITY:
            raise octomesh.RpcError(
                octomesh.Code.INVALID_ARGUMENT, f"want a user, a sku and a quantity from 1 to {MAX_QUANTITY}"
            )
        cart = self._carts.get(user, {})
        if not cart and user not in self._carts and len(self._carts) >= MAX_CARTS:
            raise octomesh.RpcError(
                octomesh.Code.RESOURCE_EXHAUSTED, f"{MAX_CARTS} carts are all there is room for"
            )
        if sku not in cart and len(cart) >= MAX_ITEMS:
            raise octomesh.RpcError(
                octomesh.Code.FAILED_PRECONDITION, f"the cart is full: {MAX_ITEMS} products"
            )
        if cart.get(sku, 0) + quantity > MAX_QUANTITY:
            raise octomesh.RpcError(octomesh.Code.FAILED_PRECONDITION, f"more than {MAX_QUANTITY} of {sku}")
        cart[sku] = cart.get(sku, 0) + quantity
        self._carts[user] = cart
        return AddResponse(items=_items(cart))

    async def get(self, request: GetRequest, _context: octomesh.ServerContext, /) -> GetResponse:
        """Say what is in a user's cart. An unknown user's is empty."""
        return GetResponse(items=_items(self._carts.get(request.user, {})))

    async def clear(self, request: ClearRequest, _context: octomesh.ServerContext, /) -> ClearResponse:
        """Empty a user's cart."""
        self._carts.pop(request.user, None)
        return ClearResponse()


def _items(cart: dict[str, int]) -> list[Item]:
    return [Item(sku=sku, quantity=quantity) for sku, quantity in sorted(cart.items())]
