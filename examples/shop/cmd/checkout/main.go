// Command checkout is the shop's checkout service. It calls the cart and the catalogue.
package main

import (
	"errors"
	"flag"

	"github.com/octomesh/octomesh/examples/shop/checkout"
	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	"github.com/octomesh/octomesh/examples/shop/instance"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func main() {
	p := instance.New(checkoutv1.CheckoutTarget)
	flag.Parse()
	p.Exit(run(p))
}

func run(p *instance.Process) error {
	ctx, stop := p.Context()
	defer stop()
	cart, err := p.Dial(cartv1.CartTarget)
	if err != nil {
		return err
	}
	catalogue, err := p.Dial(cataloguev1.CatalogueTarget)
	if err != nil {
		return errors.Join(err, cart.Close())
	}
	service := checkout.New(ctx, cartv1.NewCartClient(cart), cataloguev1.NewCatalogueClient(catalogue))
	err = p.Serve(ctx, func(s *octomesh.Server) { checkoutv1.RegisterCheckout(s, service) })
	return errors.Join(err, cart.Close(), catalogue.Close())
}
