package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printRun writes what was measured, on what, and the gates.
func printRun(out io.Writer, record *Record, results []Row) {
	fmt.Fprintln(out, record.Machine)
	for _, line := range append(record.Settings, record.Absent...) {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out)
	table(out, results)
	fmt.Fprintln(out)
	printGates(out, record.Gates)
}

// heads are the columns of figures, in the terminal and on a page. CPU is in seconds per 100,000 calls,
// memory in MB.
var heads = []string{"calls/s", "min", "max", "p50 µs", "p99", "p99.9", "ends CPU", "between CPU", "min", "max", "× byte copy", "RSS MB between", "syscalls a call"}

// copies are the CPU of the byte copy under each load, by the load's name.
func copies(results []Row) map[string]float64 {
	out := make(map[string]float64)
	for i := range results {
		if r := &results[i]; r.Name == "copy-uds-tcp" {
			out[r.column()] = r.between()
		}
	}
	return out
}

// figures are a row's, under heads. byteCopy is the CPU of the byte copy under the row's load; 0: not measured.
func (r *Row) figures(byteCopy float64) []string {
	var between, rss, syscalls string
	low, high, ends := 0.0, 0.0, 0.0
	for _, role := range r.roles() {
		ends += r.Syscalls[role]
		if role != "client" && role != "server" {
			between += fmt.Sprintf("+%.2f", r.CPU[role])
			rss += fmt.Sprintf("+%.0f", r.RSS[role])
			syscalls += fmt.Sprintf("+%.2f", r.Syscalls[role])
			low, high, ends = low+r.CPUMin[role], high+r.CPUMax[role], ends-r.Syscalls[role]
		}
	}
	calls := "-"
	if len(r.Syscalls) > 0 { // those of the ends, then of what is between
		calls = strings.TrimSuffix(fmt.Sprintf("%.2f, %s", ends, strings.TrimPrefix(syscalls, "+")), ", ")
	}
	times := 0.0
	if byteCopy > 0 {
		times = r.between() / byteCopy
	}
	whole := func(f float64) string { return fmt.Sprintf("%.0f", f) }
	return []string{
		whole(r.CallsPerS), whole(r.CallsPerSMin), whole(r.CallsPerSMax), whole(r.P50US), whole(r.P99US), whole(r.P999US),
		fmt.Sprintf("%.2f", r.ends()), dash(strings.TrimPrefix(between, "+")), figure(low), figure(high), figure(times), dash(strings.TrimPrefix(rss, "+")), calls,
	}
}

// table prints one line a row and load.
func table(out io.Writer, results []Row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	byteCopy := copies(results)
	fmt.Fprintf(w, "load\trow\t%s\t\n", strings.Join(heads, "\t"))
	for i := range results {
		r := &results[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", r.column(), r.Name, strings.Join(r.figures(byteCopy[r.column()]), "\t"))
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
