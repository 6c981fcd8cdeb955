package mount_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/resource"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestAProxyThatLeavesSendsItsWatchersToItsSuccessor(t *testing.T) {
	t.Parallel()
	p, err := meshtest.StartProxy(t.TempDir(), proxy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{dial: octomesh.WithSocket(p.Socket)}
	stream, err := s.client(t).Watch(within(t), &directoryv1.WatchRequest{Target: "stock"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan int, 1)
	go func() { gone <- p.Drain(context.Background()) }()
	_, err = stream.Receive()
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Reason != octomesh.ReasonProxyDraining || e.Disposition != octomesh.DispositionProcessed {
		t.Fatal(err)
	}
	if cut := <-gone; cut != 0 {
		t.Fatalf("%d calls were cut off", cut)
	}
}

// saved is a proxy whose states are kept in dir.
func saved(t *testing.T, dir string, pilot grpc.ClientConnInterface) *meshtest.Proxy {
	t.Helper()
	p, err := meshtest.StartProxy(t.TempDir(), proxy.Config{Source: control.New(control.Config{
		Environment: meshtest.Environment, Instance: "p1", Pilots: []grpc.ClientConnInterface{pilot}, Dir: dir, Log: slog.New(slog.DiscardHandler),
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestAProxyWithoutAPilotShowsWhatIsOnItsDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pilot := pilottest.Start(t, meshtest.Environment, push.Config{})
	pilot.Load("stock", nil)
	pilot.Set(resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{DirectAddress: "h:1"})
	pilot.Set(resource.KindMeshSwitch, "stock", resource.EveryApplication, &resourcev1.MeshSwitch{Permille: 7, Revision: 2})
	first := saved(t, dir, pilot.Conn)
	watch := func(p *meshtest.Proxy) *directoryv1.WatchResponse {
		stream, err := (&side{dial: octomesh.WithSocket(p.Socket)}).client(t).Watch(within(t), &directoryv1.WatchRequest{Target: "stock"})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		return awaitText(t, stream, "PRESENT s1=h:1*100 mesh=7@2")
	}
	watch(first)
	first.Close()
	nobody, err := grpc.NewClient("passthrough:nobody", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }))
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if r := watch(saved(t, dir, nobody)); r.Source != directoryv1.WatchResponse_SOURCE_PROXY {
		t.Fatal(r)
	}
}

func TestAThousandWatchersOverTCP(t *testing.T) {
	t.Parallel()
	s := startRole(t)
	s.load("stock")
	var all []*octomesh.ReceiveStream[directoryv1.WatchResponse]
	turnedAway := 0
	for i := range 10 { // 200 are let in by each connection
		c := s.client(t, octomesh.WithInstance(fmt.Sprint("shop-", i)))
		for range 210 {
			stream, err := c.Watch(within(t), &directoryv1.WatchRequest{Target: "stock"})
			if err == nil {
				_, err = stream.Receive()
			}
			var e *octomesh.Error
			switch {
			case err == nil:
				all = append(all, stream)
			case errors.As(err, &e) && e.Code == octomesh.ResourceExhausted && e.RetryAfter > 0:
				turnedAway++
			default:
				t.Fatal(err)
			}
		}
	}
	if len(all) != 2000 || turnedAway != 100 {
		t.Fatalf("%d watch, %d were turned away", len(all), turnedAway)
	}
	s.set(t, resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{DirectAddress: "h:1"})
	for _, stream := range all {
		awaitText(t, stream, "PRESENT s1=h:1*100")
	}
	if _, followings := s.cache.Topics(); followings != 4 {
		t.Fatalf("the cache is followed %d times for one target", followings)
	}
}
