package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/examples/shop/trace"
)

func TestSampleReadsOneMetric(t *testing.T) {
	labels, n, ok := sample(`octo_calls_total{code="OK",direction="outbound",route="default",target="cart"} 12`, "octo_calls_total")
	if !ok || n != 12 || labels["code"] != "OK" || labels["target"] != "cart" || labels["direction"] != "outbound" {
		t.Errorf("%v %d %v", labels, n, ok)
	}
	for _, line := range []string{"", "# HELP octo_calls_total x", `octo_calls_open{a="b"} 1`, `octo_calls_total{a="b"} x`, "octo_calls_total{"} {
		if _, _, ok := sample(line, "octo_calls_total"); ok {
			t.Errorf("%q counts", line)
		}
	}
}

func TestCompareFindsEachDifference(t *testing.T) {
	want := []hop{{"customer", "cart", 2}}
	good := func() map[counted]int {
		return map[counted]int{
			{"customer", outbound, "cart", "OK"}: 1, {"customer", outbound, "cart", "CANCELLED"}: 1,
			{"cart-a", inbound, "cart", "OK"}: 1, {"cart-b", inbound, "cart", "OK"}: 1,
		}
	}
	if err := compare(good(), want); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(map[counted]int){
		"nothing counted":      func(d map[counted]int) { clear(d) },
		"one lost on its way":  func(d map[counted]int) { delete(d, counted{"cart-b", inbound, "cart", "OK"}) },
		"one too many":         func(d map[counted]int) { d[counted{"customer", outbound, "cart", "OK"}]++ },
		"another caller":       func(d map[counted]int) { d[counted{"checkout", outbound, "cart", "OK"}] = 1 },
		"an unexpected target": func(d map[counted]int) { d[counted{"customer", outbound, "catalogue", "OK"}] = 1 },
	} {
		delta := good()
		change(delta)
		if compare(delta, want) == nil {
			t.Errorf("%s: no difference", name)
		}
	}
}

func TestPathsNameEachHop(t *testing.T) {
	got := meshPaths(map[counted]int{
		{"checkout", outbound, "cart", "OK"}: 2, {"cart", inbound, "cart", "OK"}: 2,
		{"customer", outbound, "checkout", "OK"}: 1, {"checkout", inbound, "checkout", "OK"}: 1,
		{"customer", outbound, "catalogue", "OK"}: 1, {"checkout", outbound, "catalogue", "OK"}: 1,
		{"catalogue-a", inbound, "catalogue", "OK"}: 2,
	})
	want := []string{
		"customer's proxy, checkout's proxy → catalogue-a's proxy ×2",
		"customer's proxy → checkout's proxy → checkout",
		"checkout's proxy → cart's proxy → cart ×2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestSpansMustHaveComeTheExpectedWay(t *testing.T) {
	span := func(proxied bool, tier string) *trace.Span {
		return &trace.Span{Caller: customerName, Target: cart, Proxied: proxied, Baggage: map[string]string{"tier": tier}}
	}
	st := step{hops: []hop{{customerName, cart, 1}}}
	direct, mesh := &shop{}, &shop{proxies: []*proxy{{}}}
	for name, c := range map[string]struct {
		s     *shop
		spans []*trace.Span
		ok    bool
	}{
		"direct":             {direct, []*trace.Span{span(false, "gold")}, true},
		"mesh":               {mesh, []*trace.Span{span(true, "gold")}, true},
		"direct by a proxy":  {direct, []*trace.Span{span(true, "gold")}, false},
		"mesh without one":   {mesh, []*trace.Span{span(false, "gold")}, false},
		"baggage lost":       {mesh, []*trace.Span{span(true, "")}, false},
		"a call is missing":  {mesh, nil, false},
		"a call was doubled": {mesh, []*trace.Span{span(true, "gold"), span(true, "gold")}, false},
	} {
		if err := c.s.checkSpans(c.spans, st); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadmeHasThePoliciesThatTheDemoTries(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"canary.yaml", "gold.yaml"} {
		policy, err := os.ReadFile("../../policies/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), string(policy)) {
			t.Errorf("the README lacks %s", file)
		}
	}
}
