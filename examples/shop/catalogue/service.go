// Package catalogue is the shop's catalogue service: products with prices and stock, on disk.
package catalogue

import (
	"context"
	"maps"
	"slices"

	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// What one product may cost and one line may hold, so that no sum overflows.
const (
	maxPrice    = 1_000_000_000
	maxQuantity = 1_000_000
	maxLines    = 100
)

// Service implements the catalogue.
type Service struct {
	cataloguev1.UnimplementedCatalogue
	store   *Store
	leaving <-chan struct{}
}

// New returns the service on a store. When ctx ends, watchers are told to go elsewhere.
func New(ctx context.Context, store *Store) *Service {
	return &Service{store: store, leaving: ctx.Done()}
}

// Get implements the service.
func (s *Service) Get(_ context.Context, req *cataloguev1.GetRequest) (*cataloguev1.GetResponse, error) {
	p, err := s.product(req.GetSku())
	if err != nil {
		return nil, err
	}
	return &cataloguev1.GetResponse{Product: toProto(p)}, nil
}

func (s *Service) product(sku string) (Product, error) {
	var p Product
	var known bool
	s.store.View(func(products map[string]Product) { p, known = products[sku] })
	if !known {
		return p, octomesh.Errorf(octomesh.NotFound, "no product %q", sku)
	}
	return p, nil
}

// List implements the service.
func (s *Service) List(context.Context, *cataloguev1.ListRequest) (*cataloguev1.ListResponse, error) {
	res := &cataloguev1.ListResponse{}
	s.store.View(func(products map[string]Product) {
		for _, sku := range slices.Sorted(maps.Keys(products)) {
			res.Products = append(res.Products, toProto(products[sku]))
		}
	})
	return res, nil
}

// WatchStock implements the service.
func (s *Service) WatchStock(
	ctx context.Context, req *cataloguev1.WatchStockRequest, out *octomesh.ServerSender[cataloguev1.WatchStockResponse],
) error {
	sent := make(map[string]int64)
	for {
		var news []*cataloguev1.WatchStockResponse
		changed := s.store.View(func(products map[string]Product) { news = stockNews(products, req.GetSkus(), sent) })
		for _, n := range news {
			if err := out.Send(n); err != nil {
				return err
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

// stockNews is what a watcher of skus, or of all, has not been sent yet.
func stockNews(products map[string]Product, skus []string, sent map[string]int64) []*cataloguev1.WatchStockResponse {
	if len(skus) == 0 {
		skus = slices.Sorted(maps.Keys(products))
	}
	var news []*cataloguev1.WatchStockResponse
	for _, sku := range skus {
		p, known := products[sku]
		if was, had := sent[sku]; known && (!had || was != p.Stock) {
			sent[sku] = p.Stock
			news = append(news, &cataloguev1.WatchStockResponse{Sku: sku, Stock: p.Stock})
		}
	}
	return news
}

// Reserve implements the service.
func (s *Service) Reserve(_ context.Context, req *cataloguev1.ReserveRequest) (*cataloguev1.ReserveResponse, error) {
	if req.GetOrderId() == "" || len(req.GetLines()) == 0 || len(req.GetLines()) > maxLines {
		return nil, octomesh.Errorf(octomesh.InvalidArgument, "want an order id and 1 to %d lines", maxLines)
	}
	var total int64
	err := s.store.Update(func() ([]record, error) {
		if was, known := s.store.orders[req.GetOrderId()]; known {
			total = was
			return nil, nil
		}
		o, err := newOrder(req, s.store.products)
		if err != nil {
			return nil, err
		}
		total = o.TotalCents
		return []record{{Order: o}}, nil
	})
	if err != nil {
		return nil, err
	}
	return &cataloguev1.ReserveResponse{TotalCents: total}, nil
}

// newOrder checks the lines against what is there.
func newOrder(req *cataloguev1.ReserveRequest, products map[string]Product) (*order, error) {
	o, wanted := &order{ID: req.GetOrderId()}, make(map[string]int64)
	for _, l := range req.GetLines() {
		p, known := products[l.GetSku()]
		switch {
		case !known:
			return nil, octomesh.Errorf(octomesh.NotFound, "no product %q", l.GetSku())
		case l.GetQuantity() < 1 || l.GetQuantity() > maxQuantity:
			return nil, octomesh.Errorf(octomesh.InvalidArgument, "want a quantity from 1 to %d", maxQuantity)
		}
		wanted[p.SKU] += l.GetQuantity()
		if wanted[p.SKU] > p.Stock {
			err := octomesh.Errorf(octomesh.FailedPrecondition, "out of stock: %s", p.Name)
			return nil, octomesh.WithDetails(err, &cataloguev1.OutOfStock{Sku: p.SKU, Wanted: wanted[p.SKU], Available: p.Stock})
		}
		o.Lines = append(o.Lines, Line{p.SKU, l.GetQuantity()})
		o.TotalCents += p.PriceCents * l.GetQuantity()
	}
	return o, nil
}

// Quote implements the service.
func (s *Service) Quote(
	_ context.Context, stream *octomesh.ServerStream[cataloguev1.QuoteRequest, cataloguev1.QuoteResponse],
) error {
	for req, err := range stream.All() {
		if err != nil {
			return err
		}
		p, err := s.product(req.GetSku())
		if err != nil {
			return err
		}
		if req.GetQuantity() < 1 || req.GetQuantity() > maxQuantity {
			return octomesh.Errorf(octomesh.InvalidArgument, "want a quantity from 1 to %d", maxQuantity)
		}
		err = stream.Send(&cataloguev1.QuoteResponse{
			Sku: p.SKU, Quantity: req.GetQuantity(), TotalCents: p.PriceCents * req.GetQuantity(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ImportProducts implements the service. Each product is kept as it comes, so that an import that breaks
// off can be sent again as a whole.
func (s *Service) ImportProducts(
	_ context.Context, in *octomesh.ServerReceiver[cataloguev1.ImportProductsRequest],
) (*cataloguev1.ImportProductsResponse, error) {
	res := &cataloguev1.ImportProductsResponse{}
	for req, err := range in.All() {
		if err != nil {
			return nil, err
		}
		p := req.GetProduct()
		if p.GetSku() == "" || p.GetPriceCents() < 0 || p.GetPriceCents() > maxPrice || p.GetStock() < 0 {
			return nil, octomesh.Errorf(octomesh.InvalidArgument,
				"product %d: want a sku, a price from 0 to %d cents and a stock from 0", res.GetImported()+1, maxPrice)
		}
		err = s.store.Update(func() ([]record, error) {
			return []record{{Product: &Product{p.GetSku(), p.GetName(), p.GetPriceCents(), p.GetStock()}}}, nil
		})
		if err != nil {
			return nil, err
		}
		res.Imported++
	}
	return res, nil
}

func toProto(p Product) *cataloguev1.Product {
	return &cataloguev1.Product{Sku: p.SKU, Name: p.Name, PriceCents: p.PriceCents, Stock: p.Stock}
}
