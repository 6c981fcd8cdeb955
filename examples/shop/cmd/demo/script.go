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
	// split judges how the calls were split between the catalogue's instances.
	split func(mesh bool, a, b int) error
	// For the mesh alone, done before the step: a file that the operator applies, or "-" to delete the policy; the
	// instance that is killed; the instance that is started again.
	policy, kill, revive string
}

// meshOnly tells whether the step makes sense behind proxies alone.
func (s step) meshOnly() bool { return s.policy != "" || s.kill != "" || s.revive != "" }

const (
	customers = customerName
	catalogue = cataloguev1.CatalogueTarget
	cart      = cartv1.CartTarget
	checkout  = checkoutv1.CheckoutTarget

	// hurry is the time that the customer gives an order that cannot be had.
	hurry = 500 * time.Millisecond
	many  = 300
)

func one(target string) []hop { return []hop{{customers, target, 1}} }

// script is the customer's day, from left to right through all that a call can be.
func script() []step {
	var steps []step
	steps = append(steps, browsing()...)
	steps = append(steps, ordering()...)
	steps = append(steps, failing()...)
	steps = append(steps, balancing()...)
	steps = append(steps, routing()...)
	return append(steps, dying()...)
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

// balancing has weights of 2 to 1. The bounds are so wide that chance alone does not leave them.
func balancing() []step {
	gets := []hop{{customers, catalogue, many}}
	return []step{
		{name: fmt.Sprintf("Get, %d times one by one", many), hops: gets,
			each: func(ctx context.Context, c *customer) (time.Duration, error) { return c.burst(ctx, many, 1) },
			split: func(_ bool, a, b int) error {
				return expect(between(b, many/3-50, many/3+50), "%d and %d calls by weights of 2 to 1", a, b)
			}},
		{name: fmt.Sprintf("Get, %d times, 8 at once", many), hops: gets,
			each: func(ctx context.Context, c *customer) (time.Duration, error) { return c.burst(ctx, many, 8) },
			split: func(_ bool, a, b int) error {
				// Whoever has less to do for its weight gets the next one, so that one that the machine holds up gets fewer.
				return expect(a > many/20 && b > many/20, "%d and %d calls, which both were to get some of", a, b)
			}},
	}
}

func routing() []step {
	return []step{
		{name: "Get, a route sends 10 % to v2", hops: []hop{{customers, catalogue, many}},
			policy: "canary.yaml",
			each:   func(ctx context.Context, c *customer) (time.Duration, error) { return c.burst(ctx, many, 1) },
			split: func(_ bool, a, b int) error {
				return expect(between(b, 5, many/5), "%d and %d calls by weights of 9 to 1", a, b)
			}},
		{name: "PlaceOrder, gold customers to v2", chain: true,
			hops:   []hop{{customers, cart, 1}, {customers, checkout, 1}, {checkout, cart, 2}, {checkout, catalogue, 1}},
			policy: "gold.yaml",
			do: func(ctx context.Context, c *customer) (string, error) {
				if _, err := c.add(ctx, &cartv1.Item{Sku: "atlas", Quantity: 1}); err != nil {
					return "", err
				}
				return c.place(ctx, "order-5", false)
			},
			split: func(_ bool, a, b int) error {
				return expect(a == 0 && b == 1, "%d calls went to v1, %d to v2", a, b)
			}},
	}
}

// dying takes an instance away, without a word, and brings it back.
func dying() []step {
	gets := []hop{{customers, catalogue, many}}
	burst := func(ctx context.Context, c *customer) (time.Duration, error) { return c.burst(ctx, many, 8) }
	return []step{
		{name: "Get, both instances are there", hops: gets, policy: "-", each: burst, split: func(_ bool, a, b int) error {
			return expect(a > many/20 && b > many/20, "%d and %d calls", a, b)
		}},
		{name: "Get, catalogue-a was killed", hops: gets, kill: "catalogue-a", each: burst, split: func(_ bool, a, b int) error {
			return expect(a == 0 && b == many, "%d and %d calls, and catalogue-a is dead", a, b)
		}},
		{name: "Get, catalogue-a is back", hops: gets, revive: "catalogue-a", each: burst, split: func(_ bool, a, b int) error {
			return expect(a > many/20 && b > many/20, "%d and %d calls", a, b)
		}},
	}
}

func between(n, low, high int) bool { return low <= n && n <= high }
