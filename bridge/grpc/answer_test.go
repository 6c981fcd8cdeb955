package grpc_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// answered is the response that a server's header list makes, which is its first and its last.
func answered(t *testing.T, fields ...string) *wire.ResponseHead {
	t.Helper()
	e := newEnd(t, wire.Dialer)
	e.call(wire.RequestHead{Service: []byte("s"), Method: []byte("m")}, wire.FlagMessage|wire.FlagEnd, "x")
	e.headers(1, true, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
	e.feed()
	h := &wire.ResponseHead{}
	if len(e.events) != 1 || h.Parse(e.events[0].Frame.Head) != nil {
		t.Fatalf("told was %v", e.events)
	}
	return h
}

func TestCodesOfServersPassWhateverTheyAre(t *testing.T) {
	for text, want := range map[string]wire.Code{
		"0": 0, "16": 16, "17": 17, "2147483647": 2147483647, "-1": -1, "-2147483648": -2147483648,
		"4294967295": -1, "2147483648": -2147483648, // as grpc-go writes them
		"4294967296": wire.Unknown, "x": wire.Unknown, "": wire.Unknown, "99999999999999999999": wire.Unknown,
	} {
		if got := answered(t, "grpc-status", text).Status.Code; got != want {
			t.Errorf("grpc-status %q is code %d, want %d", text, got, want)
		}
	}
}

func TestEmptyBinaryValuesOfServersPass(t *testing.T) {
	h := answered(t, "grpc-status", "0", "none-bin", "", "two-bin", "AA,,AQ==", "empty", "")
	same(t, "trailers", fmt.Sprintf("%q", entries(h.Trailers)), `["none-bin=" "two-bin=\x00" "two-bin=" "two-bin=\x01" "empty="]`)
}

// The server keeps the deadline too, and its clock may be a moment before the proxy's sweep.
func TestADeadlineOfTheMeshEndsAStockServersCallAsOne(t *testing.T) {
	var deadlines, cancelled int
	s := startStock(t, func(ctx context.Context, _ *msg) (*msg, error) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	})
	m := startServed(t, s.address)
	m.registered(t, true)
	if err := m.client.Publish(&resourcev1.Snapshot{
		Policies:  []*resourcev1.ServicePolicy{{Target: target, MaxTimeout: durationpb.New(50 * time.Millisecond)}},
		Endpoints: []*resourcev1.Endpoint{{Target: target, Instance: "thing-0", MeshAddress: m.servers[0].Address}},
	}); err != nil {
		t.Fatal(err)
	}
	cc := dial(t, "unix:"+m.client.Socket, nil)
	for range 20 {
		_, err := do(within(t), cc, nil)
		switch status.Code(err) {
		case codes.DeadlineExceeded:
			deadlines++
		case codes.Canceled:
			cancelled++
		}
	}
	if deadlines != 20 {
		t.Errorf("%d calls ended by the deadline, %d as cancelled", deadlines, cancelled)
	}
}
