package push_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// large is an endpoint of about 20 KiB.
func large(t testing.TB, name string, version int) snapshot.Entry {
	t.Helper()
	return pilottest.Entry(t, stock, name, &resourcev1.Endpoint{
		MeshAddress: fmt.Sprintf("10.0.0.1:%d", version), Tags: map[string]string{"x": strings.Repeat("x", 20<<10)},
	})
}

// TestASlowConsumerHoldsOneResponseAndHarmsNobody is row 14 of the fault table: what waits for one that reads nothing is
// one response of at most 1 MiB and a name for each resource that has changed, and all the others hear of each change.
func TestASlowConsumerHoldsOneResponseAndHarmsNobody(t *testing.T) {
	const instances, changes = 200, 1000
	p := start(t, push.Config{})
	first := make(map[string]snapshot.Entry)
	for n := range instances {
		first[fmt.Sprint("s", n)] = large(t, fmt.Sprint("s", n), 1)
	}
	p.Cache.Load(stock, first)
	slow := p.client("slow")
	slow.send(subscribe("prod/stock/*"))
	others := []*client{p.client("n1"), p.client("n2")}
	for _, c := range others {
		c.send(subscribe("prod/stock/*"))
		for len(c.has) < instances {
			c.ack(c.receive())
		}
	}
	final := make(map[string]string)
	most := 0
	for n := range changes {
		name := fmt.Sprint("s", n%instances)
		e := large(t, name, 2+n)
		final["prod/stock/"+name] = e.Stable.Version
		p.Cache.Set(stock, name, e)
		for _, c := range others {
			r := c.receive()
			c.ack(r)
			if told(r) != "+prod/stock/"+name || r.Resources[0].Version != e.Stable.Version {
				t.Fatalf("change %d: told %q", n, told(r))
			}
		}
		most = max(most, p.Server.Stats().LargestOpen)
	}
	if s := p.Server.Stats(); s.Largest < most || s.Largest > push.MaxResponse {
		t.Errorf("%d bytes at most are said to have waited, and %d were seen", s.Largest, most)
	} else if most > push.MaxResponse || most < push.MaxResponse/2 || s.Coalesced < changes-2*instances {
		t.Fatalf("%d bytes wait for one stream, want at most %d and nearly that; %d changes are merged with newer ones", most, push.MaxResponse, s.Coalesced)
	}
	read := 0
	for has(slow.has, final) < instances { // it reads at last
		r := slow.receive()
		read += len(r.Resources)
		slow.ack(r)
	}
	if read > 2*instances {
		t.Errorf("the slow one was told %d resources, of %d", read, instances)
	}
}

// has counts what there is in the version that is wanted.
func has(got, want map[string]string) (n int) {
	for name, version := range want {
		if got[name] == version {
			n++
		}
	}
	return n
}

func TestAServerWithoutTheOptionsSaysSo(t *testing.T) {
	p := pilottest.Start(t, "prod", push.Config{}, grpc.EmptyServerOption{})
	c := (&pilot{Pilot: p, t: t}).client("n1") // which has not said anything yet
	if err := c.fails(); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "ServerOptions") {
		t.Fatal(err)
	}
}

func TestStreamsThatShareAConnectionAreAllTold(t *testing.T) {
	p := start(t, push.Config{AckWithin: time.Minute})
	topics := make([]resource.Topic, 3)
	for n := range topics {
		topics[n] = resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: fmt.Sprint("t", n)}
		p.Cache.Load(topics[n], map[string]snapshot.Entry{"s1": entryOf(t, topics[n], "s1", 1)})
	}
	conn := p.Listen(t)
	var all []*client
	for n := range 60 {
		c := p.clientOver(conn, fmt.Sprint("n", n))
		c.send(subscribe(topics[n%3].Name()))
		c.ack(c.receive())
		all = append(all, c)
	}
	for version := 2; version < 50; version++ {
		for _, topic := range topics {
			p.Cache.Set(topic, "s1", entryOf(t, topic, "s1", version))
		}
		for n, c := range all {
			r := c.receive()
			c.ack(r)
			if want := entryOf(t, topics[n%3], "s1", version).Stable.Version; r.Resources[0].Version != want {
				t.Fatalf("stream %d has %q, want %q", n, r.Resources[0].Version, want)
			}
		}
	}
}
