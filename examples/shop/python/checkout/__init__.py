"""The shop's checkout service: it turns carts into orders."""
