package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	"github.com/octomesh/octomesh/examples/shop/trace"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// customer is who calls the shop: this process.
type customer struct {
	catalogue cataloguev1.CatalogueClient
	cart      cartv1.CartClient
	checkout  checkoutv1.CheckoutClient
	channels  []*octomesh.Channel

	stock      *octomesh.ReceiveStream[cataloguev1.WatchStockResponse]
	stockTrace string

	placed octomesh.Timings // of the last order
}

func newCustomer(options func(target string) []octomesh.DialOption) (*customer, error) {
	c := &customer{}
	dial := func(target string) *octomesh.Channel {
		opts := append(options(target), octomesh.WithApplication(customerName), octomesh.WithEnvironment(environment))
		ch, err := octomesh.Dial(target, opts...)
		if err != nil {
			panic(err) // all that it checks is written in this program
		}
		c.channels = append(c.channels, ch)
		return ch
	}
	c.catalogue = cataloguev1.NewCatalogueClient(dial(cataloguev1.CatalogueTarget))
	c.cart = cartv1.NewCartClient(dial(cartv1.CartTarget))
	c.checkout = checkoutv1.NewCheckoutClient(dial(checkoutv1.CheckoutTarget))
	return c, nil
}

func (c *customer) close() error {
	var err error
	for _, ch := range c.channels {
		err = errors.Join(err, ch.Close())
	}
	return err
}

const user = "ada"

// products are what the shop sells at first.
var products = []*cataloguev1.Product{
	{Sku: "atlas", Name: "Atlas", PriceCents: 4900, Stock: 20},
	{Sku: "compass", Name: "Compass", PriceCents: 1550, Stock: 50},
	{Sku: "globe", Name: "Globe", PriceCents: 8900, Stock: 3},
}

