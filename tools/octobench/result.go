package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/histogram"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// round is what one cell gave.
type round struct {
	callsPerSecond float64 // of a stream: messages
	latencies      histogram.Counts
	cpuPer100k     map[string]float64 // CPU-seconds per 100,000 calls by role
	rss            map[string]float64
}

func newRound(before, after *moment) (*round, error) {
	r := &round{latencies: after.client.Latencies.Since(before.client.Latencies), rss: after.rss, cpuPer100k: make(map[string]float64)}
	calls := float64(after.client.Messages - before.client.Messages)
	if calls == 0 || r.latencies.Total() == 0 {
		return nil, errors.New("no call was answered")
	}
	r.callsPerSecond = calls / time.Duration(after.client.Nanoseconds-before.client.Nanoseconds).Seconds()
	for role, cpu := range after.cpu {
		r.cpuPer100k[role] = (cpu - before.cpu[role]).Seconds() / calls * 100_000
	}
	return r, nil
}

// Row is a row under one load, as bench.json has it. Figures are medians of the rounds; the quantiles are
// those of all rounds' calls together. CPU, memory and system calls are by process: client, server and what
// is between. Of streams messages are counted, not calls; the latency of a server stream is that of a whole
// one, that of a bidi stream of a message and its answer.
type Row struct {
	Name        string  `json:"name"`
	Kind        string  `json:"kind"` // unary, server-stream or bidi
	Size        int     `json:"size"` // of each message, in bytes
	Connections int     `json:"connections"`
	InFlight    int     `json:"in_flight"`
	Rate        float64 `json:"rate"` // calls begun a second in an open loop; 0: a closed one

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

	Syscalls map[string]float64 `json:"syscalls_per_call,omitempty"`

	Rounds int `json:"rounds"`
}

// column names the row's load.
func (r *Row) column() string {
	return side.Load{Kind: r.Kind, Size: r.Size, Connections: r.Connections, InFlight: r.InFlight, Rate: r.Rate}.Column()
}

// summarize makes a row of its rounds.
func summarize(name string, load side.Load, rounds []*round) Row {
	out := Row{
		Name: name, Kind: load.Kind, Size: load.Size, Connections: load.Connections, InFlight: load.InFlight, Rate: load.Rate, Rounds: len(rounds),
	}
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
