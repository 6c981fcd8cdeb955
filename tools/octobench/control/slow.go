package control

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/resource"
)

const (
	slowInstances = 1000
	slowSize      = 4 << 10 // of each changed endpoint, in bytes
	heldGoal      = 1       // MiB that wait for one slow consumer, at most
	patience      = 3 * time.Minute
)

// slows measures what streams that read nothing cost the Pilot and the others.
func slows(o *options) ([]Table, error) {
	target := follow{Target: "stock", Streams: o.others, Instances: slowInstances}
	server, first, err := o.started(setup{Kind: "pilot", Topics: []follow{target}}, "pilot")
	if err != nil {
		return nil, err
	}
	defer server.stop()
	client, _, err := o.started(setup{Kind: "client", Address: first.Address, Streams: o.others, Connections: o.others, Topics: []follow{target}}, "client")
	if err != nil {
		return nil, err
	}
	defer client.stop()
	if _, err := server.do(order{Do: "push", Target: target.Target, Times: slowInstances, Size: slowSize}); err != nil {
		return nil, err
	}
	alone, _, err := o.pushTo(server, client, target.Target, 0)
	if err != nil {
		return nil, err
	}
	before, err := server.do(order{Do: "measure"})
	if err != nil {
		return nil, err
	}
	o.say("  %d streams follow that read nothing", o.slow)
	stalled, _, err := o.started(setup{Kind: "slow", Address: first.Address, Streams: o.slow, Topics: []follow{target}}, "slow")
	if err != nil {
		return nil, err
	}
	defer stalled.stop()
	beside, held, err := o.pushTo(server, client, target.Target, o.slow)
	if err != nil {
		return nil, err
	}
	after, err := server.do(order{Do: "measure"})
	if err != nil {
		return nil, err
	}
	o.say("  they begin to read")
	caught, err := stalled.do(order{Do: "read"})
	if err != nil {
		return nil, err
	}
	t := Table{
		Title: fmt.Sprintf("Slow consumers: %d streams that read nothing beside %d that do", o.slow, o.others),
		Notes: []string{
			fmt.Sprintf("one target of %d endpoints of %d KiB each; every one changes, and then %d changes follow, the next when all who read have acknowledged", slowInstances, slowSize>>10, o.changes),
			"what waits: resources that were sent and not acknowledged, whose bytes all streams share; heap: how much the Pilot's grew with the slow streams, after a collection, for each",
			fmt.Sprintf("once they read, all slow streams have the newest state after %v, of %d resources told to each on average", caught.Elapsed.Round(time.Millisecond), caught.Counts["resources"]/o.slow),
		},
		Heads: []string{"figure", "without slow streams", "beside them"},
		Rows: [][]any{
			{"p50 µs of those who read", us(alone.P50), us(beside.P50)},
			{"p99 µs of those who read", us(alone.P99), us(beside.P99)},
			{"changes that came to them", alone.Times, beside.Times},
			{"MiB that wait for a slow stream, at most", 0, mb(held.Counts["largest open"])},
			{"heap MiB for each slow stream", 0, mb(max(0, after.Memory.Heap-before.Memory.Heap)) / float64(o.slow)},
			{"changes merged with newer ones", before.Counts["coalesced"], after.Counts["coalesced"]},
		},
	}
	t.gate(mb(held.Counts["largest open"]), heldGoal, "MiB that wait for one slow stream")
	t.gate(float64(alone.Times-beside.Times), 0, "changes that others missed beside slow streams")
	return []Table{t}, nil
}

// pushTo changes all instances without waiting, then some one after the other, which the others must all hear of. So many
// streams stay behind.
func (o *options) pushTo(server, client *child, target string, behind int) (seen, held report, err error) {
	if _, err = server.do(order{Do: "push", Target: target, Times: slowInstances, Size: slowSize}); err != nil {
		return
	}
	if _, err = server.do(order{Do: "settle", Wait: behind}); err != nil { // the others have all of it
		return
	}
	if _, err = client.do(order{}); err != nil {
		return
	}
	readers := o.others
	if behind > 0 {
		readers++ // the one that the slow streams are compared with: it acknowledges, too
	}
	if held, err = server.do(order{Do: "push", Target: target, Times: o.changes, Wait: readers}); err != nil {
		return
	}
	seen, err = client.do(order{})
	return
}

