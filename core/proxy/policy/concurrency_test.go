package policy_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// together runs f on several goroutines, each with its number.
func together(f func(i int)) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func TestNoTokenIsTakenTwice(t *testing.T) {
	for _, callers := range []int{0, 4} {
		p := policy.NewRateLimit(policy.LimitRules{Calls: 1, Per: time.Hour, Burst: 1000, MaxCallers: callers}, &policy.Buckets{})
		var took atomic.Int64
		together(func(i int) { took.Add(int64(passed(p, 1000, call(fmt.Sprint(i), "Get", second)))) })
		want := int64(1000)
		if callers > 0 {
			want = 5000 // four have a bucket of their own, the others one
		}
		if took.Load() != want {
			t.Errorf("%d callers with buckets: %d tokens were taken, want %d", callers, took.Load(), want)
		}
	}
}

func TestAtMostAShareIsEjectedUnderConcurrency(t *testing.T) {
	all := members(8)
	o := policy.NewOutlier(ejecting(50), all, &policy.Ejections{})
	together(func(i int) { fail(o, all[i], 100, second) })
	if n := o.Ejected(second); n != 4 {
		t.Errorf("%d of 8 are ejected, want 4", n)
	}
}

func TestBreakerLetsNoMoreProbesPassUnderConcurrency(t *testing.T) {
	b := policy.NewBreaker(breaking, &policy.Circuit{}, wire.OriginClientProxy)
	end(b, 10, lost, 0, 20*second)
	var probes atomic.Int64
	together(func(int) { probes.Add(int64(passed(b, 100, call("a", "Get", 26*second)))) })
	if probes.Load() != int64(breaking.Probes) {
		t.Errorf("%d probes passed, want %d", probes.Load(), breaking.Probes)
	}
}
