package report_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/report"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

const mesh, direct = directoryv1.PathReport_PATH_MESH, directoryv1.PathReport_PATH_DIRECT

func path(target string, of directoryv1.PathReport_Path, calls uint64) *directoryv1.PathReport {
	return &directoryv1.PathReport{
		Target: target, Path: of, Calls: calls, SavedByFallback: 1, LatencyBuckets: []uint64{0, 0, calls},
		Errors: []*directoryv1.ErrorCount{{Code: 14, Origin: 4, Count: 2}},
	}
}

func of(application string, paths ...*directoryv1.PathReport) *directoryv1.ReportRequest {
	return &directoryv1.ReportRequest{Application: application, Paths: paths}
}

func TestQuantilesAreTheUpperEndsOfBuckets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		latency  []uint64
		p50, p99 time.Duration
	}{
		{[]uint64{1}, time.Microsecond, time.Microsecond},
		{[]uint64{0, 0, 98, 0, 1, 1}, 4 * time.Microsecond, 16 * time.Microsecond},
		{[]uint64{50, 50}, time.Microsecond, 2 * time.Microsecond},
		{[]uint64{49, 51}, 2 * time.Microsecond, 2 * time.Microsecond},
		{append(make([]uint64, 40), 7), 134217728 * time.Microsecond, 134217728 * time.Microsecond}, // in the last one
		{[]uint64{math.MaxUint64, math.MaxUint64}, time.Microsecond, time.Microsecond},
	} {
		c := &report.Cell{}
		c.Add(&directoryv1.PathReport{LatencyBuckets: test.latency})
		p50, _ := c.Quantile(0.5)
		p99, ok := c.Quantile(0.99)
		if p50 != test.p50 || p99 != test.p99 || !ok {
			t.Errorf("%v: p50 %v, p99 %v", test.latency, p50, p99)
		}
	}
	if _, ok := (&report.Cell{}).Quantile(0.5); ok {
		t.Error("no call has a latency")
	}
}

func TestACellBoundsTheKindsOfErrors(t *testing.T) {
	t.Parallel()
	c := &report.Cell{}
	for i := range 1000 {
		c.Add(&directoryv1.PathReport{Calls: 1, Errors: []*directoryv1.ErrorCount{{Code: int32(i), Origin: 3, Count: 1}}})
	}
	if len(c.Errors) > 64 || c.Failed() != 1000 {
		t.Fatalf("%d kinds, %d errors", len(c.Errors), c.Failed())
	}
	o := &report.Cell{}
	o.Merge(c)
	if !proto.Equal(o.Path("t", mesh), c.Path("t", mesh)) {
		t.Fatal(o)
	}
}

func TestAWindowHasWhatWasReportedInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := report.NewBook(report.Config{Windows: true})
		begun := time.Now()
		calls := func(application string, since time.Duration) (n uint64) {
			w := b.Window("prod", application, "stock", since)
			for k, c := range w.Cells {
				if k.Environment != "prod" || k.Target != "stock" {
					t.Errorf("%v is in it", k)
				}
				n += c.Calls
			}
			if want := time.Now().Add(-since); w.From.After(want) && !w.From.Equal(begun) || w.From.Before(want.Add(-report.SlotTime)) {
				t.Errorf("%v back is from %v, now is %v", since, w.From, time.Now())
			}
			return n
		}
		expect := func(application string, since time.Duration, want uint64) {
			t.Helper()
			if got := calls(application, since); got != want {
				t.Errorf("after %v, %s, %v back: %d calls, want %d", time.Since(begun), application, since, got, want)
			}
		}
		b.Add("prod", of("web", path("stock", mesh, 10), path("stock", direct, 5), path("mail", mesh, 100)))
		b.Add("test", of("web", path("stock", mesh, 1000)))
		expect("web", time.Minute, 15)
		time.Sleep(time.Minute)
		b.Add("prod", of("batch", path("stock", mesh, 3)))
		expect("web", 30*time.Second, 0)
		expect("", 30*time.Second, 3)
		expect("", 2*time.Minute, 18)
		time.Sleep(58 * time.Minute)
		expect("", time.Hour, 18)
		time.Sleep(90 * time.Second)
		expect("", time.Hour, 3)
		for range 1000 { // the ring turns three times
			time.Sleep(report.SlotTime)
			b.Add("prod", of("web", path("stock", mesh, 1)))
		}
		expect("web", time.Minute, 7) // six slots, and the one that is being filled
		expect("web", time.Hour, 361)
		if all, _ := b.Sums(); all[report.Key{Environment: "prod", Application: "web", Target: "stock", Path: mesh}].Calls != 1010 {
			t.Error(all)
		}
	})
}

// TestWindowsAreBounded: the oldest make room, and what is shown says from when on it is whole.
func TestWindowsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := report.NewBook(report.Config{Windows: true, MaxCells: 100, MaxSums: 10})
		fill := func(n int) {
			for i := range n {
				b.Add("prod", of("web", path(fmt.Sprint("t", i), mesh, 1)))
			}
		}
		fill(60)
		time.Sleep(report.SlotTime)
		fill(40)
		if w := b.Window("prod", "", "", time.Hour); len(w.Cells) != 60 || w.Dropped != 0 {
			t.Fatal(len(w.Cells), w.Dropped)
		}
		second := time.Now()
		time.Sleep(report.SlotTime)
		fill(1)
		w := b.Window("prod", "", "", time.Hour)
		if len(w.Cells) != 40 || w.Cells[report.Key{Environment: "prod", Application: "web", Target: "t0", Path: mesh}].Calls != 2 || !w.From.Equal(second) {
			t.Fatal(len(w.Cells), w.From, second)
		}
		fill(150) // more than there is room for at once
		w = b.Window("prod", "", "", time.Hour)
		if len(w.Cells) != 100 || w.Dropped != 50 {
			t.Fatal(len(w.Cells), w.Dropped)
		}
		if all, dropped := b.Sums(); len(all) != 10 || dropped != 50+30+0+140 {
			t.Fatal(len(all), dropped)
		}
		b.Add("prod", of("", path("t", mesh, 1)))
		b.Add("prod", of("web", path("not a name", mesh, 1)))
		if all, _ := b.Sums(); len(all) != 10 {
			t.Fatal(all)
		}
	})
}

func TestWhatIsPassedOnIsAddedUpAndBounded(t *testing.T) {
	t.Parallel()
	var p report.Pending
	for range 3 {
		p.Add(of("web", path("stock", mesh, 2), path("stock", direct, 1)))
		p.Add(of("batch", path("stock", mesh, 2)))
	}
	calls := func(all []*directoryv1.ReportRequest) (n uint64) {
		for _, r := range all {
			for _, path := range r.GetPaths() {
				n += path.GetCalls()
			}
		}
		return n
	}
	first := p.Take("prod", 1)
	rest := p.Take("prod", 10)
	if len(first) != 1 || len(rest) != 1 || calls(first)+calls(rest) != 15 || !p.Empty() || first[0].GetEnvironment() != "prod" {
		t.Fatal(first, rest)
	}
	for i := range report.MaxPaths + 10 {
		p.Add(of("web", path(fmt.Sprint("t", i), mesh, 1)))
	}
	if all := p.Take("prod", 1); p.Dropped != 10 || calls(all) != report.MaxPaths {
		t.Fatal(p.Dropped, calls(all))
	}
}

func BenchmarkAdd(b *testing.B) {
	book := report.NewBook(report.Config{Windows: true})
	r := of("web", path("stock", mesh, 10), path("stock", direct, 10))
	b.ReportAllocs()
	for b.Loop() {
		book.Add("prod", r)
	}
}
