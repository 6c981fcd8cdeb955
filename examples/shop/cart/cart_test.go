package cart

import (
	"context"
	"errors"
	"testing"

	cartv1 "github.com/octomesh/octomesh/examples/shop/gen/go/shop/cart/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func client(t *testing.T) cartv1.CartClient {
	t.Helper()
	server := octomesh.NewServer(cartv1.CartTarget)
	cartv1.RegisterCart(server, new(Service))
	ch, err := octomesh.NewInProcess(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ch.Close(), server.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return cartv1.NewCartClient(ch)
}

func add(user, sku string, quantity int64) *cartv1.AddRequest {
	return &cartv1.AddRequest{User: user, Item: &cartv1.Item{Sku: sku, Quantity: quantity}}
}

func TestCartsAddUpByUserAndAreCleared(t *testing.T) {
	c, ctx := client(t), t.Context()
	for _, req := range []*cartv1.AddRequest{add("ada", "b", 1), add("ada", "a", 2), add("ada", "b", 3), add("bob", "a", 9)} {
		if _, err := c.Add(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	res, err := c.Get(ctx, &cartv1.GetRequest{User: "ada"})
	if err != nil || len(res.GetItems()) != 2 || res.GetItems()[0].GetQuantity() != 2 || res.GetItems()[1].GetQuantity() != 4 {
		t.Fatalf("%v %v", res, err)
	}
	if _, err := c.Clear(ctx, &cartv1.ClearRequest{User: "ada"}); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]int{"ada": 0, "bob": 1} {
		if res, err := c.Get(ctx, &cartv1.GetRequest{User: user}); err != nil || len(res.GetItems()) != want {
			t.Errorf("%s: %v %v", user, res, err)
		}
	}
}

func TestCartRefusesWhatIsNoItem(t *testing.T) {
	c := client(t)
	for _, req := range []*cartv1.AddRequest{
		{}, add("", "a", 1), add("ada", "", 1), add("ada", "a", 0), add("ada", "a", -1), add("ada", "a", maxQuantity+1),
	} {
		if _, err := c.Add(t.Context(), req); octomesh.CodeOf(err) != octomesh.InvalidArgument {
			t.Errorf("%v: got %v", req, err)
		}
	}
}
