package control

import (
	"fmt"
	"slices"
	"time"
)

// bareGoal is what a push may cost, in times that of bare grpc-go in the same run.
const bareGoal = 1.3

// figure is one round's of one server at one fan-out.
type figure struct {
	perPush       time.Duration // processor time of the server
	p50, p90, p99 time.Duration
}

// byServer are all rounds' figures, by server and fan-out.
type byServer map[string]map[int][]figure

// pushes measures twice: with a connection for each stream, as proxies have, and with few that all share.
func pushes(o *options) ([]Table, error) {
	var tables []Table
	most := slices.Max(o.fanouts)
	for _, connections := range []int{most, min(o.sharing, most)} {
		t, err := o.pushTable(most, connections)
		if err != nil {
			return tables, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

func (o *options) pushTable(streams, connections int) (Table, error) {
	kinds := []string{"pilot", "bare"}
	figures := byServer{"pilot": {}, "bare": {}}
	for n := range o.rounds {
		for _, kind := range kinds {
			o.say("  round %d of %d: %s, %d streams over %d connections", n+1, o.rounds, kind, streams, connections)
			if err := o.pushRound(kind, streams, connections, figures); err != nil {
				return Table{}, err
			}
		}
	}
	t := Table{
		Title: "A push with its acknowledgement, a connection for each stream",
		Notes: []string{
			fmt.Sprintf("%d streams over %d connections stand; a change goes to as many of them as the fan-out says, and the next change follows when all have acknowledged", streams, connections),
			fmt.Sprintf("medians of %d rounds, which alternate between the servers; about %d pushes in each, but 10 changes at least", o.rounds, o.pushes),
			"CPU is the server's, user and system, for one push and its acknowledgement; latency is from the change to the client that has read and decoded it",
			"bare: grpc-go without anything, which sends each stream the same message and reads an answer",
		},
		Heads: []string{"fan-out", "server", "µs CPU a push", "over bare", "p50 µs", "p90 µs", "p99 µs"},
	}
	if connections < streams {
		t.Title = fmt.Sprintf("A push with its acknowledgement, %d streams over %d connections", streams, connections)
	}
	for _, f := range o.fanouts {
		base := median(figures["bare"][f], func(x figure) time.Duration { return x.perPush })
		for _, kind := range kinds {
			all := figures[kind][f]
			cpu := median(all, func(x figure) time.Duration { return x.perPush })
			ratio := us(cpu) / us(base)
			t.Rows = append(t.Rows, []any{f, kind, us(cpu), ratio, us(median(all, func(x figure) time.Duration { return x.p50 })),
				us(median(all, func(x figure) time.Duration { return x.p90 })), us(median(all, func(x figure) time.Duration { return x.p99 }))})
			if kind == "pilot" {
				t.gate(ratio, bareGoal, "CPU over bare grpc-go's, %d connections, fan-out %d", connections, f)
			}
		}
	}
	return t, nil
}

func median(all []figure, of func(figure) time.Duration) time.Duration {
	values := make([]time.Duration, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// pushRound starts a server and its clients, and makes all pushes.
func (o *options) pushRound(kind string, streams, connections int, figures byServer) error {
	s := setup{Kind: kind, Streams: streams, Connections: connections}
	for _, f := range o.fanouts {
		s.Topics = append(s.Topics, follow{Target: fanout(f), Streams: f})
	}
	server, first, err := o.started(s, kind)
	if err != nil {
		return err
	}
	defer server.stop()
	s.Kind, s.Address = "client", first.Address
	client, _, err := o.started(s, "client")
	if err != nil {
		return err
	}
	defer client.stop()
	for _, f := range o.fanouts {
		changes := max(10, o.pushes/f)
		if _, err := server.do(order{Do: "push", Target: fanout(f), Times: max(5, changes/10), Wait: f}); err != nil { // warm
			return err
		}
		if _, err := client.do(order{}); err != nil {
			return err
		}
		r, err := server.do(order{Do: "push", Target: fanout(f), Times: changes, Wait: f})
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
		figures[kind][f] = append(figures[kind][f], figure{r.CPU / time.Duration(changes*f), seen.P50, seen.P90, seen.P99})
	}
	return nil
}

func fanout(f int) string { return fmt.Sprintf("fanout-%d", f) }
