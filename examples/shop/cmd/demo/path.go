package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/octomesh/octomesh/examples/shop/trace"
)

// directoryService is what SDKs ask their proxies for.
const directoryService = "octo.directory.v1.Directory"

const outbound, inbound = "outbound", "inbound"

// settled waits until the counters of all proxies have grown by what a step must have done, and returns
// what they grew by. A caller may know of the end of its call a moment before the proxies have counted it.
func (s *shop) settled(ctx context.Context, want []hop) (map[counted]int, error) {
	var delta map[counted]int
	var differs error
	err := until(ctx, func() (bool, error) {
		now, err := s.count(ctx)
		if err != nil {
			return false, err
		}
		delta = grown(s.counters, now)
		if differs = compare(delta, want); differs == nil {
			s.counters = now
		}
		return differs == nil, nil
	})
	if differs != nil {
		return nil, fmt.Errorf("the proxies' counters differ: %w", differs)
	}
	return delta, err
}

func grown(before, now map[counted]int) map[counted]int {
	delta := make(map[counted]int)
	for c, n := range now {
		if n -= before[c]; n != 0 {
			delta[c] = n
		}
	}
	return delta
}

// compare holds the counters' growth against the expected calls: each is counted once on its way out of
// the caller's proxy, and once on its way into the proxy of an instance.
func compare(delta map[counted]int, want []hop) error {
	type side struct{ direction, proxy, target string }
	got, wanted := make(map[side]int), make(map[side]int)
	for c, n := range delta {
		if c.direction == inbound {
			c.proxy = "" // whichever the balancer chose
		}
		got[side{c.direction, c.proxy, c.target}] += n
	}
	for _, h := range want {
		wanted[side{outbound, h.caller, h.target}] += h.calls
		wanted[side{inbound, "", h.target}] += h.calls
	}
	for k := range wanted {
		got[k] += 0 // so that both have it
	}
	for k, n := range got {
		if n != wanted[k] {
			return fmt.Errorf("%s %s calls of %s: %d, expected %d", k.proxy, k.direction, k.target, n, wanted[k])
		}
	}
	return nil
}

// tally is a number for a name.
type tally struct {
	name string
	n    int
}

// side sums up one direction of a target, the customer first.
func side(delta map[counted]int, direction, target string) []tally {
	sums := make(map[string]int)
	for c, n := range delta {
		if c.direction == direction && c.target == target {
			sums[c.proxy] += n
		}
	}
	var all []tally
	for name, n := range sums {
		all = append(all, tally{name, n})
	}
	slices.SortFunc(all, func(a, b tally) int {
		return cmp.Or(cmp.Compare(byCustomer(a.name), byCustomer(b.name)), cmp.Compare(a.name, b.name))
	})
	return all
}

// meshPaths says which way the calls went by the proxies' counters.
func meshPaths(delta map[counted]int) []string {
	targets := make(map[string]bool)
	for c := range delta {
		targets[c.target] = true
	}
	var lines []string
	for _, target := range slices.Sorted(maps.Keys(targets)) {
		callers, servers := side(delta, outbound, target), side(delta, inbound, target)
		if len(callers) == 1 { // then each server's count is the caller's
			for _, to := range servers {
				lines = append(lines, fmt.Sprintf("%s's proxy → %s's proxy → %s%s", callers[0].name, to.name, to.name, times(to.n)))
			}
			continue
		}
		lines = append(lines, fmt.Sprintf("%s → %s", list(callers), list(servers)))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(byCustomer(a), byCustomer(b)) })
	return lines
}

// byCustomer orders what begins with the customer before all else.
func byCustomer(line string) int {
	if strings.HasPrefix(line, customerName) {
		return 0
	}
	return 1
}

func list(all []tally) string {
	var parts []string
	for _, t := range all {
		parts = append(parts, t.name+"'s proxy"+times(t.n))
	}
	return strings.Join(parts, ", ")
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(" ×%d", n)
}

// directPaths says the same of calls without proxies, by the services' logs.
func directPaths(spans []*trace.Span) []string {
	n := make(map[[2]string]int)
	var order [][2]string
	for _, s := range spans {
		k := [2]string{s.Caller, s.Instance}
		if n[k]++; n[k] == 1 {
			order = append(order, k)
		}
	}
	var lines []string
	for _, k := range order {
		lines = append(lines, k[0]+" → "+k[1]+times(n[k]))
	}
	return lines
}

// open says where calls are open now, by the proxies' list of them.
func (s *shop) open(ctx context.Context) ([]string, error) {
	var lines []string
	for _, p := range s.proxies {
		body, err := p.get(ctx, "/calls")
		if err != nil {
			return nil, err
		}
		var answer struct {
			Calls []struct{ Direction, Target, Service, Method, Endpoint string }
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, fmt.Errorf("%s: /calls: %w", p.name, err)
		}
		for _, c := range answer.Calls {
			if c.Service == directoryService {
				continue // how instances register themselves
			}
			lines = append(lines, fmt.Sprintf("open in %s's proxy: %s %s/%s %s", p.beside, c.Direction, c.Target, c.Method, c.Endpoint))
		}
	}
	return lines, expect(len(lines) == 2, "open calls: %v", lines)
}
