package push_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Types of the xDS protocol.
var (
	cds = resource.KindCluster.TypeURL()
	eds = resource.KindLoadAssignment.TypeURL()
	lds = resource.KindListener.TypeURL()
	rds = resource.KindRouteConfiguration.TypeURL()
)

// has makes a target known: with instances that speak gRPC at ports of one address, and with a policy.
func (p *pilot) has(target string, policy *resourcev1.ServicePolicy, ports ...int) {
	p.t.Helper()
	endpoints := make(map[string]snapshot.Entry)
	for _, port := range ports {
		name := fmt.Sprint("i", port)
		endpoints[name] = p.speaks(target, name, port)
	}
	p.Cache.Load(p.Topic(resource.KindEndpoint, target), endpoints)
	p.Cache.Load(p.Topic(resource.KindServicePolicy, target), nil)
	if policy != nil {
		p.Set(resource.KindServicePolicy, target, "", policy)
	}
}

func (p *pilot) speaks(target, name string, port int) snapshot.Entry {
	p.t.Helper()
	r, err := snapshot.New(p.Topic(resource.KindEndpoint, target), name, &resourcev1.Endpoint{
		DirectAddress: fmt.Sprintf("10.0.0.1:%d", port), DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return snapshot.Entry{Stable: r}
}

func (p *pilot) joins(target string, port int) {
	p.t.Helper()
	name := fmt.Sprint("i", port)
	p.Cache.Set(p.Topic(resource.KindEndpoint, target), name, p.speaks(target, name, port))
}

// leads is a policy with one route to other targets.
func leads(targets ...string) *resourcev1.ServicePolicy {
	r := &resourcev1.Route{Name: "r"}
	for _, target := range targets {
		r.Destinations = append(r.Destinations, &resourcev1.Destination{Target: target})
	}
	return &resourcev1.ServicePolicy{Routes: []*resourcev1.Route{r}}
}

// stocker is a stock client's stream, of either variant of the protocol.
type stocker interface {
	// ask asks for names, and no others from then on, in answer to a response; "": to none.
	ask(kind, nonce string, names ...string)
	// refuse does not take a response.
	refuse(a answer, names ...string)
	// next takes a response, and does not acknowledge it.
	next() answer
	// end ends the stream.
	end()
}

// answer is a response.
type answer struct {
	kind, nonce, version string
	// text is what is told, in words, and with "-" before it what is removed.
	text string
}

// words describe a resource.
func words(t *testing.T, a *anypb.Any) string {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		return m.Name
	case *listenerv3.Listener:
		return m.Name
	case *endpointv3.ClusterLoadAssignment:
		var ports []string
		for _, l := range m.Endpoints {
			for _, e := range l.LbEndpoints {
				ports = append(ports, fmt.Sprint(e.GetEndpoint().Address.GetSocketAddress().GetPortValue()))
			}
		}
		return m.ClusterName + ":" + strings.Join(ports, ",")
	case *routev3.RouteConfiguration:
		var to []string
		for _, v := range m.VirtualHosts {
			for _, r := range v.Routes {
				to = append(to, v.Name+">"+r.GetRoute().GetCluster())
			}
		}
		return m.Name + ":" + strings.Join(to, ",")
	}
	t.Fatalf("%T", m)
	return ""
}

func nodeOf(t *testing.T, targets []string) *corev3.Node {
	t.Helper()
	n := &corev3.Node{Id: "s1", Cluster: "prod"}
	if len(targets) > 0 {
		var all []any
		for _, target := range targets {
			all = append(all, target)
		}
		m, err := structpb.NewStruct(map[string]any{"octo.targets": all})
		if err != nil {
			t.Fatal(err)
		}
		n.Metadata = m
	}
	return n
}

// stateClient speaks the variant whose responses are the whole state.
type stateClient struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	stop   context.CancelFunc
	node   *corev3.Node
}

func (p *pilot) state(t *testing.T, targets ...string) *stateClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.Conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &stateClient{t, s, cancel, nodeOf(t, targets)}
}

func (c *stateClient) send(r *discoveryv3.DiscoveryRequest) {
	c.t.Helper()
	r.Node, c.node = c.node, nil
	if err := c.stream.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c *stateClient) ask(kind, nonce string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: kind, ResponseNonce: nonce, ResourceNames: names})
}

func (c *stateClient) refuse(a answer, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: a.kind, ResponseNonce: a.nonce, ResourceNames: names, ErrorDetail: &rpcstatus.Status{Message: "I cannot"}})
}

