package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Contract(t, func(*testing.T) storetest.Compacter { return store.NewMemory(0) })
}

func TestMemoryForgetsOldChangesByItself(t *testing.T) {
	m := store.NewMemory(10)
	for i := range 100 {
		if _, err := m.Commit(t.Context(), store.Op{Key: fmt.Sprint(i % 3), Expect: store.Any}); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(b store.Batch) error { return fmt.Errorf("got %d events", len(b.Events)) }
	if err := m.Watch(t.Context(), "", 85, nothing); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("a watch of what is forgotten: %v", err)
	}
	if err := m.Watch(t.Context(), "", 90, nothing); err == nil || err.Error() != "got 10 events" {
		t.Errorf("a watch of what is remembered: %v", err)
	}
}
