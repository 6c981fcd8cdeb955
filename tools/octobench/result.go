package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/end"
	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// round is what one cell gave.
type round struct {
	callsPerSecond float64
	latencies      histogram.Counts
	cpuPer100k     map[string]float64 // CPU-seconds per 100,000 calls by role
	rss            map[string]float64
}

func newRound(before, after *moment) (*round, error) {
	r := &round{latencies: after.client.Latencies.Since(before.client.Latencies), rss: after.rss, cpuPer100k: make(map[string]float64)}
	calls := float64(r.latencies.Total())
	if calls == 0 {
		return nil, errors.New("no call was answered")
	}
	r.callsPerSecond = calls / time.Duration(after.client.Nanoseconds-before.client.Nanoseconds).Seconds()
	for role, cpu := range after.cpu {
		r.cpuPer100k[role] = (cpu - before.cpu[role]).Seconds() / calls * 100_000
	}
	return r, nil
}

// Row is a row under one load, as bench.json has it. Figures are medians of the rounds; the quantiles are
// those of all rounds' calls together. CPU and memory are by process: client, server and what is between.
type Row struct {
	Name        string `json:"name"`
	Size        int    `json:"size"`
	Connections int    `json:"connections"`
	InFlight    int    `json:"in_flight"`

	CallsPerS    float64 `json:"calls_per_s"`
	CallsPerSMin float64 `json:"calls_per_s_min"`
	CallsPerSMax float64 `json:"calls_per_s_max"`

	P50US  float64 `json:"p50_us"`
	P99US  float64 `json:"p99_us"`
	P999US float64 `json:"p999_us"`

	CPU    map[string]float64 `json:"cpu_s_per_100k"`
	CPUMin map[string]float64 `json:"cpu_s_per_100k_min"`
	CPUMax map[string]float64 `json:"cpu_s_per_100k_max"`
	RSS    map[string]float64 `json:"rss_mb"`

	Rounds int `json:"rounds"`
}

// summarize makes a row of its rounds.
func summarize(name string, load end.Load, rounds []*round) Row {
	out := Row{Name: name, Size: load.Size, Connections: load.Connections, InFlight: load.InFlight, Rounds: len(rounds)}
	rates := each(rounds, func(r *round) float64 { return r.callsPerSecond })
	out.CallsPerS, out.CallsPerSMin, out.CallsPerSMax = median(rates), rates[0], rates[len(rates)-1]
	all := histogram.Counts{}
	for _, r := range rounds {
		all.Add(r.latencies)
	}
	out.P50US, out.P99US, out.P999US = micros(all, 0.5), micros(all, 0.99), micros(all, 0.999)
	out.CPU, out.CPUMin, out.CPUMax, out.RSS = map[string]float64{}, map[string]float64{}, map[string]float64{}, map[string]float64{}
	for role := range maps.Keys(rounds[0].cpuPer100k) {
		cpu := each(rounds, func(r *round) float64 { return r.cpuPer100k[role] })
		out.CPU[role], out.CPUMin[role], out.CPUMax[role] = median(cpu), cpu[0], cpu[len(cpu)-1]
		out.RSS[role] = median(each(rounds, func(r *round) float64 { return r.rss[role] }))
	}
	return out
}

func micros(c histogram.Counts, q float64) float64 {
	return float64(c.Quantile(q)) / float64(time.Microsecond)
}

// each returns a figure of each round, in rising order.
func each(rounds []*round, figure func(*round) float64) []float64 {
	out := make([]float64, len(rounds))
	for i, r := range rounds {
		out[i] = figure(r)
	}
	slices.Sort(out)
	return out
}

// median of sorted figures.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// between is the CPU of all that stands between client and server.
func (r *Row) between() float64 { return sum(r.CPU) - r.ends() }

// ends is the CPU of client and server.
func (r *Row) ends() float64 { return r.CPU["client"] + r.CPU["server"] }

// roles are the row's processes: client, what is between, server.
func (r *Row) roles() []string {
	order := map[string]int{"client": -1, "client-proxy": 0, "server-proxy": 1, "server": 2}
	return slices.SortedFunc(maps.Keys(r.CPU), func(a, b string) int { return cmp.Compare(order[a], order[b]) })
}

func sum(m map[string]float64) float64 {
	var total float64
	for _, v := range m {
		total += v
	}
	return total
}