func (c *stateClient) next() answer {
	c.t.Helper()
	r, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for _, one := range r.Resources {
		all = append(all, words(c.t, one))
	}
	return answer{r.TypeUrl, r.Nonce, r.VersionInfo, strings.Join(all, " ")}
}

func (c *stateClient) end() { c.stop() }

// deltaClient speaks the variant whose responses are what is new.
type deltaClient struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	stop   context.CancelFunc
	node   *corev3.Node
	asked  map[string][]string          // names, by type
	has    map[string]map[string]string // versions, by type and name
}

func (p *pilot) delta(t *testing.T, targets ...string) *deltaClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.Conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &deltaClient{t, s, cancel, nodeOf(t, targets), make(map[string][]string), make(map[string]map[string]string)}
}

func (c *deltaClient) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.Node, c.node = c.node, nil
	if err := c.stream.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c *deltaClient) ask(kind, nonce string, names ...string) {
	c.t.Helper()
	before := c.asked[kind]
	c.asked[kind] = names
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind, ResponseNonce: nonce}
	r.ResourceNamesSubscribe, r.ResourceNamesUnsubscribe = without(names, before), without(before, names)
	if before == nil {
		r.InitialResourceVersions = c.has[kind]
	}
	c.send(r)
}

func without(names, others []string) (out []string) {
	for _, name := range names {
		if !strings.Contains(" "+strings.Join(others, " ")+" ", " "+name+" ") {
			out = append(out, name)
		}
	}
	return out
}

func (c *deltaClient) refuse(a answer, _ ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: a.kind, ResponseNonce: a.nonce, ErrorDetail: &rpcstatus.Status{Message: "I cannot"}})
}

func (c *deltaClient) next() answer {
	c.t.Helper()
	r, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	if c.has[r.TypeUrl] == nil {
		c.has[r.TypeUrl] = make(map[string]string)
	}
	var all []string
	for _, one := range r.Resources {
		all = append(all, words(c.t, one.Resource))
		c.has[r.TypeUrl][one.Name] = one.Version
	}
	for _, name := range r.RemovedResources {
		all = append(all, "-"+name)
		delete(c.has[r.TypeUrl], name)
	}
	return answer{kind: r.TypeUrl, nonce: r.Nonce, text: strings.Join(all, " ")}
}

func (c *deltaClient) end() { c.stop() }

// short is a type's name in a few letters.
var short = map[string]string{cds: "CDS", eds: "EDS", lds: "LDS", rds: "RDS"}

// says checks the next response. asked is what the acknowledgement goes on to ask for; nil: it is not acknowledged. What is asked
// for and becomes known bit by bit may come bit by bit.
func says(t *testing.T, c stocker, want string, asked ...string) answer {
	t.Helper()
	for got := ""; ; {
		a := c.next()
		if got == "" {
			got = short[a.kind]
		}
		got = strings.TrimSpace(got + " " + a.text)
		if got != want && (asked == nil || !strings.HasPrefix(want, got)) {
			t.Fatalf("told %q, want %q", got, want)
		}
		if asked != nil {
			c.ask(a.kind, a.nonce, asked...)
		}
		if got == want {
			return a
		}
	}
}

// await waits until something is so.
func await(t *testing.T, is func() bool) {
	t.Helper()
	for late := time.Now().Add(long); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it did not come")
		}
	}
}

// both runs a test with each variant of the protocol.
func both(t *testing.T, test func(t *testing.T, p *pilot, c func(targets ...string) stocker)) {
	t.Helper()
	t.Run("state", func(t *testing.T) {
		p := start(t, push.Config{})
		test(t, p, func(targets ...string) stocker { return p.state(t, targets...) })
	})
	t.Run("delta", func(t *testing.T) {
		p := start(t, push.Config{})
		test(t, p, func(targets ...string) stocker { return p.delta(t, targets...) })
	})
}

// TestAStockClientFindsItsWay goes as gRPC does: from the listener to the endpoints, and on with what changes.
func TestAStockClientFindsItsWay(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", leads("mail"), 80)
		p.has("mail", nil, 90)
		c := open()
		c.ask(lds, "", "cart")
		says(t, c, "LDS cart", "cart")
		c.ask(rds, "", "cart")
		says(t, c, "RDS cart:cart>mail,cart>cart", "cart")
		c.ask(cds, "", "cart", "mail")
		says(t, c, "CDS cart mail", "cart", "mail")
		c.ask(eds, "", "cart", "mail")
		says(t, c, "EDS cart:80 mail:90", "cart", "mail")

		p.joins("mail", 91)
		says(t, c, "EDS mail:90,91", "cart", "mail")
		p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Routes: leads("mail").Routes, MaxTimeout: nil, DirectForbidden: true})
		says(t, c, "EDS cart:", "cart", "mail")
	})
}

