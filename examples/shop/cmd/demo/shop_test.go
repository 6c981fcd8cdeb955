package main

import "testing"

func TestATargetWithoutInstancesListsNone(t *testing.T) {
	const none, one = "cart has no instances in shop\n", "INSTANCE  MESH ADDRESS     WEIGHT\ncart      127.0.0.1:35203  100\n"
	for _, c := range []struct {
		table, name string
		want        bool
	}{{none, "cart", false}, {one, "cart", true}, {one, "catalogue-a", false}, {none + one, "cart", true}, {"", "cart", false}} {
		if got := listed(c.table, c.name); got != c.want {
			t.Errorf("%q lists %s: %v", c.table, c.name, got)
		}
	}
}
