// Package control measures what a Pilot's push costs, beside bare grpc-go: processor time for a push with its
// acknowledgement, latency by fan-out, and memory for streams that stand. `octobench control` runs it.
package control

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Command is the first argument with which the program is a side of a measurement.
const Command = "control-side"

// Side is what a child process does.
func Side(args []string) error {
	if len(args) < 2 {
		return errors.New("a side needs a kind and fan-outs")
	}
	fanouts, err := numbers(args[1])
	if err != nil {
		return err
	}
	if args[0] != "client" {
		return serve(args[0], fanouts, os.Stdin, os.Stdout)
	}
	streams, err := numbers(args[3])
	if err != nil || len(streams) != 2 {
		return fmt.Errorf("streams,connections: %w", err)
	}
	return follow(args[2], streams[0], streams[1], fanouts, os.Stdin, os.Stdout)
}

func numbers(text string) ([]int, error) {
	var all []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: want numbers from 1 on, separated by commas", text)
		}
		all = append(all, n)
	}
	return all, nil
}

// options are a run's.
type options struct {
	self                 string
	streams, connections int
	fanouts              []int
	rounds, pushes       int
}

// Run measures and prints a table.
func Run(self string, args []string, out io.Writer) error {
	o := options{self: self}
	f := flag.NewFlagSet("octobench control", flag.ExitOnError)
	f.IntVar(&o.streams, "streams", 5000, "streams that stand")
	f.IntVar(&o.connections, "connections", 50, "connections that they share")
	fanouts := f.String("fanouts", "1,10,100,500,5000", "how many streams follow what changes")
	f.IntVar(&o.rounds, "rounds", 3, "rounds, which alternate between the servers; medians are printed")
	f.IntVar(&o.pushes, "pushes", 5000, "pushes in each round and fan-out: so many changes that fan-out times changes is this, but 20 changes at least")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if o.fanouts, err = numbers(*fanouts); err != nil {
		return err
	}
	if slices.Max(o.fanouts) > o.streams {
		return fmt.Errorf("a fan-out of %d among %d streams", slices.Max(o.fanouts), o.streams)
	}
	return o.run(out)
}

// figure is one round's of one server at one fan-out.
type figure struct {
	perPush       time.Duration // processor time of the server
	p50, p90, p99 time.Duration
}

func (o *options) run(out io.Writer) error {
	kinds := []string{"pilot", "bare"}
	figures := make(map[string][]figure)
	rss := make(map[string]int)
	for range o.rounds {
		for _, kind := range kinds {
			if err := o.round(kind, figures, rss); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
	}
	fmt.Fprintf(out, "%d streams over %d connections; %d rounds, medians\n\n", o.streams, o.connections, o.rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fan-out\tserver\tµs CPU/push\tp50 µs\tp90 µs\tp99 µs\tover bare\t")
	for _, f := range o.fanouts {
		base := median(figures[key("bare", f)], func(x figure) time.Duration { return x.perPush })
		for _, kind := range kinds {
			all := figures[key(kind, f)]
			us := func(of func(figure) time.Duration) float64 { return float64(median(all, of).Nanoseconds()) / 1000 }
			cpu := us(func(x figure) time.Duration { return x.perPush })
			fmt.Fprintf(w, "%d\t%s\t%.1f\t%.0f\t%.0f\t%.0f\t%.2f\t\n", f, kind, cpu, us(func(x figure) time.Duration { return x.p50 }),
				us(func(x figure) time.Duration { return x.p90 }), us(func(x figure) time.Duration { return x.p99 }),
				cpu*1000/float64(base.Nanoseconds()))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, kind := range kinds {
		fmt.Fprintf(out, "\n%s: %.1f KB a stream (resident memory over streams)", kind, float64(rss[kind])/1024/float64(o.streams))
	}
	_, err := fmt.Fprintln(out)
	return err
}

func key(kind string, fanout int) string { return fmt.Sprint(kind, fanout) }

func median(all []figure, of func(figure) time.Duration) time.Duration {
	values := make([]time.Duration, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// round starts a server and its clients, and makes all pushes.
func (o *options) round(kind string, figures map[string][]figure, rss map[string]int) error {
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(o.fanouts), " ", ","), "[]")
	server, first, err := o.start(kind, text)
	if err != nil {
		return err
	}
	defer server.stop()
	client, _, err := o.start("client", text, first.Address, fmt.Sprintf("%d,%d", o.streams, o.connections))
	if err != nil {
		return err
	}
	defer client.stop()
	for _, f := range o.fanouts {
		changes := max(20, o.pushes/f)
		if _, err := server.do(order{f, max(5, changes/10)}); err != nil { // warm
			return err
		}
		if _, err := client.do(order{}); err != nil {
			return err
		}
		r, err := server.do(order{f, changes})
		if err != nil {
			return err
		}
		seen, err := client.do(order{})
		if err != nil {
			return err
		}
		if seen.Times != changes*f {
			return fmt.Errorf("of %d pushes %d came", changes*f, seen.Times)
		}
		figures[key(kind, f)] = append(figures[key(kind, f)], figure{r.CPU / time.Duration(changes*f), seen.P50, seen.P90, seen.P99})
		rss[kind] = max(rss[kind], r.RSS)
	}
	return nil
}

// child is a side that runs.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	reports *json.Decoder
}

func (o *options) start(args ...string) (*child, report, error) {
	c := &child{cmd: exec.Command(o.self, append([]string{Command}, args...)...)}
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, report{}, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, report{}, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, report{}, err
	}
	c.orders, c.reports = json.NewEncoder(c.in), json.NewDecoder(out)
	first, err := c.read()
	if err != nil {
		c.stop()
	}
	return c, first, err
}

func (c *child) read() (report, error) {
	var r report
	if err := c.reports.Decode(&r); err != nil {
		return r, err
	}
	if r.Failure != "" {
		return r, errors.New(r.Failure)
	}
	return r, nil
}

func (c *child) do(o order) (report, error) {
	if err := c.orders.Encode(o); err != nil {
		return report{}, err
	}
	return c.read()
}

func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