func (c *customer) importProducts(ctx context.Context, all ...*cataloguev1.Product) (string, error) {
	stream, err := c.catalogue.ImportProducts(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if err := stream.Send(&cataloguev1.ImportProductsRequest{Product: p}); err != nil {
			break // how it ended is told next
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d products", res.GetImported()), expect(res.GetImported() == int64(len(all)), "imported %d", res.GetImported())
}

func (c *customer) list(ctx context.Context) (string, error) {
	res, err := c.catalogue.List(ctx, &cataloguev1.ListRequest{})
	if err != nil {
		return "", err
	}
	n := len(res.GetProducts())
	return fmt.Sprintf("%d products", n), expect(n == len(products), "listed %d", n)
}

func (c *customer) quote(ctx context.Context) (string, error) {
	stream, err := c.catalogue.Quote(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text := ""
	for _, ask := range []*cataloguev1.QuoteRequest{{Sku: "atlas", Quantity: 2}, {Sku: "compass", Quantity: 1}} {
		if err := stream.Send(ask); err != nil {
			break // how it ended is told next
		}
		answer, err := stream.Receive()
		if err != nil {
			return "", err
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d %s %s", answer.GetQuantity(), answer.GetSku(), money(answer.GetTotalCents()))
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	for _, err := range stream.All() {
		if err != nil {
			return "", err
		}
	}
	return text, expect(text == "2 atlas 98.00, 1 compass 15.50", "quoted %s", text)
}

func (c *customer) add(ctx context.Context, items ...*cartv1.Item) (string, error) {
	text := ""
	for _, i := range items {
		res, err := c.cart.Add(ctx, &cartv1.AddRequest{User: user, Item: i})
		if err != nil {
			return "", err
		}
		text = fmt.Sprintf("%d in the cart", len(res.GetItems()))
	}
	return text, nil
}

// watchStock opens the stream that stays open over the next steps.
func (c *customer) watchStock(ctx context.Context) (string, error) {
	var err error
	if c.stock, err = c.catalogue.WatchStock(ctx, &cataloguev1.WatchStockRequest{}); err != nil {
		return "", err
	}
	text, err := c.stockNews(len(products))
	return "stock: " + text, err
}

// stockNews receives n updates.
func (c *customer) stockNews(n int) (string, error) {
	text := ""
	for i := range n {
		now, err := c.stock.Receive()
		if err != nil {
			return "", fmt.Errorf("watching the stock: %w", err)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %d", now.GetSku(), now.GetStock())
	}
	return text, nil
}

func (c *customer) place(ctx context.Context, id string, wait bool, opts ...octomesh.CallOption) (string, error) {
	opts = append(opts[:len(opts):len(opts)], octomesh.CaptureTimings(&c.placed))
	res, err := c.checkout.PlaceOrder(ctx, &checkoutv1.PlaceOrderRequest{OrderId: id, User: user, WaitForStock: wait}, opts...)
	if err != nil {
		return "", err
	}
	return money(res.GetTotalCents()), nil
}

func (c *customer) watchOrder(ctx context.Context, id string, until checkoutv1.Status) (string, error) {
	stream, err := c.checkout.WatchOrder(ctx, &checkoutv1.WatchOrderRequest{OrderId: id})
	if err != nil {
		return "", err
	}
	text := ""
	for now, err := range stream.All() {
		if err != nil {
			return "", err
		}
		if text != "" {
			text += ", "
		}
		text += now.GetStatus().String()[len("STATUS_"):]
		if now.GetStatus() == until {
			break
		}
	}
	return text, nil
}

// outOfStock wants the error that a PlaceOrder must have ended with.
func outOfStock(err error) (string, error) {
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.FailedPrecondition || e.Origin != octomesh.OriginApplication {
		return "", fmt.Errorf("wanted the application's FAILED_PRECONDITION, got: %w", orNil(err))
	}
	for _, d := range e.Details() {
		missing := new(cataloguev1.OutOfStock)
		if d.UnmarshalTo(missing) == nil {
			return fmt.Sprintf("%v as expected: wanted %d %s, %d there", e.Code, missing.GetWanted(), missing.GetSku(), missing.GetAvailable()), nil
		}
	}
	return "", errors.New("the error has no details")
}

func tooLate(err error) (string, error) {
	if octomesh.CodeOf(err) != octomesh.DeadlineExceeded {
		return "", fmt.Errorf("wanted DEADLINE_EXCEEDED, got: %w", orNil(err))
	}
	return "DEADLINE_EXCEEDED as expected", nil
}

// restocked places an order that waits, and brings what it waits for.
func (c *customer) restocked(ctx context.Context, id string, p *cataloguev1.Product) (string, error) {
	placed := make(chan error, 1)
	total := ""
	go func() {
		var err error
		total, err = c.place(ctx, id, true)
		placed <- err
	}()
	_, err := c.watchOrder(ctx, id, checkoutv1.Status_STATUS_WAITING)
	if err == nil {
		_, err = c.importProducts(ctx, p)
	}
	if err := errors.Join(err, <-placed); err != nil {
		return "", err
	}
	return "waited for stock, then " + total, nil
}

// burst gets a product n times, by so many callers at once. It returns the median.
func (c *customer) burst(ctx context.Context, n, callers int) (time.Duration, error) {
	took, errs := make([]time.Duration, n), make([]error, callers)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := caller; i < n && errs[caller] == nil; i += callers {
				began := time.Now()
				_, errs[caller] = c.catalogue.Get(ctx, &cataloguev1.GetRequest{Sku: "atlas"})
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took[n/2], errors.Join(errs...)
}

func (c *customer) closeStock() (string, error) {
	c.stock.Close()
	_, err := c.stock.Receive()
	return "", expect(octomesh.CodeOf(err) == octomesh.Cancelled, "the closed stream ended with %v", err)
}

func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("not as expected: "+format, args...)
}

func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// traced begins a trace that carries who the customer is, for all services of the chain.
func traced(ctx context.Context) (context.Context, string) {
	ctx, id := trace.Root(ctx)
	return octomesh.ContextWithBaggage(ctx, "tier", "gold"), id
}