// TestAChangedClusterComesWithItsEndpoints: Envoy waits for them, and does not ask.
func TestAChangedClusterComesWithItsEndpoints(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", nil, 80)
		c := open()
		c.ask(cds, "", "cart")
		says(t, c, "CDS cart", "cart")
		c.ask(eds, "", "cart")
		says(t, c, "EDS cart:80", "cart")
		p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 7}})
		says(t, c, "CDS cart", "cart")
		says(t, c, "EDS cart:80", "cart")
	})
}

// TestClustersComeFirstAndGoLast: nothing leads to a cluster that is not there.
func TestClustersComeFirstAndGoLast(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", leads("mail"), 80)
		p.has("mail", nil, 90)
		p.has("stock", nil, 70)
		c := open("cart")
		c.ask(cds, "")
		a := says(t, c, "CDS cart mail")
		c.ask(rds, "", "cart")
		c.ask(cds, a.nonce)
		a = says(t, c, "RDS cart:cart>mail,cart>cart")
		p.Set(resource.KindServicePolicy, "cart", "", leads("stock"))
		c.ask(rds, a.nonce, "cart")
		_, delta := c.(*deltaClient)
		if delta {
			a = says(t, c, "CDS stock")
		} else {
			a = says(t, c, "CDS cart mail stock")
		}
		c.ask(cds, a.nonce)
		says(t, c, "RDS cart:cart>stock,cart>cart", "cart")
		if delta {
			says(t, c, "CDS -mail")
		} else {
			says(t, c, "CDS cart stock")
		}
	})
}

// TestRoutesWaitForClustersAndEndpointsDoNot: Envoy acknowledges clusters when it has their endpoints.
func TestRoutesWaitForClustersAndEndpointsDoNot(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", nil, 80)
		c := open("cart")
		c.ask(cds, "")
		clusters := says(t, c, "CDS cart")
		c.ask(rds, "", "cart")
		c.ask(eds, "", "cart")
		endpoints := says(t, c, "EDS cart:80")
		c.ask(eds, endpoints.nonce, "cart")
		p.joins("cart", 81)
		endpoints = says(t, c, "EDS cart:80,81") // also the next ones, and still no routes
		c.ask(cds, clusters.nonce)
		says(t, c, "RDS cart:cart>cart", "cart")
		c.ask(eds, endpoints.nonce, "cart")
	})
}

// TestWhatIsNotThereIsSaidAndRemembered by the variant that can; it comes when it is there.
func TestWhatIsNotThereIsSaidAndRemembered(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("nobody", nil)
		c := open()
		c.ask(lds, "", "nobody", "no/such?name", "a b")
		first := c.next()
		if _, delta := c.(*deltaClient); delta {
			for range 3 { // they become known one after the other
				if strings.Count(first.text, "-") == 3 {
					break
				}
				c.ask(lds, first.nonce, "nobody", "no/such?name", "a b")
				more := c.next()
				first = answer{more.kind, more.nonce, "", first.text + " " + more.text}
			}
			if strings.Count(first.text, "-") != 3 || strings.Contains(first.text, " n") {
				t.Fatal(first)
			}
		} else if first.text != "" {
			t.Fatal(first)
		}
		c.ask(lds, first.nonce, "nobody", "no/such?name", "a b")
		p.joins("nobody", 80)
		says(t, c, "LDS nobody", "nobody", "no/such?name", "a b")
		p.Cache.Load(p.Topic(resource.KindEndpoint, "nobody"), nil)
		if _, delta := c.(*deltaClient); delta {
			says(t, c, "LDS -nobody")
		} else {
			says(t, c, "LDS")
		}
	})
}

// TestEachNewNameIsAnswered also with a stale nonce and also one that was asked for before; an acknowledgement is not.
func TestEachNewNameIsAnswered(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", nil, 80)
		p.has("mail", nil, 90)
		c := open()
		c.ask(eds, "", "cart")
		a := says(t, c, "EDS cart:80")
		c.ask(eds, "stale", "cart", "mail")
		c.ask(eds, a.nonce, "cart", "mail")
		says(t, c, "EDS mail:90", "cart", "mail")
		c.ask(eds, "", "mail")
		c.ask(eds, "", "cart", "mail") // again
		says(t, c, "EDS cart:80", "cart", "mail")
		p.joins("mail", 91)
		says(t, c, "EDS mail:90,91", "cart", "mail")
	})
}

