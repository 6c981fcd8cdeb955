"""What the checkout knows of orders."""

from __future__ import annotations

import asyncio
from typing import Final

from shop.checkout.v1 import checkout_pb2 as pb

MAX_ORDERS: Final = 10_000
"""The oldest is forgotten first. The catalogue remembers what was reserved for it."""

_FINAL: Final = frozenset((pb.STATUS_CONFIRMED, pb.STATUS_REJECTED))


def final(status: pb.Status) -> bool:
    """Nothing comes behind it."""
    return status in _FINAL


class Order:
    """One order's way so far."""

    def __init__(self) -> None:
        self.turn: Final = asyncio.Lock()
        """Held by who places it."""
        self.history: list[pb.Status] = []
        """Never changed in place: watchers read it."""
        self.total = 0
        """In cents, once it is confirmed."""
        self.changed = asyncio.Event()
        """Set, and made anew, when there is news for watchers."""

    @property
    def confirmed(self) -> bool:
        """It has been placed."""
        return self.history[-1:] == [pb.STATUS_CONFIRMED]

    def begin(self) -> None:
        """Start the history, anew after a rejection."""
        self.history = []
        self.add(pb.STATUS_RECEIVED)

    def add(self, status: pb.Status) -> None:
        """Go a step further."""
        self.history = [*self.history, status]
        self.wake()

    def confirm(self, total: int) -> None:
        """End well."""
        self.total = total
        self.add(pb.STATUS_CONFIRMED)

    def wake(self) -> None:
        """Tell watchers to look."""
        self.changed.set()
        self.changed = asyncio.Event()


class Orders:
    """All orders, by id."""

    def __init__(self) -> None:
        self._all: dict[str, Order] = {}

    def get(self, order_id: str) -> Order:
        """Return an order, which becomes known with it."""
        order = self._all.get(order_id)
        if order is None:
            if len(self._all) == MAX_ORDERS:
                del self._all[next(iter(self._all))]
            order = self._all[order_id] = Order()
        return order

    def wake(self) -> None:
        """Tell all watchers to look."""
        for order in self._all.values():
            order.wake()
