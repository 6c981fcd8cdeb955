package proxyd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
)

// whyRefused is what a stock client learns of a call to a service: code, origin and reason.
func whyRefused(cc *grpc.ClientConn, service string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var trailer metadata.MD
	err := cc.Invoke(ctx, "/"+service+"/Once", &text{Value: "x"}, &text{}, grpc.Trailer(&trailer))
	return fmt.Sprintf("%v%v%v", status.Code(err), trailer.Get("octo-origin"), trailer.Get("octo-reason"))
}

const (
	notKnownYet = "Unavailable[client-proxy][PROXY_UNREADY]"
	thereIsNone = "Unimplemented[client-proxy][UNKNOWN_TARGET]"
)

// TestNoServiceIsCalledUnknownBeforeThePilotHasAnswered: clients take UNIMPLEMENTED for the last word, so it is said of a service only
// once it is known that there is none: not while no Pilot has answered about its target, however many calls wait for that.
func TestNoServiceIsCalledUnknownBeforeThePilotHasAnswered(t *testing.T) {
	t.Parallel()
	cache := snapshot.NewCache()
	loadEmpty(cache, "answered.Service")
	pilot, _ := servePilot(t, cache)
	launched := func(pilot string) func() *grpc.ClientConn {
		p := launchIn(t, t.TempDir(), "", fmt.Sprintf("control: {pilots: [%q]}\ngrpc: {application: stock}\n", pilot))
		return func() *grpc.ClientConn { return grpcClient(t, "unix:"+p.socket, insecure.NewCredentials()) }
	}
	dial, dialAlone := launched(pilot), launched(loopback.Free(t))
	cc := dial()
	if got := whyRefused(cc, "answered.Service"); got != thereIsNone {
		t.Fatalf("a service that the Pilot says does not exist is refused %s", got)
	}

	// More than may wait for one target: those beyond are refused at once, the others when they have waited.
	var wg sync.WaitGroup
	for _, cc := range []*grpc.ClientConn{dial(), dial()} {
		for range 600 {
			wg.Go(func() {
				if got := whyRefused(cc, "unanswered.Service"); got != notKnownYet {
					t.Errorf("a service about which the Pilot has not answered is refused %s", got)
				}
			})
		}
	}
	alone := dialAlone()
	wg.Go(func() {
		if got := whyRefused(alone, "answered.Service"); got != notKnownYet {
			t.Errorf("without a Pilot a service is refused %s", got)
		}
	})
	// A name that no target can have needs no Pilot.
	if got := whyRefused(alone, "no target/is called so"); got != thereIsNone {
		t.Errorf("a service that cannot be is refused %s", got)
	}
	wg.Wait()

	// A call that waits is told as soon as the Pilot answers, and so are those after it.
	said := make(chan string, 1)
	go func() { said <- whyRefused(cc, "unanswered.Service") }()
	loadEmpty(cache, "unanswered.Service")
	if got := <-said; got != thereIsNone {
		t.Errorf("when the Pilot answers that there is none, the service is refused %s", got)
	}
	if got := whyRefused(cc, "unanswered.Service"); got != thereIsNone {
		t.Errorf("after the Pilot has answered, the service is refused %s", got)
	}
}
