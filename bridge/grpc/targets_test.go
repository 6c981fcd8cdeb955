package grpc_test

import (
	"strings"
	"testing"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
)

func named() *bridge.Targets {
	return bridge.NewTargets(map[string]string{"shop.Cart": "cart"}, map[string]string{
		"Red.Example": "red", "red.example:8443": "red-tls", "*.example": "any", "*.blue.example": "blues", "*.blue.example:1": "blue-1", "[::1]": "six", "127.0.0.1:50051": "four",
	})
}

func TestAuthoritiesGoBeforeServices(t *testing.T) {
	names := named()
	for authority, want := range map[string]string{
		"red.example": "red", "red.example:50051": "red", "red.example:8443": "red-tls", "RED.EXAMPLE:8443": "red-tls",
		"a.example": "any", "a.b.Example:7": "any", "a.blue.example": "blues", "x.a.blue.example:2": "blues", "a.blue.example:1": "blue-1",
		"blue.example": "any", "[::1]": "six", "[::1]:80": "six", "127.0.0.1:50051": "four",
		// Whatever is not named leaves the choice to the service.
		"": "cart", "example": "cart", ".example": "cart", "127.0.0.1:50052": "cart", "[::2]:80": "cart", "red.example.": "cart", "red.example:": "red",
		"user@red.example": "any", "notred": "cart", ":": "cart", strings.Repeat("a", 300) + ".example": "cart", "*.example": "any",
	} {
		if got := names.Of(authority, "shop.Cart"); got != want {
			t.Errorf("%q leads to %q, want %q", authority, got, want)
		}
	}
	for service, want := range map[string]string{"shop.Cart": "cart", "shop.Till": "shop.Till", "": ""} {
		if got := bridge.NewTargets(map[string]string{"shop.Cart": "cart"}, nil).Of("red.example", service); got != want {
			t.Errorf("without authorities %q is served by %q, want %q", service, got, want)
		}
	}
}

func TestChoosingByAuthorityAllocatesNothing(t *testing.T) {
	names := named()
	for _, authority := range []string{"Red.Example", "red.example:8443", "a.b.c.d.Example:7", "elsewhere.test:443"} {
		if n := testing.AllocsPerRun(1000, func() { names.Of(authority, "shop.Cart") }); n > 0 {
			t.Errorf("%q: %v allocations", authority, n)
		}
	}
}
