package ratelimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/dispatcher/ratelimit/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stores are both kinds, real ones.
func stores(t *testing.T, f func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		f(t, NewMemory(nil))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		s := NewRedis(RedisConfig{Address: redistest.Start(t).Address()})
		t.Cleanup(func() { _ = s.Close() })
		f(t, s)
	})
}

// within runs f again if the hour has changed meanwhile, which begins another window.
func within(t *testing.T, f func(prefix string) string) {
	t.Helper()
	for i := 0; ; i++ {
		before := time.Now().Unix() / 3600
		wrong := f(fmt.Sprint(i))
		if time.Now().Unix()/3600 == before {
			if wrong != "" {
				t.Error(wrong)
			}
			return
		}
	}
}

func take(t *testing.T, s Store, hits ...Hit) []Result {
	t.Helper()
	r, err := s.Take(t.Context(), hits)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestACounterTakesNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s Store) {
		within(t, func(prefix string) string {
			h := func(key string, n int64) Hit { return Hit{prefix + key, 10, time.Hour, n} }
			for _, c := range []struct {
				hit       Hit
				ok        bool
				remaining uint64
			}{
				{h("a", 4), true, 6},
				{h("b", 10), true, 0},
				{h("a", 7), false, 6}, // none of them is counted
				{h("a", 0), true, 6},
				{h("a", 6), true, 0},
				{h("a", 0), false, 0},
				{h("a", 1), false, 0},
				{h("a", -3), true, 3}, // given back
				{h("a", 3), true, 0},
				{h("a", -100), true, 10},
				{Hit{prefix + "c", 0, time.Hour, 1}, false, 0},
				{Hit{prefix + "d", 5, time.Hour, 6}, false, 5}, // more than ever fit
			} {
				r := take(t, s, c.hit)[0]
				if r.OK != c.ok || r.Remaining != c.remaining || r.Reset <= 0 || r.Reset > 2*time.Hour+time.Second {
					return fmt.Sprintf("%+v: %+v; want %v with %d left", c.hit, r, c.ok, c.remaining)
				}
			}
			return ""
		})
	})
}

func TestHitsOfAQuestionAreCountedEachForItself(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s Store) {
		within(t, func(prefix string) string {
			a, b := Hit{prefix + "a", 2, time.Hour, 1}, Hit{prefix + "b", 100, time.Hour, 1}
			r := take(t, s, a, b, a, a, b)
			got := ""
			for _, r := range r {
				got += fmt.Sprint(r.OK, r.Remaining, " ")
			}
			if got != "true 1 true 99 true 0 false 0 true 98 " {
				return got
			}
			return ""
		})
	})
}

func TestNoHitIsCountedTwiceUnderConcurrency(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s Store) {
		within(t, func(prefix string) string {
			var granted atomic.Int64
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for range 100 {
						n := int64(1 + i%3)
						if r, err := s.Take(t.Context(), []Hit{{prefix + "k", 500, time.Hour, n}}); err != nil {
							t.Error(err)
						} else if r[0].OK {
							granted.Add(n)
						}
					}
				})
			}
			wg.Wait()
			if granted.Load() != 500 {
				return fmt.Sprintf("%d of 500 were granted", granted.Load())
			}
			return ""
		})
	})
}

// TestWindowsFollowEachOther takes all the time from a counter with short windows: over any of them it takes its limit, and after
// Reset it takes again.
func TestWindowsFollowEachOther(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s Store) {
		const limit, per, windows = 50, 200 * time.Millisecond, 8
		begun, granted := time.Now(), 0
		for granted < limit*windows {
			r := take(t, s, Hit{"k", limit, per, 1})[0]
			if r.OK {
				granted++
				continue
			}
			time.Sleep(r.Reset)
		}
		// The first two windows may be taken at once where they meet.
		if took := time.Since(begun); took < (windows-2)*per {
			t.Errorf("%d were granted within %v", granted, took)
		}
	})
}

// TestTheScriptCountsAsTheMemoryDoes gives both the same hits at the same times.
func TestTheScriptCountsAsTheMemoryDoes(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: strings.TrimPrefix(redistest.Start(t).Address(), "unix:")})
	t.Cleanup(func() { _ = client.Close() })
	const clock = "redis.call('TIME')"
	if strings.Count(script, clock) != 1 {
		t.Fatal("the script reads the time otherwise than expected")
	}
	own := redis.NewScript(strings.Replace(script, clock, "{ARGV[4], ARGV[5]}", 1))
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var w window
	now := time.Now().UnixMicro()
	per := time.Second
	for i := range 5000 {
		switch random.IntN(10) {
		case 0:
			now += random.Int64N(3 * per.Microseconds())
		case 1:
			now -= random.Int64N(per.Microseconds()) / 10 // set back
		default:
			now += random.Int64N(per.Microseconds() / 20)
		}
		h := Hit{"k", uint64(random.IntN(30)), per, int64(random.IntN(8)) - 1}
		want := w.take(h, now)
		got, err := own.Run(context.Background(), client, []string{"k"}, h.Limit, per.Microseconds(), h.Hits, now/1e6, now%1e6).Int64Slice()
		if err != nil {
			t.Fatal(err)
		}
		if (got[0] == 1) != want.OK || got[1] != int64(want.Remaining) || got[2] != want.Reset.Microseconds() {
			t.Fatalf("seed %d, step %d, %+v at %d: the script says %v, the memory %+v", seed, i, h, now, got, want)
		}
	}
}

func TestNoWindowTakesMoreThanTheLimitWhateverComes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	const per = int64(time.Second / time.Microsecond)
	var w window
	sums := map[int64]uint64{}
	for now := 7 * per; now < 300*per; now += random.Int64N(per / 5) {
		h := Hit{"k", 100, time.Second, random.Int64N(40)}
		if r := w.take(h, now); r.OK {
			sums[now/per] += uint64(h.Hits)
		}
	}
	full := 0
	for number, n := range sums {
		if n > 100 {
			t.Errorf("seed %d: window %d took %d", seed, number, n)
		}
		if n > 60 {
			full++
		}
	}
	if full < len(sums)*3/4 {
		t.Errorf("seed %d: only %d of %d windows are nearly full", seed, full, len(sums))
	}
}

func TestMemoryForgetsWhatIsPast(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	m := NewMemory(func() time.Time { return now })
	for i := range 300_000 {
		take(t, m, Hit{fmt.Sprint(i), 1, time.Second, 1})
		now = now.Add(time.Millisecond)
	}
	held := 0
	for i := range m.shards {
		held += len(m.shards[i].windows)
	}
	if held > 2*shards*sweepAt {
		t.Errorf("%d counters are held, of which 2000 matter", held)
	}
}

func TestARedisThatIsDownIsNoAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := NewRedis(RedisConfig{Address: server.Address()})
	defer s.Close()
	h := Hit{"k", 10, time.Hour, 1}
	take(t, s, h)
	server.Kill()
	if _, err := s.Take(t.Context(), []Hit{h}); err == nil {
		t.Fatal("a Redis that is down answers")
	}
	server.Restart() // it knows no script any more
	var err error
	for range 20 {
		if _, err = s.Take(t.Context(), []Hit{h}); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after its restart: %v", err)
	}
}
