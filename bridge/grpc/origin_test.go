package grpc_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// refused calls once, and that must be refused so, by whom and why it says.
func refused(t *testing.T, cc *grpc.ClientConn, path string, code codes.Code, origin, reason, message string) {
	t.Helper()
	var header, trailer metadata.MD
	err := cc.Invoke(within(t), path, &msg{}, &msg{}, grpc.Header(&header), grpc.Trailer(&trailer))
	got := fmt.Sprint(status.Code(err), trailer.Get("octo-origin"), trailer.Get("octo-reason"), " ", status.Convert(err).Message())
	if want := fmt.Sprint(code, []string{origin}, []string{reason}, " ", message); got != want {
		t.Errorf("it is refused\n %s, want\n %s", got, want)
	}
}

// TestRefusalsSayWhoRefusesAndWhy: for each failure of the mesh's own a stock client learns code, origin and reason.
func TestRefusalsSayWhoRefusesAndWhy(t *testing.T) {
	m := startMesh(t, nil)
	cc := dial(t, m.tcp, nil)
	in, release := make(chan struct{}), make(chan struct{})

	// Nobody is there yet: the server's proxy says it.
	refused(t, cc, path("Do"), codes.Unavailable, "server-proxy", "PROXY_UNREADY", "no instance of the target is attached here")
	m.serve(t, thing{do: func(ctx context.Context, what *msg) (*msg, error) {
		if string(what.Value) == "wait" {
			close(in)
			<-release
		}
		return what, nil
	}})
	if _, err := do(within(t), cc, nil); err != nil {
		t.Fatal(err)
	}

	// No route: all that there is is known.
	refused(t, cc, "/octo.test.v1.Nobody/Do", codes.Unimplemented, "client-proxy", "UNKNOWN_TARGET", "no such target: nobody")
	// Who is called knows no such method.
	refused(t, cc, path("Never"), codes.Unimplemented, "server-sdk", "UNKNOWN_METHOD", `service octo.test.v1.Thing has no method "Never"`)

	// A limit.
	endpoints := []*resourcev1.Endpoint{{Target: target, Instance: "a", MeshAddress: m.server.Address}}
	publish(t, m.client.Publish, &resourcev1.Snapshot{Endpoints: endpoints, Policies: []*resourcev1.ServicePolicy{{Target: target, Limits: &resourcev1.Limits{MaxOpenCalls: 1}}}})
	done := make(chan error, 1)
	go func() { _, err := do(within(t), cc, []byte("wait")); done <- err }()
	<-in
	refused(t, cc, path("Do"), codes.ResourceExhausted, "client-proxy", "OVERLOADED", "too many open calls to the target")
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// Who calls may not.
	publish(t, m.server.Publish, &resourcev1.Snapshot{AuthPolicies: []*resourcev1.AuthPolicy{{Target: target, Allow: []*resourcev1.AccessRule{{Name: "other", Callers: []string{"other"}}}}}})
	refused(t, cc, path("Do"), codes.PermissionDenied, "server-proxy", "AUTH_DENIED", "the caller may not call this")

	// No instance may take calls; none is reached.
	publish(t, m.client.Publish, &resourcev1.Snapshot{Policies: []*resourcev1.ServicePolicy{{Target: target}}})
	refused(t, cc, path("Do"), codes.Unavailable, "client-proxy", "NO_ENDPOINT", "no instance of the target may take calls")
	nowhere := loopback.Free(t)
	publish(t, m.client.Publish, &resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{{Target: target, Instance: "a", MeshAddress: nowhere}}})
	refused(t, cc, path("Do"), codes.Unavailable, "client-proxy", "PROXY_UNREACHABLE", "no connection to "+nowhere)
}

// TestAProxyThatKnowsNothingYetSaysSo: as long as it is not known what there is, no call is told that there is no such service.
func TestAProxyThatKnowsNothingYetSaysSo(t *testing.T) {
	p := startProxy(t, proxy.Config{Protocols: []session.Protocol{protocol()}})
	refused(t, dial(t, "unix:"+p.Socket, nil), path("Do"), codes.Unavailable, "client-proxy", "PROXY_UNREADY", "the proxy has no configuration yet")
}

func publish(t *testing.T, publish func(*resourcev1.Snapshot) error, s *resourcev1.Snapshot) {
	t.Helper()
	if err := publish(s); err != nil {
		t.Fatal(err)
	}
}
