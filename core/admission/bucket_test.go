package admission_test

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/admission"
)

func TestThoseTurnedAwayAreToldDifferentTimes(t *testing.T) {
	t.Parallel()
	b := admission.NewBucket(10, 20)
	now := time.Unix(1000, 0)
	for i := range 20 {
		if wait := b.Take(now); wait != 0 {
			t.Fatalf("the %dth is told to wait %v", i, wait)
		}
	}
	before := time.Duration(0)
	for i := range 600 {
		wait := b.Take(now)
		if wait <= before && before < time.Minute {
			t.Fatalf("the %dth is told %v after one that was told %v", i, wait, before)
		}
		before = wait
	}
	if before > time.Minute+time.Second {
		t.Fatalf("told %v, over a minute", before)
	}
	if wait := b.Take(now.Add(100 * time.Millisecond)); wait != 0 {
		t.Fatalf("after the time of one token, told to wait %v", wait)
	}
	later := now.Add(time.Hour)
	for range 20 {
		if wait := b.Take(later); wait != 0 {
			t.Fatal("a pause fills it to its size")
		}
	}
	if b.Take(later) == 0 {
		t.Fatal("and not beyond")
	}
}
