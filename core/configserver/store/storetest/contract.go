// Package storetest has what every store must do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/octomesh/octomesh/core/configserver/store"
)

// Compacter is a store that can be told to forget old changes.
type Compacter interface {
	store.Store
	Compact(ctx context.Context, revision int64) error
}

// Contract runs the tests that every store passes. open makes an empty store.
func Contract(t *testing.T, open func(t *testing.T) Compacter) {
	for name, test := range map[string]func(*testing.T, Compacter){
		"WhatIsCommittedIsRead":                 committed,
		"ACommitHappensAsAWholeOrNotAtAll":      whole,
		"OfRacingWritersOneWins":                race,
		"AWatchMissesNothing":                   watch,
		"AWatchFollowsWhatItsReaderDoes":        watchEnds,
		"AWatchFromTooLongAgoIsToldSo":          compacted,
		"AListIsOfOneRevisionHoweverLargeItIs":  long,
		"WhatNoStoreTakesIsRefusedAndNotDone":   invalid,
		"ADeletedKeyIsExpectedAsOneNeverSeen":   deleted,
		"ACommitThatChangesNothingIsNoRevision": nothing,
		"TheNewestComeFirst":                    newest,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func must(t *testing.T, s store.Store, ops ...store.Op) int64 {
	t.Helper()
	r, err := s.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatalf("commit of %v: %v", ops, err)
	}
	return r
}

func put(key, value string, expect int64) store.Op {
	return store.Op{Key: key, Value: []byte(value), Expect: expect}
}

// list is what is below a prefix as "key=value ...".
func list(t *testing.T, s store.Store, prefix string) string {
	t.Helper()
	entries, _, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Key+"="+string(e.Value))
	}
	return strings.Join(out, " ")
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func committed(t *testing.T, s Compacter) {
	if _, err := s.Get(t.Context(), "a/1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an absent key: %v, want %v", err, store.ErrNotFound)
	}
	first := must(t, s, put("a/1", "one", 0), put("a/2", "two", 0), put("b/1", "other", 0))
	e, err := s.Get(t.Context(), "a/1")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "value", string(e.Value), "one")
	expect(t, "key", e.Key, "a/1")
	expect(t, "revision", e.Revision, first)
	second := must(t, s, put("a/1", "uno", first))
	if second <= first {
		t.Errorf("revision %d after %d: it must grow", second, first)
	}
	expect(t, "below a/", list(t, s, "a/"), "a/1=uno a/2=two")
	expect(t, "everything", list(t, s, ""), "a/1=uno a/2=two b/1=other")
	entries, at, err := s.List(t.Context(), "a/2")
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	expect(t, "revision of an older key", entries[0].Revision, first)
	expect(t, "revision of the list", at, second)
}

func whole(t *testing.T, s Compacter) {
	r := must(t, s, put("a", "1", 0))
	_, err := s.Commit(t.Context(), put("b", "1", 0), put("a", "2", r+5))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
	expect(t, "conflict", *conflict, store.ConflictError{Key: "a", Expected: r + 5, Actual: r})
	_, err = s.Commit(t.Context(), put("b", "1", 0), store.Op{Key: "a", Expect: 0, Keep: true})
	if !errors.As(err, &conflict) {
		t.Fatalf("a key that is only compared: got %v, want a conflict", err)
	}
	_, err = s.Commit(t.Context(), put("c", "1", 77))
	if !errors.As(err, &conflict) || conflict.Actual != 0 {
		t.Fatalf("a key that is not there: got %v, want a conflict with revision 0", err)
	}
	expect(t, "after refused commits", list(t, s, ""), "a=1")
	must(t, s, put("b", "1", 0), store.Op{Key: "a", Expect: r, Keep: true}, put("d", "1", store.Any))
	expect(t, "after one that holds", list(t, s, ""), "a=1 b=1 d=1")
}

func race(t *testing.T, s Compacter) {
	const writers, rounds = 8, 5
	must(t, s, put("n", "", 0))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				e, err := s.Get(t.Context(), "n")
				if err != nil {
					t.Error(err)
					return
				}
				var conflict *store.ConflictError
				switch _, err := s.Commit(t.Context(), put("n", string(e.Value)+"x", e.Revision)); {
				case err == nil:
					done++
				case !errors.As(err, &conflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	e, err := s.Get(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "increments that are left", len(e.Value), writers*rounds)
}

var errEnough = errors.New("enough")

// follow gathers events below a prefix after a revision until there are n.
func follow(t *testing.T, s store.Store, prefix string, after int64, n int) []string {
	t.Helper()
	var got []string
	err := s.Watch(t.Context(), prefix, after, func(b store.Batch) error {
		for _, e := range b.Events {
			if e.Revision <= after || e.Revision > b.Revision {
				t.Errorf("event %s has revision %d, of a batch up to %d after %d", e.Key, e.Revision, b.Revision, after)
			}
			if e.Deleted {
				got = append(got, e.Key+" deleted")
			} else {
				got = append(got, e.Key+"="+string(e.Value))
			}
		}
		after = b.Revision
		if len(got) >= n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("watch ended with %v, want what its reader returned", err)
	}
	return got
}

func watch(t *testing.T, s Compacter) {
	before := must(t, s, put("a/0", "0", 0))
	const n = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			must(t, s, put("a/k", fmt.Sprint(i), store.Any), put("b/k", "not asked for", store.Any))
		}
		must(t, s, store.Op{Key: "a/k", Delete: true, Expect: store.Any})
	})
	got := follow(t, s, "a/", before, n+1)
	wg.Wait()
	if len(got) != n+1 {
		t.Fatalf("%d events, want %d", len(got), n+1)
	}
	for i := range n {
		expect(t, "event", got[i], fmt.Sprintf("a/k=%d", i))
	}
	expect(t, "last event", got[n], "a/k deleted")
	again := follow(t, s, "a/", before, n+1)
	expect(t, "the same watch later", strings.Join(again, " "), strings.Join(got, " "))
	expect(t, "a watch from the beginning", follow(t, s, "a/", 0, 1)[0], "a/0=0")
}