// TestARefusedResponseIsCountedAndNotRepeated: the client keeps what it had, and is told the next version.
func TestARefusedResponseIsCountedAndNotRepeated(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", nil, 80)
		c := open()
		c.ask(eds, "", "cart")
		c.refuse(says(t, c, "EDS cart:80"), "cart")
		p.seen.await(t, "s1 refused cart: I cannot")
		p.joins("cart", 81)
		says(t, c, "EDS cart:80,81", "cart")
		if s := p.Server.Stats(); s.StockRefusals != 1 || s.Refusals != 1 || s.Stock != 1 || s.Streams != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAResponseOfTheStateHasAll clusters, since clients take one for gone that is not in it; endpoints that have not changed
// are not repeated.
func TestAResponseOfTheStateHasAll(t *testing.T) {
	p := start(t, push.Config{})
	p.has("cart", nil, 80)
	p.has("mail", nil, 90)
	c := p.state(t)
	c.ask(cds, "", "cart", "mail")
	a := says(t, c, "CDS cart mail", "cart", "mail")
	p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 7}})
	b := says(t, c, "CDS cart mail", "cart")
	if a.version == b.version {
		t.Error("both have the same version")
	}
	p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 8}})
	says(t, c, "CDS cart", []string{}...)
	c.ask(cds, "") // nothing any more, and not everything
	p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 9}})
	c.ask(eds, "", "cart")

	other := start(t, push.Config{}) // another Pilot says the same of the same
	other.has("cart", nil, 80)
	other.has("mail", nil, 90)
	o := other.state(t)
	o.ask(cds, "", "mail", "cart")
	if again := says(t, o, "CDS cart mail"); again.version != a.version {
		t.Errorf("versions %q and %q", a.version, again.version)
	}
}

// TestAStateIsNotSaidBeforeItIsKnown: a Pilot that has just started does not take away what its clients have.
func TestAStateIsNotSaidBeforeItIsKnown(t *testing.T) {
	p := start(t, push.Config{})
	p.has("cart", nil, 80)
	c := p.state(t)
	c.ask(cds, "", "cart", "mail")
	c.ask(lds, "", "cart") // is known, and comes before
	says(t, c, "LDS cart", "cart")
	c.ask(eds, "", "cart")
	says(t, c, "EDS cart:80", "cart")
	p.has("mail", nil, 90)
	a := says(t, c, "CDS cart mail")
	says(t, c, "EDS cart:80", "cart")           // after its cluster, too
	c.ask(cds, a.nonce, "cart", "mail", "late") // what the client does not know cannot be taken away
	p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 8}})
	says(t, c, "CDS cart mail")
}

