package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// Gate is a bound on figures of one run, or only a ratio of them that is worth saying.
type Gate struct {
	What    string  `json:"what"`
	Load    string  `json:"load"`
	Is      float64 `json:"is"`
	Goal    float64 `json:"goal"` // 0: there is none
	Hard    float64 `json:"hard"` // 0: there is only a goal
	AtLeast bool    `json:"at_least"`
	Verdict string  `json:"verdict"`
}

// The verdicts.
const (
	passed     = "ok"
	notReached = "goal not reached"
	failed     = "FAILS"
	noGate     = "no gate"
)

// judged is the gate with its verdict: which bound the figure keeps.
func (g Gate) judged() Gate {
	keeps := func(bound float64) bool {
		if g.AtLeast {
			return g.Is >= bound
		}
		return g.Is <= bound
	}
	switch {
	case g.Goal == 0:
		g.Verdict = noGate
	case keeps(g.Goal):
		g.Verdict = passed
	case g.Hard != 0 && keeps(g.Hard):
		g.Verdict = notReached
	default:
		g.Verdict = failed
	}
	return g
}

// rowKey is a row's place in the table.
type rowKey struct{ name, column string }

// judge collects gates from the rows at hand.
type judge struct {
	rows  map[rowKey]*Row
	gates []Gate
}

// gates are those of the design that the rows at hand allow to check.
func gates(results []Row) []Gate {
	j := &judge{rows: make(map[rowKey]*Row)}
	for i := range results {
		j.rows[rowKey{results[i].Name, results[i].column()}] = &results[i]
	}
	j.mesh()
	j.peers()
	j.sdk(results)
	j.python()
	j.bridge()
	return j.gates
}

// sdk is what the Go SDK may cost: half of grpc-go for small calls in a closed loop, and less than Kitex.
// An open loop's client has its clock's cost too, so that its ratio says less.
func (j *judge) sdk(results []Row) {
	for _, peer := range []struct {
		name string
		goal float64
	}{{"grpc-uds", 0.5}, {"kitex-uds", 1}} {
		for _, r := range results {
			if r.Name != "sdk-uds" {
				continue
			}
			g := Gate{}
			if r.Kind == side.Unary && r.Size == 1024 && r.Rate == 0 {
				g.Goal = peer.goal
			}
			j.ratio("CPU of the ends", r.column(), "sdk-uds", peer.name, (*Row).ends, g)
		}
	}
}

// python is how many more calls a second the Python SDK has to make than grpcio: both ends, and each with the other by Go.
func (j *judge) python() {
	callsPerS := func(r *Row) float64 { return r.CallsPerS }
	for _, column := range []string{"1:16", "1:100"} {
		for _, end := range []string{"uds", "client", "server"} {
			j.ratio("calls a second", column, "python-"+end, "grpcio-"+end, callsPerS, Gate{Goal: 5, Hard: 3, AtLeast: true})
		}
	}
}

// bridge is what gRPC through ours may cost: a call of 1 KiB in each process, and no more than other relays of gRPC in the same run.
func (j *judge) bridge() {
	for _, column := range []string{"1:16", "4:100"} {
		for _, name := range []string{"bridge-1", "bridge-2"} {
			r := j.rows[rowKey{name, column}]
			if r == nil {
				continue
			}
			for _, role := range r.roles() {
				if strings.Contains(role, "proxy") {
					j.add(Gate{What: fmt.Sprintf("%s, µs of CPU a call of the %s", name, role), Load: column, Is: r.CPU[role] * 10, Goal: 12})
				}
			}
		}
		j.ratio("CPU between the ends", column, "bridge-1", "grpc-copy", (*Row).between, Gate{Goal: 1.5, Hard: 2.5})
		for _, relay := range []string{"grpc-relay", "envoy-grpc", "nginx-grpc"} {
			j.ratio("CPU between the ends", column, "bridge-1", relay, (*Row).between, Gate{Goal: 1})
		}
	}
	for _, column := range []string{"1:16/64k", "4:100/64k"} {
		j.ratio("CPU between the ends", column, "bridge-1", "grpc-relay", (*Row).between, Gate{Goal: 1})
	}
}

// mesh is what a hop of ours may cost.
func (j *judge) mesh() {
	for _, column := range []string{"1:16", "4:100"} {
		for _, name := range []string{"mesh-1", "mesh-1-deadline"} {
			j.ratio("CPU between the ends", column, name, "copy-uds-tcp", (*Row).between, Gate{Goal: 1.5, Hard: 2.5})
		}
	}
	for _, g := range []struct {
		name    string
		atLeast float64
	}{{"mesh-2", 70_000}, {"mesh-2-sdk", 50_000}} {
		if r := j.rows[rowKey{g.name, "1:100"}]; r != nil {
			j.add(Gate{What: g.name + ", calls a second", Load: "1:100", Is: r.CallsPerS, Goal: g.atLeast, AtLeast: true})
		}
	}
	if a, b := j.rows[rowKey{"mesh-2", "1:1"}], j.rows[rowKey{"raw-uds", "1:1"}]; a != nil && b != nil {
		j.add(Gate{What: "mesh-2, µs added per hop at p50", Load: "1:1", Is: (a.P50US - b.P50US) / 2, Goal: 200})
	}
}

// peers is how much dearer other proxies' hops have to be than ours. Raw ends are faster than those of an
// RPC library and so make larger batches; the same with the SDK's ends, which work as grpc-go's do, is said
// beside it.
func (j *judge) peers() {
	goals := map[string]map[string]float64{
		"envoy-grpc": {"1:16": 5, "4:100": 5}, "nginx-grpc": {"1:16": 5, "4:100": 5}, "haproxy-h2": {"1:16": 1.5, "4:100": 3},
	}
	for _, ours := range []string{"mesh-1", "mesh-1-sdk"} {
		for _, column := range []string{"1:16", "4:100"} {
			for _, peer := range []string{"envoy-grpc", "nginx-grpc", "haproxy-h2"} {
				g := Gate{AtLeast: true}
				if ours == "mesh-1" {
					g.Goal = goals[peer][column]
				}
				j.ratio("CPU between the ends", column, peer, ours, (*Row).between, g)
			}
		}
	}
}

// ratio adds a gate on a figure of one row over that of another, if both were measured.
func (j *judge) ratio(what, column, over, under string, figure func(*Row) float64, g Gate) {
	a, b := j.rows[rowKey{over, column}], j.rows[rowKey{under, column}]
	if a == nil || b == nil || figure(b) <= 0 {
		return
	}
	g.What, g.Load, g.Is = fmt.Sprintf("%s over %s, %s", over, under, what), column, figure(a)/figure(b)
	j.add(g)
}

func (j *judge) add(g Gate) { j.gates = append(j.gates, g.judged()) }

// figures are a gate's as text: what it is, its goal and its hard limit.
func (g Gate) figures() (is, goal, hard string) {
	sign, format := "≤", "%.2f"
	if g.AtLeast {
		sign = "≥"
	}
	if g.Is >= 100 {
		format = "%.0f"
	}
	hard = "-"
	if g.Hard != 0 {
		hard = fmt.Sprintf("%s %g", sign, g.Hard)
	}
	if goal = "-"; g.Goal != 0 {
		goal = fmt.Sprintf("%s %g", sign, g.Goal)
	}
	return fmt.Sprintf(format, g.Is), goal, hard
}

func printGates(out io.Writer, all []Gate) {
	if len(all) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "gate\tload\tis\tgoal\thard\t")
	for _, g := range all {
		is, goal, hard := g.figures()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.What, g.Load, is, goal, hard, g.Verdict)
	}
	_ = w.Flush()
}
