package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// gate is a bound on figures of one run.
type gate struct {
	what       string
	column     string
	got        float64
	goal, hard float64 // hard 0: there is only a goal
	atLeast    bool
}

// verdict says which bound the figure keeps.
func (g gate) verdict() string {
	keeps := func(bound float64) bool {
		if g.atLeast {
			return g.got >= bound
		}
		return g.got <= bound
	}
	switch {
	case keeps(g.goal):
		return "ok"
	case g.hard != 0 && keeps(g.hard):
		return "over the goal"
	}
	return "FAILS"
}

// gates are those of the design that the rows at hand allow to check.
func gates(results []Row) []gate {
	type key struct{ name, column string }
	byKey := make(map[key]*Row)
	for i := range results {
		r := &results[i]
		byKey[key{r.Name, fmt.Sprintf("%d:%d", r.Connections, r.InFlight)}] = r
	}
	var out []gate
	ratio := func(what, column, over, under string, figure func(*Row) float64, goal, hard float64) {
		a, b := byKey[key{over, column}], byKey[key{under, column}]
		if a != nil && b != nil && figure(b) > 0 {
			out = append(out, gate{what, column, figure(a) / figure(b), goal, hard, false})
		}
	}
	for _, c := range []string{"1:16", "4:100"} {
		for _, name := range []string{"mesh-1", "mesh-1-deadline"} {
			ratio(name+" over copy-uds-tcp, CPU between the ends", c, name, "copy-uds-tcp", (*Row).between, 1.5, 2.5)
		}
	}
	if r := byKey[key{"mesh-2", "1:100"}]; r != nil {
		out = append(out, gate{"mesh-2, calls a second", "1:100", r.CallsPerS, 70_000, 0, true})
	}
	if r := byKey[key{"mesh-2-sdk", "1:100"}]; r != nil {
		out = append(out, gate{"mesh-2-sdk, calls a second", "1:100", r.CallsPerS, 50_000, 0, true})
	}
	if a, b := byKey[key{"mesh-2", "1:1"}], byKey[key{"raw-uds", "1:1"}]; a != nil && b != nil {
		out = append(out, gate{"mesh-2, µs added per hop at p50", "1:1", (a.P50US - b.P50US) / 2, 200, 0, false})
	}
	for _, r := range results {
		column := fmt.Sprintf("%d:%d", r.Connections, r.InFlight)
		if r.Name == "sdk-uds" {
			ratio("sdk-uds over grpc-uds, CPU of the ends", column, "sdk-uds", "grpc-uds", (*Row).ends, 0.5, 0)
		}
	}
	return out
}

func printGates(out io.Writer, all []gate) {
	if len(all) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "gate\tload\tis\tgoal\thard\t")
	for _, g := range all {
		sign, format := "≤", "%.2f"
		if g.atLeast {
			sign = "≥"
		}
		if g.got >= 100 {
			format = "%.0f"
		}
		hard := "-"
		if g.hard != 0 {
			hard = fmt.Sprintf("%s %g", sign, g.hard)
		}
		fmt.Fprintf(w, "%s\t%s\t"+format+"\t%s %g\t%s\t%s\n", g.what, g.column, g.got, sign, g.goal, hard, g.verdict())
	}
	_ = w.Flush()
}