// TestAReturningStockClientIsToldTheDifference by the variant that says what it has.
func TestAReturningStockClientIsToldTheDifference(t *testing.T) {
	p := start(t, push.Config{})
	p.has("cart", nil, 80)
	p.has("mail", nil, 90)
	c := p.delta(t, "cart", "mail")
	c.ask(cds, "")
	says(t, c, "CDS cart mail")
	c.end()
	other := p.delta(t)
	other.ask(cds, "", "cart")
	says(t, other, "CDS cart", "cart")
	p.Set(resource.KindServicePolicy, "cart", "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 8}})
	says(t, other, "CDS cart") // by now it is known of all
	again := p.delta(t, "cart", "mail")
	again.has = c.has
	again.has[cds]["gone"] = "1"
	again.ask(cds, "")
	says(t, again, "CDS cart", []string{}...)
	if a := again.next(); a.text != "-gone" {
		t.Fatal(a)
	}
}

// TestEverythingIsWhatTheNodeLists: names that stand for all go by the list in the node's metadata.
func TestEverythingIsWhatTheNodeLists(t *testing.T) {
	both(t, func(t *testing.T, p *pilot, open func(...string) stocker) {
		p.has("cart", nil, 80)
		p.has("mail", nil, 90)
		p.has("stock", nil, 70)
		p.has("never", nil)
		c := open("mail", "cart", "never")
		c.ask(lds, "")
		says(t, c, "LDS", []string{}...)
		c.ask(cds, "")
		says(t, c, "CDS cart mail", []string{}...)
		c.ask(rds, "", "_targets")
		says(t, c, "RDS _targets:cart>cart,mail>mail", "_targets")
		p.joins("never", 60)
		if _, delta := c.(*deltaClient); delta {
			says(t, c, "CDS never", []string{}...)
		} else {
			says(t, c, "CDS cart mail never", []string{}...)
		}
		says(t, c, "RDS _targets:cart>cart,mail>mail,never>never", "_targets")

		none := open()
		none.ask(cds, "")
		says(t, none, "CDS", []string{}...)
	})
}

func TestBadStockStreamsEndWithAReason(t *testing.T) {
	p := start(t, push.Config{Topics: 2})
	own := resource.KindEndpoint.TypeURL()
	for name, c := range map[string]struct {
		node *corev3.Node
		r    []*discoveryv3.DiscoveryRequest
		code codes.Code
		says string
	}{
		"our own kinds":     {r: []*discoveryv3.DiscoveryRequest{{TypeUrl: own, ResourceNames: []string{"prod/cart/*"}}}, code: codes.InvalidArgument, says: "not served"},
		"our own kinds too": {r: []*discoveryv3.DiscoveryRequest{{TypeUrl: lds, ResourceNames: []string{"a"}}, {TypeUrl: own}}, code: codes.InvalidArgument, says: "not served"},
		"too many names":    {r: []*discoveryv3.DiscoveryRequest{{TypeUrl: lds, ResourceNames: []string{"a", "b", "c"}}}, code: codes.ResourceExhausted, says: "2 topics"},
		"a long name":       {r: []*discoveryv3.DiscoveryRequest{{TypeUrl: lds, ResourceNames: []string{strings.Repeat("a", 5000)}}}, code: codes.InvalidArgument, says: "too long"},
		"no environment":    {node: &corev3.Node{Id: "s1"}, r: []*discoveryv3.DiscoveryRequest{{TypeUrl: lds}}, code: codes.InvalidArgument, says: "environment"},
		"a bad target":      {node: nodeOf(t, []string{"a b"}), r: []*discoveryv3.DiscoveryRequest{{TypeUrl: cds}}, code: codes.InvalidArgument, says: "no target"},
		"too many targets":  {node: nodeOf(t, strings.Split(strings.Repeat("a ", 1000)+"a", " ")), r: []*discoveryv3.DiscoveryRequest{{TypeUrl: cds}}, code: codes.InvalidArgument, says: "1001"},
		"a bad zone":        {node: &corev3.Node{Id: "s1", Cluster: "prod", Locality: &corev3.Locality{Zone: "a b"}}, r: []*discoveryv3.DiscoveryRequest{{TypeUrl: cds}}, code: codes.InvalidArgument, says: "zone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := p.state(t)
			if c.node != nil {
				s.node = c.node
			}
			for _, r := range c.r {
				s.send(r)
			}
			for {
				_, err := s.stream.Recv()
				if err == nil {
					continue // what came before
				}
				if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
					t.Fatal(err)
				}
				return
			}
		})
	}
	await(t, func() bool { _, followings := p.Cache.Topics(); return followings == 0 })
}

// TestStockClientsOfEnvironmentsAndZonesDoNotMix.
func TestStockClientsOfEnvironmentsAndZonesDoNotMix(t *testing.T) {
	p := start(t, push.Config{})
	p.has("cart", &resourcev1.ServicePolicy{Balancing: &resourcev1.Balancing{LocalityFirst: true}}, 80)
	near := resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "cart"}
	e, err := snapshot.New(near, "near", &resourcev1.Endpoint{DirectAddress: "10.0.0.1:99", DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC, Zone: "z"})
	if err != nil {
		t.Fatal(err)
	}
	p.Cache.Set(near, "near", snapshot.Entry{Stable: e})
	for zone, want := range map[string]string{"": "EDS cart:80,99", "z": "EDS cart:99,80"} {
		c := p.state(t)
		c.node.Locality = &corev3.Locality{Zone: zone}
		c.ask(eds, "", "cart")
		says(t, c, want)
	}
	test := resource.Topic{Kind: resource.KindEndpoint, Environment: "test", Target: "cart"}
	p.Cache.Load(test, nil)
	p.Cache.Load(resource.Topic{Kind: resource.KindServicePolicy, Environment: "test", Target: "cart"}, nil)
	c := p.state(t)
	c.node.Cluster = "test"
	c.ask(cds, "", "cart")
	says(t, c, "CDS")
}
