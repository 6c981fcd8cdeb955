package catalogue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cataloguev1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/catalogue/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client returns a client of an instance on the directory, in process.
func client(t *testing.T, dir string) cataloguev1.CatalogueClient {
	t.Helper()
	leaving, leave := context.WithCancel(context.Background())
	server := octomesh.NewServer(cataloguev1.CatalogueTarget)
	store := open(t, dir)
	cataloguev1.RegisterCatalogue(server, New(leaving, store))
	ch, err := octomesh.NewInProcess(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave()
		if err := errors.Join(ch.Close(), server.Shutdown(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	})
	return cataloguev1.NewCatalogueClient(ch)
}

func stocked(t *testing.T, c cataloguev1.CatalogueClient, products ...*cataloguev1.Product) {
	t.Helper()
	stream, err := c.ImportProducts(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range products {
		if err := stream.Send(&cataloguev1.ImportProductsRequest{Product: p}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil || res.GetImported() != int64(len(products)) {
		t.Fatalf("%v %v", res, err)
	}
}

func stock(t *testing.T, c cataloguev1.CatalogueClient, sku string) int64 {
	t.Helper()
	res, err := c.Get(within(t), &cataloguev1.GetRequest{Sku: sku})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetProduct().GetStock()
}

func reserve(id, sku string, quantity int64) *cataloguev1.ReserveRequest {
	return &cataloguev1.ReserveRequest{OrderId: id, Lines: []*cataloguev1.ReserveLine{{Sku: sku, Quantity: quantity}}}
}

var (
	atlas = &cataloguev1.Product{Sku: "atlas", Name: "Atlas", PriceCents: 4900, Stock: 10}
	globe = &cataloguev1.Product{Sku: "globe", Name: "Globe", PriceCents: 8900, Stock: 3}
)

func TestReserveTakesAnOrderOnce(t *testing.T) {
	c := client(t, t.TempDir())
	stocked(t, c, atlas)
	for range 3 {
		res, err := c.Reserve(within(t), reserve("o1", "atlas", 4))
		if err != nil || res.GetTotalCents() != 4*4900 {
			t.Fatalf("%v %v", res, err)
		}
	}
	if n := stock(t, c, "atlas"); n != 6 {
		t.Fatalf("%d are left, want 6", n)
	}
}

func TestReserveTakesAllLinesOrNone(t *testing.T) {
	c := client(t, t.TempDir())
	stocked(t, c, atlas, globe)
	req := reserve("o1", "atlas", 2)
	req.Lines = append(req.Lines, &cataloguev1.ReserveLine{Sku: "globe", Quantity: 2}, &cataloguev1.ReserveLine{Sku: "globe", Quantity: 2})
	_, err := c.Reserve(within(t), req)
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.FailedPrecondition || len(e.Details()) != 1 {
		t.Fatalf("got %v", err)
	}
	missing := new(cataloguev1.OutOfStock)
	if err := e.Details()[0].UnmarshalTo(missing); err != nil || missing.GetWanted() != 4 || missing.GetAvailable() != 3 {
		t.Fatalf("%v %v", missing, err)
	}
	if a, g := stock(t, c, "atlas"), stock(t, c, "globe"); a != 10 || g != 3 {
		t.Fatalf("%d and %d are left", a, g)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	c := client(t, t.TempDir())
	stocked(t, c, atlas)
	for name, want := range map[*cataloguev1.ReserveRequest]octomesh.Code{
		reserve("", "atlas", 1):              octomesh.InvalidArgument,
		{OrderId: "o"}:                       octomesh.InvalidArgument,
		reserve("o", "atlas", 0):             octomesh.InvalidArgument,
		reserve("o", "atlas", -1):            octomesh.InvalidArgument,
		reserve("o", "atlas", 1<<40):         octomesh.InvalidArgument,
		reserve("o", "nothing of it", 1):     octomesh.NotFound,
		reserve("o", "atlas", atlas.Stock+1): octomesh.FailedPrecondition,
	} {
		if _, err := c.Reserve(within(t), name); octomesh.CodeOf(err) != want {
			t.Errorf("%v: got %v, want %v", name, err, want)
		}
	}
	stream, err := c.ImportProducts(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&cataloguev1.ImportProductsRequest{Product: &cataloguev1.Product{Sku: "x", PriceCents: -1}})
	if _, err := stream.CloseAndReceive(); octomesh.CodeOf(err) != octomesh.InvalidArgument {
		t.Errorf("an import of a negative price: %v", err)
	}
}

func TestQuoteAnswersEachRequest(t *testing.T) {
	c := client(t, t.TempDir())
	stocked(t, c, atlas)
	stream, err := c.Quote(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(3) {
		if err := stream.Send(&cataloguev1.QuoteRequest{Sku: "atlas", Quantity: n + 1}); err != nil {
			t.Fatal(err)
		}
		if res, err := stream.Receive(); err != nil || res.GetTotalCents() != 4900*(n+1) {
			t.Fatalf("%v %v", res, err)
		}
	}
	_ = stream.Send(&cataloguev1.QuoteRequest{Sku: "none", Quantity: 1})
	if _, err := stream.Receive(); octomesh.CodeOf(err) != octomesh.NotFound {
		t.Fatalf("got %v", err)
	}
}

func TestWatchersSeeWhatAnotherInstanceReserves(t *testing.T) {
	dir := t.TempDir()
	one, other := client(t, dir), client(t, dir)
	stocked(t, one, atlas, globe)
	watch, err := other.WatchStock(within(t), &cataloguev1.WatchStockRequest{Skus: []string{"atlas"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []int64{10, 8, 7}
	for i, n := range want {
		now, err := watch.Receive()
		if err != nil || now.GetStock() != n {
			t.Fatalf("%v %v, want %d", now, err, n)
		}
		if i+1 < len(want) {
			if _, err := one.Reserve(within(t), reserve(fmt.Sprint(i), "atlas", n-want[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	watch.Close()
}

func TestInstancesNeverSellTheSameTwice(t *testing.T) {
	dir := t.TempDir()
	clients := []cataloguev1.CatalogueClient{client(t, dir), client(t, dir)}
	many := &cataloguev1.Product{Sku: "atlas", PriceCents: 1, Stock: 30}
	stocked(t, clients[0], many)
	var sold atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 8 { // two callers give each id, on different instances
				_, err := clients[i%2].Reserve(within(t), reserve(fmt.Sprintf("%d-%d", i/2, n), "atlas", 1))
				switch octomesh.CodeOf(err) {
				case octomesh.OK:
					sold.Add(1)
				case octomesh.FailedPrecondition:
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// 32 orders, each sent twice, for 30 things: 30 are sold, and sending again says the same.
	if left := stock(t, clients[0], "atlas"); left != 0 || sold.Load() != 60 {
		t.Fatalf("%d left, %d answers of OK", left, sold.Load())
	}
}

func TestStoreSurvivesARestartAndATornWrite(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(s *Store, stock int64) {
		t.Helper()
		err := s.Update(func() ([]record, error) { return []record{{Product: &Product{"a", "A", 5, stock}}}, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	put(s, 7)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, logName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"product":{"sku":"half`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s = open(t, dir)
	if p := s.products["a"]; p.Stock != 7 || len(s.products) != 1 {
		t.Fatalf("read %v", s.products)
	}
	put(s, 8)
	if p := open(t, dir).products["a"]; p.Stock != 8 {
		t.Fatalf("read %v", p)
	}
}

func TestRewrittenLogHasTheSameContent(t *testing.T) {
	dir := t.TempDir()
	s, follower := open(t, dir), open(t, dir)
	err := s.Update(func() ([]record, error) {
		return []record{{Product: &Product{"a", "A", 5, 7}}, {Order: &order{ID: "o", Lines: []Line{{"a", 3}}, TotalCents: 15}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	err = s.rewrite()
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"the writer": s, "a follower": follower, "a new one": open(t, dir)} {
		err := s.Update(func() ([]record, error) {
			if s.products["a"].Stock != 4 || s.orders["o"] != 15 {
				t.Errorf("%s has %v %v", name, s.products, s.orders)
			}
			return nil, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestReadersSeeAtOnceWhatAnotherInstanceWrote(t *testing.T) {
	dir := t.TempDir()
	writer, reader := client(t, dir), client(t, dir)
	for i := range 20 {
		sku := fmt.Sprintf("sku-%d", i)
		stocked(t, writer, &cataloguev1.Product{Sku: sku, Name: sku, PriceCents: 1, Stock: int64(i + 1)})
		if got := stock(t, reader, sku); got != int64(i+1) {
			t.Fatalf("%s: the other instance has %d of %d", sku, got, i+1)
		}
	}
}
