package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// hop is so many calls that must end during a step.
type hop struct {
	caller, target string
	calls          int
}

// step is one thing that the customer does.
type step struct {
	name string
	// do returns what came of it, in a few words, and an error if that is not what should have come.
	do func(ctx context.Context, c *customer) (string, error)
	// hops must be what the services log, and in the mesh what the proxies count.
	hops  []hop
	chain bool // print who called whom
	// opens: a call stays open behind the step; closes: that call ends with the step.
	opens, closes bool
	// each: the time is the median of many calls, which do returns.
	each func(ctx context.Context, c *customer) (time.Duration, error)
}

const (
	customers = customerName
	catalogue = cataloguev1.CatalogueTarget
	cart      = cartv1.CartTarget
	checkout  = checkoutv1.CheckoutTarget

	// hurry is the time that the customer gives an order that cannot be had.
	hurry = 300 * time.Millisecond
	many  = 300
)

func one(target string) []hop { return []hop{{customers, target, 1}} }

// script is the customer's day, from left to right through all that a call can be.
func script() []step {
	var steps []step
	steps = append(steps, browsing()...)
	steps = append(steps, ordering()...)
	steps = append(steps, failing()...)
	return append(steps, balancing()...)
}

func browsing() []step {
	return []step{
		{name: "ImportProducts (client stream)", hops: one(catalogue), do: func(ctx context.Context, c *customer) (string, error) {
			return c.importProducts(ctx, products...)
		}},
		{name: "List", hops: one(catalogue), do: func(ctx context.Context, c *customer) (string, error) { return c.list(ctx) }},
		{name: "Quote (both stream)", hops: one(catalogue), do: func(ctx context.Context, c *customer) (string, error) { return c.quote(ctx) }},
		{name: "Add to the cart, twice", hops: []hop{{customers, cart, 2}}, do: func(ctx context.Context, c *customer) (string, error) {
			return c.add(ctx, &cartv1.Item{Sku: "atlas", Quantity: 2}, &cartv1.Item{Sku: "compass", Quantity: 1})
		}},
		{name: "WatchStock (server stream), opened", opens: true, do: func(ctx context.Context, c *customer) (string, error) {
			return c.watchStock(ctx)
		}},
	}
}

func ordering() []step {
	return []step{
		{name: "PlaceOrder", chain: true, hops: []hop{{customers, checkout, 1}, {checkout, cart, 2}, {checkout, catalogue, 1}},
			do: func(ctx context.Context, c *customer) (string, error) {
				total, err := c.place(ctx, "order-1", false)
				if err != nil {
					return "", err
				}
				news, err := c.stockNews(2)
				return total + "; the watch says " + news, cmp.Or(err, expect(total == "113.50" && news == "atlas 18, compass 49", "%s, %s", total, news))
			}},
		{name: "WatchOrder (server stream)", hops: one(checkout), do: func(ctx context.Context, c *customer) (string, error) {
			text, err := c.watchOrder(ctx, "order-1", checkoutv1.Status_STATUS_UNSPECIFIED)
			return text, cmp.Or(err, expect(text == "RECEIVED, RESERVED, CONFIRMED", "%s", text))
		}},
		{name: "PlaceOrder, the same again", hops: one(checkout), do: func(ctx context.Context, c *customer) (string, error) {
			total, err := c.place(ctx, "order-1", false)
			return total + ", nothing taken twice", cmp.Or(err, expect(total == "113.50", "%s", total))
		}},
	}
}

func failing() []step {
	return []step{
		{name: "PlaceOrder, out of stock",
			hops: []hop{{customers, cart, 1}, {customers, checkout, 1}, {checkout, cart, 1}, {checkout, catalogue, 1}},
			do: func(ctx context.Context, c *customer) (string, error) {
				if _, err := c.add(ctx, &cartv1.Item{Sku: "globe", Quantity: 5}); err != nil {
					return "", err
				}
				_, err := c.place(ctx, "order-2", false)
				return outOfStock(err)
			}},
		{name: fmt.Sprintf("PlaceOrder, waits for stock, %v", hurry), chain: true,
			hops: []hop{{customers, checkout, 1}, {checkout, cart, 1}, {checkout, catalogue, 2}},
			do: func(ctx context.Context, c *customer) (string, error) {
				_, err := c.place(ctx, "order-3", true, octomesh.Timeout(hurry))
				return tooLate(err)
			}},
		{name: "PlaceOrder, waits, and is served",
			hops: []hop{{customers, checkout, 2}, {customers, catalogue, 1}, {checkout, cart, 2}, {checkout, catalogue, 3}},
			do: func(ctx context.Context, c *customer) (string, error) {
				return c.restocked(ctx, "order-4", &cataloguev1.Product{Sku: "globe", Name: "Globe", PriceCents: 8900, Stock: 8})
			}},
		{name: "WatchStock, closed", closes: true, hops: one(catalogue), do: func(_ context.Context, c *customer) (string, error) {
			return c.closeStock()
		}},
	}
}

func balancing() []step {
	gets := []hop{{customers, catalogue, many}}
	return []step{
		{name: fmt.Sprintf("Get, %d times one by one", many), hops: gets, each: func(ctx context.Context, c *customer) (time.Duration, error) {
			return c.burst(ctx, many, 1)
		}},
		{name: fmt.Sprintf("Get, %d times, 8 at once", many), hops: gets, each: func(ctx context.Context, c *customer) (time.Duration, error) {
			return c.burst(ctx, many, 8)
		}},
	}
}
