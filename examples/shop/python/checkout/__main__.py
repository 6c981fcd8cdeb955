"""The checkout as a process: `python -m checkout`, with the flags that all services of the shop have."""

from __future__ import annotations

import asyncio

from shop.cart.v1.cart_octo import CartClient
from shop.catalogue.v1.catalogue_octo import CatalogueClient

from checkout.instance import Process
from checkout.service import CheckoutService


async def main() -> None:
    """Serve until the process is asked to end."""
    process = Process.of_flags("checkout")
    async with process.dial("cart") as cart, process.dial("catalogue") as catalogue:
        service = CheckoutService(CartClient(cart), CatalogueClient(catalogue))
        await process.serve(service, leave=service.leave)


if __name__ == "__main__":
    asyncio.run(main())
