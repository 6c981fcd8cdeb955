package control

import "fmt"

// changeGoal is what one change may cost a subscriber, in bytes of a gRPC message.
const changeGoal = 100

// changes counts the bytes of one change among many instances.
func changes(o *options) ([]Table, error) {
	target := follow{Target: "stock", Streams: o.subscribers, Instances: o.instances}
	server, first, err := o.started(setup{Kind: "pilot", Topics: []follow{target}}, "pilot")
	if err != nil {
		return nil, err
	}
	defer server.stop()
	client, _, err := o.started(setup{
		Kind: "client", Address: first.Address, Streams: o.subscribers, Connections: o.subscribers, Topics: []follow{target}, Count: true,
	}, "client")
	if err != nil {
		return nil, err
	}
	defer client.stop()
	full, err := client.do(order{})
	if err != nil {
		return nil, err
	}
	r, err := server.do(order{Do: "push", Target: target.Target, Times: o.changes, Wait: o.subscribers})
	if err != nil {
		return nil, err
	}
	seen, err := client.do(order{})
	if err != nil {
		return nil, err
	}
	n := o.changes * o.subscribers
	if seen.Times != n {
		return nil, fmt.Errorf("of %d changes %d came", n, seen.Times)
	}
	each := func(what string) float64 { return float64(seen.Counts[what]-full.Counts[what]) / float64(n) }
	all := func(what string) float64 { return float64(full.Counts[what]) / float64(o.subscribers) }
	t := Table{
		Title: fmt.Sprintf("One change among %d instances, for each of %d subscribers", o.instances, o.subscribers),
		Notes: []string{
			fmt.Sprintf("%d changes, one after the other, each of another instance: name %q, mesh address, zone and a time of 9 bytes in place of the incarnation", o.changes, endpoints(target.Target).FullName(instance(1))),
			"a message is what gRPC carries, without its prefix of 5 bytes; on the connection stands what came and went over the socket, with all of HTTP/2's frames, window updates and pings",
			fmt.Sprintf("%.1f µs CPU of the Pilot a push, %.1f µs p50, %.1f µs p99", us(r.CPU)/float64(n), us(seen.P50), us(seen.P99)),
		},
		Heads: []string{"bytes", "in the message", "on the connection"},
		Rows: [][]any{
			{"the change, to a subscriber", each("message bytes"), each("wire read")},
			{"its acknowledgement", each("sent bytes"), each("wire written")},
			{"all instances, at first", all("message bytes"), all("wire read")},
		},
	}
	t.gate(each("message bytes"), changeGoal, "bytes of a change's message")
	return []Table{t}, nil
}
