package record_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/telemetry/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNoteKeepsTextsAndMetadata(t *testing.T) {
	var n record.Note
	for range 2 { // the second time with the memory of the first
		n.On = true
		n.Keep(record.Method, []byte("shop.Cart/Add"))
		n.Keep(record.Lane, nil)
		n.Keep(record.Tracestate, []byte("a=1"))
		n.Keys([]string{"tenant", "shard"})
		n.KeepMetadata(1, []byte("7"))
		n.KeepMetadata(0, []byte("blue"))
		got := map[string]string{}
		for k, v := range n.Metadata() {
			got[k] = string(v)
		}
		if string(n.Text(record.Method)) != "shop.Cart/Add" || string(n.Text(record.Tracestate)) != "a=1" ||
			n.Text(record.Target) != nil || n.Text(record.Lane) != nil || n.Text(record.Caller) != nil {
			t.Errorf("%+v", n)
		}
		if !maps.Equal(got, map[string]string{"tenant": "blue", "shard": "7"}) {
			t.Errorf("metadata %v", got)
		}
		n.Reset()
		if n.On || n.Text(record.Method) != nil {
			t.Errorf("after Reset %+v", n)
		}
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	n := record.Note{On: true}
	huge := bytes.Repeat([]byte("x"), 1<<16)
	n.Keep(record.Method, huge)
	n.Keep(record.Caller, huge)
	n.Keys([]string{"k"})
	values := 0
	for range 100 {
		n.KeepMetadata(0, huge)
	}
	for _, v := range n.Metadata() {
		values++
		if len(v) > 512 {
			t.Errorf("a value of %d bytes", len(v))
		}
	}
	if got := len(n.Text(record.Method)); got != 512 || values != 1 {
		t.Errorf("a text of %d bytes, %d values", got, values)
	}
}

func TestRecordOutlivesItsNote(t *testing.T) {
	n := record.Note{On: true, Generation: 7}
	n.Keep(record.Method, []byte("a/b"))
	r := record.New(&n)
	n.Reset()
	n.On = true
	n.Keep(record.Method, []byte("c/d"))
	if string(r.Text(record.Method)) != "a/b" || r.Generation != 7 {
		t.Errorf("%+v", r)
	}
	r.Drop()
}

func TestQueueHandsOverInOrderAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := record.NewQueue(10_000)
		ctx, cancel := context.WithCancel(t.Context())
		var got []int64
		var done sync.WaitGroup
		done.Go(func() {
			q.Run(ctx, func(batch []*record.Record) {
				for _, r := range batch {
					got = append(got, r.Arrived)
					r.Drop()
				}
			})
		})
		put := func(from, to int64) {
			for i := from; i < to; i++ {
				r := record.New(&record.Note{})
				r.Arrived = i
				q.Put(r)
			}
		}
		put(0, 10)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got) != 10 {
			t.Fatalf("%d of 10 came by themselves", len(got))
		}
		put(10, 2000)
		synctest.Wait()
		if len(got) == 10 {
			t.Error("many records did not wake the consumer")
		}
		cancel()
		done.Wait()
		for i, v := range got {
			if v != int64(i) {
				t.Fatalf("record %d came at place %d", v, i)
			}
		}
		if len(got) != 2000 || q.Dropped() != 0 {
			t.Errorf("%d records, %d dropped", len(got), q.Dropped())
		}
	})
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	q := record.NewQueue(3)
	for range 10 {
		q.Put(record.New(&record.Note{}))
	}
	if q.Len() != 3 || q.Dropped() != 7 {
		t.Errorf("%d wait, %d were dropped", q.Len(), q.Dropped())
	}
}

func TestTellingAllocatesNothing(t *testing.T) {
	q := record.NewQueue(1)
	var n record.Note
	method := []byte("a.B/C")
	if got := testing.AllocsPerRun(1000, func() {
		n.On = true
		n.Keep(record.Method, method)
		q.Put(record.New(&n))
		n.Reset()
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkTell(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("on=%v", on), func(b *testing.B) {
			q := record.NewQueue(1)
			var n record.Note
			method := []byte("a.B/C")
			for b.Loop() {
				n.On = on
				if n.On {
					n.Keep(record.Method, method)
					q.Put(record.New(&n))
				}
				n.Reset()
			}
		})
	}
}
