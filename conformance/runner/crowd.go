package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// crowdKinds are what a proxy asks for of each target, as they are called on the stream, and the end of the name by which it
// does.
var crowdKinds = []struct{ url, suffix string }{
	{"octo.resource.v1.Endpoint", "/*"}, {"octo.resource.v1.ServicePolicy", ""}, {"octo.resource.v1.AuthPolicy", ""}, {"octo.resource.v1.MeshSwitch", "/*"},
}

const (
	crowdPause    = 100 * time.Millisecond // after a stream has ended, at first
	crowdMaxPause = 5 * time.Second
)

// crowd is made-up proxies: streams to one Pilot, as proxies have them (delta ADS), that say on what they are and acknowledge
// all that they are told.
type crowd struct {
	name    string
	targets []string
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu       sync.Mutex
	members  []*member
	messages map[version]proto.Message // of all that was ever told
	last     error                     // why a stream ended
}

// version is one of a resource.
type version struct{ url, name, version string }

// member is one of the made-up proxies. The crowd's lock guards what it has.
type member struct {
	id     string
	has    map[string]map[string]string // version, by kind and name
	stands bool                         // its stream, and something was said on it
}

// gather begins a crowd.
func (s *stage) gather(c *conformancev1.Crowd) error {
	address := ""
	if l := s.links[c.To]; l != nil {
		address = l.Address()
	} else if p := s.plane.parts[c.To]; p != nil {
		address = p.address
	}
	if address == "" || c.Sessions == 0 || c.Connections == 0 {
		return fmt.Errorf("a crowd at %q of %d over %d connections", c.To, c.Sessions, c.Connections)
	}
	targets, err := s.targets()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := &crowd{name: "the crowd at " + c.To, targets: targets, stop: cancel, messages: make(map[version]proto.Message)}
	s.crowds = append(s.crowds, out)
	var conns []*grpc.ClientConn
	s.cleanup = append(s.cleanup, func() {
		out.stop()
		out.wg.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	for range c.Connections {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithReadBufferSize(4<<10),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)),
			grpc.WithConnectParams(grpc.ConnectParams{
				MinConnectTimeout: startTimeout,
				Backoff:           backoff.Config{BaseDelay: crowdPause, Multiplier: 1.6, Jitter: 0.5, MaxDelay: crowdMaxPause},
			}))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	for n := range int(c.Sessions) {
		m := &member{id: fmt.Sprintf("crowd-%s-%d", c.To, n), has: make(map[string]map[string]string)}
		out.members = append(out.members, m)
		out.wg.Go(func() { out.live(ctx, m, conns[n%len(conns)]) })
	}
	return nil
}

// live has a stream until ctx is done, one after the other.
func (c *crowd) live(ctx context.Context, m *member, conn *grpc.ClientConn) {
	for pause := crowdPause; ctx.Err() == nil; {
		err := c.stream(ctx, m, conn)
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		for _, d := range status.Convert(err).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				wait = r.GetRetryDelay().AsDuration() + rand.N(r.GetRetryDelay().AsDuration()/4+1)
			}
		}
		pause = min(2*pause, crowdMaxPause)
		c.mu.Lock()
		if m.stands {
			pause = crowdPause
		}
		m.stands, c.last = false, err
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// stream says what the member has, and takes what comes, until the stream ends.
func (c *crowd) stream(ctx context.Context, m *member, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := &corev3.Node{Id: m.id, Cluster: environment}
	for _, kind := range crowdKinds {
		c.mu.Lock()
		r := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: kind.url, InitialResourceVersions: maps.Clone(m.has[kind.url])}
		c.mu.Unlock()
		node = nil // it is said once
		for _, target := range c.targets {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, environment+"/"+target+kind.suffix)
		}
		if err := stream.Send(r); err != nil {
			_, err = stream.Recv() // which says why
			return err
		}
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := c.take(m, r); err != nil {
			return err
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
			return err
		}
	}
}

func (c *crowd) take(m *member, r *discoveryv3.DeltaDiscoveryResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.stands = true
	has := m.has[r.TypeUrl]
	if has == nil {
		has = make(map[string]string)
		m.has[r.TypeUrl] = has
	}
	for _, res := range r.Resources {
		v := version{r.TypeUrl, res.Name, res.Version}
		if c.messages[v] == nil {
			message, err := decode(v, res.GetResource().GetValue())
			if err != nil {
				return err
			}
			c.messages[v] = message
		}
		has[res.Name] = res.Version
	}
	for _, name := range r.RemovedResources {
		delete(has, name)
	}
	return nil
}

// decode reads a resource, whose place in its message's own fields the name has.
func decode(v version, value []byte) (proto.Message, error) {
	names := strings.Split(v.name, "/")
	if len(names) < 2 {
		return nil, fmt.Errorf("a resource is called %q", v.name)
	}
	var m proto.Message
	switch v.url {
	case crowdKinds[0].url:
		m = &resourcev1.Endpoint{}
	case crowdKinds[1].url:
		m = &resourcev1.ServicePolicy{}
	case crowdKinds[2].url:
		m = &resourcev1.AuthPolicy{}
	default:
		m = &resourcev1.MeshSwitch{}
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("resource %q: %w", v.name, err)
	}
	switch m := m.(type) {
	case *resourcev1.Endpoint:
		m.Target, m.Instance = names[1], names[len(names)-1]
	case *resourcev1.ServicePolicy:
		m.Target = names[1]
	case *resourcev1.AuthPolicy:
		m.Target = names[1]
	}
	return m, nil
}

// lags says in what members do not go by what they should, "" if in nothing.
func (c *crowd) lags(want *resourcev1.Snapshot) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	right := make(map[string]map[string]proto.Message)
	for i, list := range []map[string]proto.Message{byName(want.Endpoints), byName(want.Policies), byName(want.AuthPolicies)} {
		right[crowdKinds[i].url] = list
	}
	good := make(map[version]bool) // what was compared
	behind, text := 0, ""
	for _, m := range c.members {
		if d := c.lacks(m, right, good); d != "" {
			behind++
			text = d
		}
	}
	if behind == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d of %d are behind; %s; the last stream that ended: %v", c.name, behind, len(c.members), text, c.last)
}

// lacks says in what one does not. good has versions that were found to be right, or not.
func (c *crowd) lacks(m *member, right map[string]map[string]proto.Message, good map[version]bool) string {
	if !m.stands {
		return m.id + " has no stream"
	}
	for url, want := range right {
		n := 0
		for name, v := range m.has[url] {
			at := version{url, name, v}
			message := c.messages[at]
			if e, ok := message.(*resourcev1.Endpoint); ok && e.Standing == resourcev1.Standing_STANDING_LEFT {
				continue // it says that there is none
			}
			is, known := good[at]
			if !known {
				_, local, _ := strings.Cut(name, "/")
				is = proto.Equal(message, want[local])
				good[at] = is
			}
			if !is {
				return fmt.Sprintf("%s has %s %v", m.id, name, message)
			}
			n++
		}
		if n < len(want) {
			return fmt.Sprintf("%s has %d of %d resources %s", m.id, n, len(want), url)
		}
	}
	return ""
}
