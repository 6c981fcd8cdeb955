package meter_test

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/telemetry/meter"
)

func TestCallsAreCountedByCode(t *testing.T) {
	var c meter.Calls
	for range 3 {
		c.Begin()
	}
	c.End(0, time.Millisecond)
	c.End(99, time.Millisecond)
	if c.Open() != 1 || c.Ended(0) != 1 || c.Ended(-7) != 1 || c.Ended(14) != 0 {
		t.Errorf("open %d, OK %d, others %d, UNAVAILABLE %d", c.Open(), c.Ended(0), c.Ended(-7), c.Ended(14))
	}
}

func TestReasonsOutsideTheTableCountAsUnspecified(t *testing.T) {
	var c meter.Calls
	c.Refuse(16)
	c.Refuse(100_000)
	if c.Refused(16) != 1 || c.Refused(0) != 1 || c.Refused(100_000) != 0 {
		t.Errorf("counted %d, %d, %d", c.Refused(16), c.Refused(0), c.Refused(100_000))
	}
}

func TestHistogramBucketsHoldWhatIsUnderTheirBound(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 999, time.Microsecond, 1023 * time.Microsecond, 1024 * time.Microsecond, time.Minute, time.Hour} {
		var h meter.Histogram
		h.Observe(d)
		counts, sum := h.Read()
		if want := max(d, 0); sum != want {
			t.Errorf("sum of %v is %v", d, sum)
		}
		for i, n := range counts {
			under := meter.Bound(i) == 0 || d < meter.Bound(i)
			over := i == 0 || d >= meter.Bound(i-1)
			if (n == 1) != (under && over) {
				t.Errorf("%v: bucket %d (under %v) holds %d", d, i, meter.Bound(i), n)
			}
		}
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	var c meter.Calls
	if n := testing.AllocsPerRun(100, func() { c.Begin(); c.Refuse(3); c.End(0, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCalls(b *testing.B) {
	var c meter.Calls
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Begin()
			c.End(0, time.Millisecond)
		}
	})
}