func watchEnds(t *testing.T, s Compacter) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() {
		ended <- s.Watch(ctx, "a", 0, func(store.Batch) error { seen <- struct{}{}; return nil })
	}()
	must(t, s, put("a", "1", 0))
	<-seen
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v, want %v", err, context.Canceled)
	}
}

func compacted(t *testing.T, s Compacter) {
	first := must(t, s, put("a", "1", 0))
	must(t, s, put("a", "2", store.Any))
	last := must(t, s, put("a", "3", store.Any))
	if err := s.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	err := s.Watch(t.Context(), "", first, func(b store.Batch) error {
		t.Errorf("got %v, with a gap before it", b)
		return errEnough
	})
	if !errors.Is(err, store.ErrCompacted) {
		t.Errorf("the watch ended with %v, want %v", err, store.ErrCompacted)
	}
	must(t, s, put("a", "4", last))
	expect(t, "a watch from the list's revision", follow(t, s, "", last, 1)[0], "a=4")
}

func long(t *testing.T, s Compacter) {
	const n = 1230 // several pages, the last one not full
	var last int64
	for i := 0; i < n; i += 123 {
		var ops []store.Op
		for j := range 123 {
			ops = append(ops, put(fmt.Sprintf("k/%04d", i+j), "v", 0))
		}
		last = must(t, s, ops...)
	}
	entries, at, err := s.List(t.Context(), "k/")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "entries", len(entries), n)
	expect(t, "revision", at, last)
	for i, e := range entries {
		expect(t, "key", e.Key, fmt.Sprintf("k/%04d", i))
	}
}

func invalid(t *testing.T, s Compacter) {
	many := make([]store.Op, store.MaxOps+1)
	for i := range many {
		many[i] = put(fmt.Sprint(i), "v", 0)
	}
	for name, ops := range map[string][]store.Op{
		"nothing":       nil,
		"too many":      many,
		"too large":     {{Key: "a", Value: make([]byte, store.MaxBytes)}},
		"a key twice":   {put("a", "1", 0), put("a", "2", 0)},
		"no key":        {put("", "1", 0)},
		"contradictory": {{Key: "a", Delete: true, Keep: true}},
	} {
		if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, store.ErrInvalid)
		}
	}
	expect(t, "after refused commits", list(t, s, ""), "")
	must(t, s, many[:store.MaxOps]...)
}

func deleted(t *testing.T, s Compacter) {
	r := must(t, s, put("a", "1", 0))
	var conflict *store.ConflictError
	if _, err := s.Commit(t.Context(), store.Op{Key: "a", Delete: true, Expect: r + 1}); !errors.As(err, &conflict) {
		t.Fatalf("deletion of another revision: got %v, want a conflict", err)
	}
	must(t, s, store.Op{Key: "a", Delete: true, Expect: r})
	expect(t, "after deletion", list(t, s, ""), "")
	must(t, s, put("a", "2", 0))
	expect(t, "after another one", list(t, s, ""), "a=2")
}

func nothing(t *testing.T, s Compacter) {
	r := must(t, s, put("a", "1", 0))
	expect(t, "a comparison alone", must(t, s, store.Op{Key: "a", Expect: r, Keep: true}), r)
	expect(t, "a deletion of what is not there", must(t, s, store.Op{Key: "b", Delete: true, Expect: store.Any}), r)
}

func newest(t *testing.T, s Compacter) {
	must(t, s, put("a/1", "1", 0), put("b/1", "1", 0))
	must(t, s, put("a/2", "1", 0))
	must(t, s, put("a/1", "2", store.Any))
	must(t, s, put("a/4", "1", 0), put("a/3", "1", 0))
	for limit, want := range map[int]string{10: "a/3=1 a/4=1 a/1=2 a/2=1", 3: "a/3=1 a/4=1 a/1=2", 0: ""} {
		entries, err := s.Newest(t.Context(), "a/", limit)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Key+"="+string(e.Value))
		}
		expect(t, fmt.Sprintf("the newest %d", limit), strings.Join(all, " "), want)
	}
}
