package lifecycle

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestStopEndsEveryGoroutineAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context())
		ended := make(chan int, 3)
		for i := range 3 {
			g.Go(func(ctx context.Context) {
				<-ctx.Done()
				ended <- i
			})
		}
		synctest.Wait()
		if len(ended) != 0 {
			t.Fatal("a goroutine ended before Stop")
		}
		g.Stop()
		if len(ended) != 3 {
			t.Fatalf("%d of 3 had ended when Stop returned", len(ended))
		}
	})
}

func TestGroupEndsWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := New(ctx)
		g.Go(func(ctx context.Context) { <-ctx.Done() })
		cancel()
		g.Wait()
	})
}
