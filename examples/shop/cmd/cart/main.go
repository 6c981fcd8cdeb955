// Command cart is the shop's cart service.
package main

import (
	"flag"

	"github.com/octomesh/octomesh/examples/shop/cart"
	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	"github.com/octomesh/octomesh/examples/shop/instance"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func main() {
	p := instance.New(cartv1.CartTarget)
	flag.Parse()
	ctx, stop := p.Context()
	defer stop()
	p.Exit(p.Serve(ctx, func(s *octomesh.Server) { cartv1.RegisterCart(s, new(cart.Service)) }))
}
