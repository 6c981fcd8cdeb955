// Package cart is the shop's cart service: what each user means to buy, in memory.
package cart

import (
	"context"
	"slices"
	"strings"
	"sync"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

const (
	maxItems    = 100 // different products in a cart
	maxQuantity = 1_000_000
	maxCarts    = 100_000
)

// Service implements the cart. Its zero value is ready.
type Service struct {
	cartv1.UnimplementedCart

	mu    sync.Mutex
	carts map[string]map[string]int64 // quantity by user and sku
}

// Add implements the service.
func (s *Service) Add(_ context.Context, req *cartv1.AddRequest) (*cartv1.AddResponse, error) {
	user, sku, quantity := req.GetUser(), req.GetItem().GetSku(), req.GetItem().GetQuantity()
	if user == "" || sku == "" || quantity < 1 || quantity > maxQuantity {
		return nil, octomesh.Errorf(octomesh.InvalidArgument, "want a user, a sku and a quantity from 1 to %d", maxQuantity)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cart := s.carts[user]
	switch {
	case cart == nil && len(s.carts) >= maxCarts:
		return nil, octomesh.Errorf(octomesh.ResourceExhausted, "%d carts are all there is room for", maxCarts)
	case cart[sku] == 0 && len(cart) >= maxItems:
		return nil, octomesh.Errorf(octomesh.FailedPrecondition, "the cart is full: %d products", maxItems)
	case cart[sku]+quantity > maxQuantity:
		return nil, octomesh.Errorf(octomesh.FailedPrecondition, "more than %d of %s", maxQuantity, sku)
	case s.carts == nil:
		s.carts = make(map[string]map[string]int64)
	}
	if cart == nil {
		cart = make(map[string]int64)
		s.carts[user] = cart
	}
	cart[sku] += quantity
	return &cartv1.AddResponse{Items: items(cart)}, nil
}

// Get implements the service. An unknown user's cart is empty.
func (s *Service) Get(_ context.Context, req *cartv1.GetRequest) (*cartv1.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &cartv1.GetResponse{Items: items(s.carts[req.GetUser()])}, nil
}

// Clear implements the service.
func (s *Service) Clear(_ context.Context, req *cartv1.ClearRequest) (*cartv1.ClearResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.carts, req.GetUser())
	return &cartv1.ClearResponse{}, nil
}

func items(cart map[string]int64) []*cartv1.Item {
	all := make([]*cartv1.Item, 0, len(cart))
	for sku, quantity := range cart {
		all = append(all, &cartv1.Item{Sku: sku, Quantity: quantity})
	}
	slices.SortFunc(all, func(a, b *cartv1.Item) int { return strings.Compare(a.GetSku(), b.GetSku()) })
	return all
}
