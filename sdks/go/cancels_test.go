package octomesh_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// TestManyCancelledCallsHarmNoOther: thousands within half a second are more than the peer bears on one connection (W-FLOW-13, W-FLOW-14).
func TestManyCancelledCallsHarmNoOther(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		ctx := within(t, 30*time.Second)
		var left atomic.Int32
		left.Store(6)
		var all sync.WaitGroup
		for range left.Load() {
			all.Go(func() {
				defer left.Add(-1)
				for range 1000 {
					one, cancel := context.WithCancel(ctx)
					_, err := c.Chat(one)
					cancel()
					if err != nil {
						t.Errorf("a call that is to be cancelled: %v", err)
						return
					}
				}
			})
		}
		for n := 0; left.Load() > 0; n++ {
			if _, err := c.Say(ctx, &message{}); err != nil {
				t.Errorf("call %d: %v", n, err)
				break
			}
		}
		all.Wait()
		if _, err := c.Say(ctx, &message{}); err != nil {
			t.Errorf("after them: %v", err)
		}
	})
}