// stalled are streams that read nothing until they are told to, and one that does.
type stalled struct {
	target string
	mu     sync.Mutex
	seed   maphash.Seed
	// state is the sum of hashes of what each stream has: equal sums, equal states.
	state     []uint64
	has       []map[string]string
	resources int
	err       error
	news      chan struct{}
}

// stall holds such streams.
func stall(s setup, c *conversation) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st := &stalled{target: s.Topics[0].Target, seed: maphash.MakeSeed(), state: make([]uint64, s.Streams+1), has: make([]map[string]string, s.Streams+1), news: make(chan struct{}, 1)}
	read := make(chan struct{})
	var ready sync.WaitGroup
	for n := range s.Streams + 1 {
		conn, err := dial(s.Address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		ready.Add(1)
		go func() {
			begin := read
			if n == 0 { // what the others are compared with
				begin = make(chan struct{})
				close(begin)
			}
			if err := st.run(ctx, conn, n, begin, ready.Done); err != nil && ctx.Err() == nil {
				st.note(func() { st.err = fmt.Errorf("slow stream %d: %w", n, err) })
			}
		}()
	}
	ready.Wait()
	if err := c.say(report{}); err != nil {
		return err
	}
	return c.each(func(order) (report, error) {
		close(read)
		at := time.Now()
		err := st.await()
		return report{Elapsed: time.Since(at), Counts: map[string]int{"resources": st.resources}}, err
	})
}

func (st *stalled) note(f func()) {
	st.mu.Lock()
	f()
	st.mu.Unlock()
	select {
	case st.news <- struct{}{}:
	default:
	}
}

func (st *stalled) run(ctx context.Context, conn *grpc.ClientConn, n int, read <-chan struct{}, ready func()) error {
	ready = sync.OnceFunc(ready)
	defer ready()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	r := &discoveryv3.DeltaDiscoveryRequest{
		Node:    &corev3.Node{Id: fmt.Sprintf("slow-%d", n), Cluster: environment},
		TypeUrl: resource.KindEndpoint.TypeURL(), ResourceNamesSubscribe: []string{endpoints(st.target).Name()},
	}
	if err := s.Send(r); err != nil {
		return err
	}
	if _, err := s.Header(); err != nil { // the Pilot has begun to send
		return err
	}
	ready()
	<-read
	st.has[n] = make(map[string]string)
	for {
		res, err := s.Recv()
		if err != nil {
			return err
		}
		st.note(func() { st.take(n, res) })
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce}); err != nil {
			return err
		}
	}
}

// take changes a stream's state. The lock is held.
func (st *stalled) take(n int, r *discoveryv3.DeltaDiscoveryResponse) {
	for _, res := range r.Resources {
		if old, ok := st.has[n][res.Name]; ok {
			st.state[n] -= maphash.String(st.seed, res.Name+" "+old)
		}
		st.state[n] += maphash.String(st.seed, res.Name+" "+res.Version)
		st.has[n][res.Name] = res.Version
		if n > 0 {
			st.resources++
		}
	}
}

// await waits until all have what the first has.
func (st *stalled) await() error {
	late := time.After(patience)
	for {
		st.mu.Lock()
		behind := 0
		for _, s := range st.state {
			if s != st.state[0] {
				behind++
			}
		}
		err := st.err
		st.mu.Unlock()
		if err != nil || behind == 0 {
			return err
		}
		select {
		case <-st.news:
		case <-late:
			return fmt.Errorf("%d slow streams do not have the newest state after %v", behind, patience)
		}
	}
}
