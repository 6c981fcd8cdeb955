// Command customer calls the shop from a shell, through the proxy whose socket OCTO_SOCKET names.
//
//	customer list
//	customer get [--times N] [--baggage key=value] SKU
//	customer order USER SKU=QUANTITY...
//	customer watch
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	"github.com/octomesh/octomesh/examples/shop/trace"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

const usage = `usage: OCTO_SOCKET=... customer COMMAND
  list                                            what the shop sells
  get [--times N] [--baggage key=value] SKU       one product, and which instances answered
  order USER SKU=QUANTITY...                      fill the cart and order it
  watch                                           the stock, until Ctrl-C`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := errors.New(usage)
	if len(os.Args) > 1 {
		err = run(ctx, os.Args[1], os.Args[2:])
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, args []string) error {
	commands := map[string]func(context.Context, []string) error{"list": list, "get": get, "order": order, "watch": watch}
	f := commands[command]
	if f == nil {
		return errors.New(usage)
	}
	return f(ctx, args)
}

func dial(target string) (*octomesh.Channel, error) {
	return octomesh.Dial(target, octomesh.WithApplication("customer"),
		octomesh.WithEnvironment(cmp.Or(os.Getenv("OCTO_ENVIRONMENT"), "shop")))
}

func catalogue() (cataloguev1.CatalogueClient, func() error, error) {
	ch, err := dial(cataloguev1.CatalogueTarget)
	if err != nil {
		return nil, nil, err
	}
	return cataloguev1.NewCatalogueClient(ch), ch.Close, nil
}

func list(ctx context.Context, _ []string) error {
	c, end, err := catalogue()
	if err != nil {
		return err
	}
	res, err := c.List(ctx, &cataloguev1.ListRequest{})
	for _, p := range res.GetProducts() {
		fmt.Printf("%-10s %-12s %8.2f %6d there\n", p.GetSku(), p.GetName(), float64(p.GetPriceCents())/100, p.GetStock())
	}
	return errors.Join(err, end())
}

func get(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	times := flags.Int("times", 1, "how often")
	baggage := flags.String("baggage", "", "key=value that goes down the whole chain of calls")
	_ = flags.Parse(args)
	if key, value, ok := strings.Cut(*baggage, "="); ok {
		ctx = octomesh.ContextWithBaggage(ctx, key, value)
	}
	if flags.NArg() != 1 {
		return errors.New(usage)
	}
	c, end, err := catalogue()
	if err != nil {
		return err
	}
	answered, took := make(map[string]int), make([]time.Duration, 0, *times)
	for range *times {
		var header octomesh.Metadata
		began := time.Now()
		res, err := c.Get(ctx, &cataloguev1.GetRequest{Sku: flags.Arg(0)}, octomesh.CaptureHeader(&header))
		if err != nil {
			return errors.Join(err, end())
		}
		took = append(took, time.Since(began))
		if len(took) == 1 {
			fmt.Printf("%s: %s, %d there\n", res.GetProduct().GetSku(), res.GetProduct().GetName(), res.GetProduct().GetStock())
		}
		answered[header.Get(trace.ServedBy)]++
	}
	for _, by := range []string{"catalogue-a", "catalogue-b"} {
		fmt.Printf("answered by %s: %d\n", by, answered[by])
	}
	slices.Sort(took)
	if len(took) > 0 {
		fmt.Printf("median %v\n", took[len(took)/2].Round(time.Microsecond))
	}
	return end()
}

func order(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	cart, err := dial(cartv1.CartTarget)
	if err != nil {
		return err
	}
	checkout, err := dial(checkoutv1.CheckoutTarget)
	if err != nil {
		return errors.Join(err, cart.Close())
	}
	err = place(ctx, cartv1.NewCartClient(cart), checkoutv1.NewCheckoutClient(checkout), args[0], args[1:])
	return errors.Join(err, cart.Close(), checkout.Close())
}

func place(ctx context.Context, cart cartv1.CartClient, checkout checkoutv1.CheckoutClient, user string, items []string) error {
	for _, text := range items {
		sku, number, _ := strings.Cut(text, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("%q: want SKU=QUANTITY", text)
		}
		if _, err := cart.Add(ctx, &cartv1.AddRequest{User: user, Item: &cartv1.Item{Sku: sku, Quantity: n}}); err != nil {
			return err
		}
	}
	id := fmt.Sprintf("order-%d", time.Now().UnixNano())
	ctx, traceID := trace.Root(ctx)
	res, err := checkout.PlaceOrder(ctx, &checkoutv1.PlaceOrderRequest{OrderId: id, User: user})
	if err != nil {
		return fmt.Errorf("%s (trace %s): %w", id, traceID, err)
	}
	fmt.Printf("%s costs %.2f (trace %s)\n", id, float64(res.GetTotalCents())/100, traceID)
	return nil
}

func watch(ctx context.Context, _ []string) error {
	c, end, err := catalogue()
	if err != nil {
		return err
	}
	stock, err := c.WatchStock(ctx, &cataloguev1.WatchStockRequest{})
	if err != nil {
		return errors.Join(err, end())
	}
	for now, err := range stock.All() {
		if err != nil {
			return errors.Join(err, end())
		}
		fmt.Printf("%-10s %d\n", now.GetSku(), now.GetStock())
	}
	return end()
}
