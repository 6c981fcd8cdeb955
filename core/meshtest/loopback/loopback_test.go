package loopback_test

import (
	"net"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
)

func TestFreeAddressesAreFreeAndDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for range 20 {
		at := loopback.Free(t)
		if seen[at] {
			continue
		}
		seen[at] = true
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	if len(seen) < 15 {
		t.Errorf("of 20 addresses %d differ", len(seen))
	}
}
