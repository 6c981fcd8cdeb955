package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/octomesh/octomesh/tools/octobench/end"
)

// print writes what was measured, on what, and the gates.
func (b *bench) print(out io.Writer, results []Row) {
	fmt.Fprintln(out, thisMachine())
	fmt.Fprint(out, b.configuration())
	fmt.Fprintln(out)
	table(out, results)
	fmt.Fprintln(out)
	printGates(out, gates(results))
}

// configuration says how everything was set.
func (b *bench) configuration() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d rounds of %v after %v, interleaved; medians; %d bytes each way; closed loop; all on this machine, GOMAXPROCS %d\n",
		b.rounds, b.duration, b.warmUp, b.loads[0].Size, runtime.GOMAXPROCS(0))
	fmt.Fprintf(&s, "proxies: octo-proxy, %d targets with default policies and one endpoint each, metrics and admin socket on, "+
		"log level info, no TLS; rows named deadline: %v a call\n", targets, callTimeout)
	fmt.Fprintf(&s, "byte copy: Go, a read-and-write loop per direction, buffers of 132 KiB, no splice\n")
	fmt.Fprintf(&s, "SDK and grpc-go ends: a goroutine per call in flight, the same message (google.protobuf.BytesValue), handlers that return it\n")
	fmt.Fprintf(&s, "%s\n", end.GRPCSettings)
	if b.profiles != "" {
		fmt.Fprintf(&s, "CPU PROFILES WERE TAKEN: figures hold their cost\n")
	}
	return s.String()
}

// table prints one line a row and load. CPU is in seconds per 100,000 calls, memory in MB.
func table(out io.Writer, results []Row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\trow\tcalls/s\tmin\tmax\tp50 µs\tp99\tp99.9\tends CPU\tbetween CPU\tmin\tmax\tRSS MB between\t")
	for _, r := range results {
		between, rss := "", ""
		low, high := 0.0, 0.0
		for _, role := range r.roles() {
			if role != "client" && role != "server" {
				between += fmt.Sprintf("+%.2f", r.CPU[role])
				rss += fmt.Sprintf("+%.0f", r.RSS[role])
				low, high = low+r.CPUMin[role], high+r.CPUMax[role]
			}
		}
		fmt.Fprintf(w, "%d:%d\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%s\t%s\t%s\t%s\t\n", r.Connections, r.InFlight, r.Name,
			r.CallsPerS, r.CallsPerSMin, r.CallsPerSMax, r.P50US, r.P99US, r.P999US,
			r.ends(), dash(strings.TrimPrefix(between, "+")), figure(low), figure(high), dash(strings.TrimPrefix(rss, "+")))
	}
	_ = w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func figure(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", f)
}
