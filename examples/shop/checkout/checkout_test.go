package checkout

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/examples/shop/cart"
	"github.com/octomesh/octomesh/examples/shop/catalogue"
	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	"github.com/octomesh/octomesh/examples/shop/trace"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// shop is all three services in this process, and clients of them.
type shop struct {
	cart      cartv1.CartClient
	catalogue cataloguev1.CatalogueClient
	checkout  checkoutv1.CheckoutClient

	mu    sync.Mutex
	spans []*trace.Span
}

// newShop opens a shop that has ten atlases.
func newShop(t *testing.T) *shop {
	t.Helper()
	store, err := catalogue.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	leaving, leave := context.WithCancel(context.Background())
	s := &shop{}
	s.cart = cartv1.NewCartClient(s.serve(t, "cart", nil, func(srv *octomesh.Server) { cartv1.RegisterCart(srv, new(cart.Service)) }))
	s.catalogue = cataloguev1.NewCatalogueClient(s.serve(t, "catalogue", leave, func(srv *octomesh.Server) {
		cataloguev1.RegisterCatalogue(srv, catalogue.New(leaving, store))
	}))
	s.checkout = checkoutv1.NewCheckoutClient(s.serve(t, "checkout", leave, func(srv *octomesh.Server) {
		checkoutv1.RegisterCheckout(srv, New(leaving, s.cart, s.catalogue))
	}))
	s.stock(t, 10)
	return s
}

func (s *shop) serve(t *testing.T, target string, leave func(), register func(*octomesh.Server)) *octomesh.Channel {
	t.Helper()
	server := octomesh.NewServer(target, octomesh.WithInterceptors(trace.Interceptor(target, target, slog.New(spanHandler{s}))))
	register(server)
	ch, err := octomesh.NewInProcess(server, octomesh.WithApplication("caller of "+target))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if leave != nil {
			leave()
		}
		if err := errors.Join(ch.Close(), server.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return ch
}

// spanHandler keeps the spans that the services log.
type spanHandler struct{ s *shop }

func (spanHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h spanHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h spanHandler) WithGroup(string) slog.Handler          { return h }
func (h spanHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if span, ok := a.Value.Any().(*trace.Span); ok {
			h.s.mu.Lock()
			defer h.s.mu.Unlock()
			h.s.spans = append(h.s.spans, span)
		}
		return true
	})
	return nil
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *shop) stock(t *testing.T, n int64) {
	t.Helper()
	stream, err := s.catalogue.ImportProducts(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&cataloguev1.ImportProductsRequest{Product: &cataloguev1.Product{Sku: "atlas", PriceCents: 100, Stock: n}})
	if _, err := stream.CloseAndReceive(); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) add(t *testing.T, quantity int64) {
	t.Helper()
	_, err := s.cart.Add(within(t), &cartv1.AddRequest{User: "ada", Item: &cartv1.Item{Sku: "atlas", Quantity: quantity}})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shop) history(t *testing.T, id string, until checkoutv1.Status) []checkoutv1.Status {
	t.Helper()
	stream, err := s.checkout.WatchOrder(within(t), &checkoutv1.WatchOrderRequest{OrderId: id})
	if err != nil {
		t.Fatal(err)
	}
	var all []checkoutv1.Status
	for now, err := range stream.All() {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, now.GetStatus()); now.GetStatus() == until {
			break
		}
	}
	return all
}

const (
	received  = checkoutv1.Status_STATUS_RECEIVED
	waiting   = checkoutv1.Status_STATUS_WAITING
	reserved  = checkoutv1.Status_STATUS_RESERVED
	confirmed = checkoutv1.Status_STATUS_CONFIRMED
	rejected  = checkoutv1.Status_STATUS_REJECTED
)

func placing(id string) *checkoutv1.PlaceOrderRequest {
	return &checkoutv1.PlaceOrderRequest{OrderId: id, User: "ada"}
}

func TestOrderIsPlacedOnceAndHasOneTrace(t *testing.T) {
	s := newShop(t)
	s.add(t, 3)
	ctx, traceID := trace.Root(within(t))
	ctx = octomesh.ContextWithBaggage(ctx, "tier", "gold")
	for range 2 {
		res, err := s.checkout.PlaceOrder(ctx, placing("o1"))
		if err != nil || res.GetTotalCents() != 300 {
			t.Fatalf("%v %v", res, err)
		}
	}
	if h := s.history(t, "o1", confirmed); !slices.Equal(h, []checkoutv1.Status{received, reserved, confirmed}) {
		t.Errorf("history %v", h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var methods []string
	for _, sp := range s.spans {
		if sp.Trace != traceID {
			continue
		}
		methods = append(methods, sp.Method)
		if sp.Baggage["tier"] != "gold" || sp.BudgetUS <= 0 {
			t.Errorf("%s: baggage %v, budget %d", sp.Method, sp.Baggage, sp.BudgetUS)
		}
	}
	want := []string{"shop.cart.v1.Cart/Get", "shop.catalogue.v1.Catalogue/Reserve", "shop.cart.v1.Cart/Clear",
		"shop.checkout.v1.Checkout/PlaceOrder", "shop.checkout.v1.Checkout/PlaceOrder"}
	if !slices.Equal(methods, want) {
		t.Errorf("the trace has %v", methods)
	}
}

func TestOrderOfWhatIsNotThereSaysWhatIsMissing(t *testing.T) {
	s := newShop(t)
	s.add(t, 11)
	_, err := s.checkout.PlaceOrder(within(t), placing("o1"))
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Origin != octomesh.OriginApplication {
		t.Fatalf("got %v", err)
	}
	if missing := outOfStock(err); missing.GetWanted() != 11 || missing.GetAvailable() != 10 {
		t.Fatalf("missing is %v of %v", missing, err)
	}
	if h := s.history(t, "o1", rejected); !slices.Equal(h, []checkoutv1.Status{received, rejected}) {
		t.Errorf("history %v", h)
	}
	if _, err := s.checkout.PlaceOrder(within(t), &checkoutv1.PlaceOrderRequest{OrderId: "o2", User: "bob"}); octomesh.CodeOf(err) != octomesh.FailedPrecondition {
		t.Errorf("an empty cart: %v", err)
	}
}

func TestOrderWaitsForStockUntilItsDeadline(t *testing.T) {
	s := newShop(t)
	s.add(t, 11)
	req := placing("o1")
	req.WaitForStock = true
	if _, err := s.checkout.PlaceOrder(within(t), req, octomesh.Timeout(50*time.Millisecond)); octomesh.CodeOf(err) != octomesh.DeadlineExceeded {
		t.Fatalf("got %v", err)
	}
	if h := s.history(t, "o1", rejected); h[len(h)-1] != rejected {
		t.Errorf("history %v", h)
	}
	placed := make(chan error, 1)
	req = placing("o2")
	req.WaitForStock = true
	go func() {
		_, err := s.checkout.PlaceOrder(within(t), req)
		placed <- err
	}()
	s.history(t, "o2", waiting)
	s.stock(t, 11)
	if err := <-placed; err != nil {
		t.Fatal(err)
	}
	if h := s.history(t, "o2", confirmed); h[0] != received || h[len(h)-2] != reserved {
		t.Errorf("history %v", h)
	}
}
