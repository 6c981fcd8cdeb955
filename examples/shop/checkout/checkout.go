// Package checkout is the shop's checkout service: it turns carts into orders. Its calls to the cart and
// the catalogue are made with the handler's context, so they have the deadline, the cancellation, the trace
// and the baggage of the call that it serves.
package checkout

import (
	"context"
	"errors"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	checkoutv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/checkout/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// Service implements the checkout.
type Service struct {
	checkoutv1.UnimplementedCheckout
	cart      cartv1.CartClient
	catalogue cataloguev1.CatalogueClient
	leaving   <-chan struct{}
	orders    orders
}

// New returns the service on clients of what it calls. When ctx ends, watchers are told to go elsewhere.
func New(ctx context.Context, cart cartv1.CartClient, catalogue cataloguev1.CatalogueClient) *Service {
	return &Service{cart: cart, catalogue: catalogue, leaving: ctx.Done()}
}

// PlaceOrder implements the service.
func (s *Service) PlaceOrder(ctx context.Context, req *checkoutv1.PlaceOrderRequest) (*checkoutv1.PlaceOrderResponse, error) {
	if req.GetOrderId() == "" || req.GetUser() == "" {
		return nil, octomesh.Errorf(octomesh.InvalidArgument, "want an order id and a user")
	}
	o := s.orders.get(req.GetOrderId())
	// One at a time: a repetition waits for what it repeats.
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if total, confirmed := o.confirmed(); confirmed {
		return &checkoutv1.PlaceOrderResponse{TotalCents: total}, nil
	}
	o.begin()
	total, err := s.place(ctx, o, req)
	if err != nil {
		o.add(checkoutv1.Status_STATUS_REJECTED)
		return nil, err
	}
	o.confirm(total)
	return &checkoutv1.PlaceOrderResponse{TotalCents: total}, nil
}

// place reserves what is in the cart, and empties it.
func (s *Service) place(ctx context.Context, o *order, req *checkoutv1.PlaceOrderRequest) (int64, error) {
	cart, err := s.cart.Get(ctx, &cartv1.GetRequest{User: req.GetUser()})
	if err != nil {
		return 0, err
	}
	if len(cart.GetItems()) == 0 {
		return 0, octomesh.Errorf(octomesh.FailedPrecondition, "the cart is empty")
	}
	reserve := &cataloguev1.ReserveRequest{OrderId: req.GetOrderId()}
	for _, i := range cart.GetItems() {
		reserve.Lines = append(reserve.Lines, &cataloguev1.ReserveLine{Sku: i.GetSku(), Quantity: i.GetQuantity()})
	}
	reserved, err := s.catalogue.Reserve(ctx, reserve)
	for missing := outOfStock(err); missing != nil && req.GetWaitForStock(); missing = outOfStock(err) {
		o.add(checkoutv1.Status_STATUS_WAITING)
		if err := s.await(ctx, missing); err != nil {
			return 0, err
		}
		reserved, err = s.catalogue.Reserve(ctx, reserve)
	}
	if err != nil {
		return 0, err // with its details: what is out of stock
	}
	o.add(checkoutv1.Status_STATUS_RESERVED)
	if _, err := s.cart.Clear(ctx, &cartv1.ClearRequest{User: req.GetUser()}); err != nil {
		return 0, err // the reservation stays: placing the order again finds it
	}
	return reserved.GetTotalCents(), nil
}

// await watches the stock until there is enough, or the deadline of the call passes.
func (s *Service) await(ctx context.Context, missing *cataloguev1.OutOfStock) error {
	stock, err := s.catalogue.WatchStock(ctx, &cataloguev1.WatchStockRequest{Skus: []string{missing.GetSku()}})
	if err != nil {
		return err
	}
	for now, err := range stock.All() {
		if err != nil {
			return err
		}
		if now.GetStock() >= missing.GetWanted() {
			return nil
		}
	}
	return octomesh.Errorf(octomesh.Unavailable, "the catalogue stopped telling its stock")
}

// outOfStock returns what an error says is missing; nil: it is another error, or none.
func outOfStock(err error) *cataloguev1.OutOfStock {
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.FailedPrecondition {
		return nil
	}
	for _, d := range e.Details() {
		missing := new(cataloguev1.OutOfStock)
		if d.MessageIs(missing) && d.UnmarshalTo(missing) == nil {
			return missing
		}
	}
	return nil
}

// WatchOrder implements the service.
func (s *Service) WatchOrder(
	ctx context.Context, req *checkoutv1.WatchOrderRequest, out *octomesh.ServerSender[checkoutv1.WatchOrderResponse],
) error {
	if req.GetOrderId() == "" {
		return octomesh.Errorf(octomesh.InvalidArgument, "want an order id")
	}
	o := s.orders.get(req.GetOrderId())
	for sent := 0; ; {
		history, changed := o.look()
		for ; sent < len(history); sent++ {
			if err := out.Send(&checkoutv1.WatchOrderResponse{Status: history[sent]}); err != nil {
				return err
			}
			if final(history[sent]) {
				return nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.leaving:
			return octomesh.Errorf(octomesh.Unavailable, "this instance is leaving")
		}
	}
}
