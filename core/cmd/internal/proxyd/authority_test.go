package proxyd

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// namedServer is a stock server that says who it is, and under which authority it was called.
func namedServer(t *testing.T, name string) (address string) {
	t.Helper()
	return serveStock(t, func(ctx context.Context, _ string) string {
		md, _ := metadata.FromIncomingContext(ctx)
		return fmt.Sprint(name, " as ", md.Get(":authority"))
	})
}

// under is a stock client that calls under an authority.
func under(t *testing.T, p *process, authority string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("unix:"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// answer is what such a client gets, or why it gets nothing.
func answer(t *testing.T, cc *grpc.ClientConn, md ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got := &text{}
	if err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, md...), "/"+echoService+"/Once", &text{}, got); err != nil {
		return status.Code(err).String()
	}
	return got.Value
}

const authorityLines = "grpc:\n  application: %s\n  targets: {octo.test.v1.Echo: red}\n  authorities: {red.example: red, \"Blue.Example\": blue, \"*.blue.example:81\": blue, gone.example: gone}\n"

// TestServersOfOneServiceAreToldApartByAuthority: two stock servers have the same service, and clients reach the one under whose
// name they call; who may call it, and in which lane, is what is said of its target.
func TestServersOfOneServiceAreToldApartByAuthority(t *testing.T) {
	server := launchIn(t, t.TempDir(), "auth_policies: [{target: blue, allow: [{name: web, callers: [shop.web]}]}]\n", fmt.Sprintf(
		"grpc: {servers: [{targets: [red], instance: red-1, address: %q}, {targets: [blue], instance: blue-1, address: %q}]}\n",
		namedServer(t, "red"), namedServer(t, "blue")))
	resources := fmt.Sprintf("endpoints:\n- {target: red, instance: red-1, mesh_address: %q}\n- {target: blue, instance: blue-1, mesh_address: %q}\n"+
		"- {target: red, instance: red-2, direct_address: %q, direct_protocol: PROTOCOL_GRPC, tags: {lane: green}}\n",
		server.inbound, server.inbound, namedServer(t, "green"))
	dir := t.TempDir()
	web := launchIn(t, dir, resources, fmt.Sprintf(authorityLines, "shop.web"))
	audit := launchIn(t, t.TempDir(), resources, fmt.Sprintf(authorityLines, "shop.audit"))

	for authority, want := range map[string]string{
		"red.example": "red", "red.example:443": "red", "RED.example": "red", "blue.example": "blue", "blue.example:8080": "blue", "a.blue.example:81": "blue",
		"a.blue.example": "red", "elsewhere.example": "red", // not named: by the service
	} {
		if got, want := answer(t, under(t, web, authority)), fmt.Sprintf("%s as [%s]", want, authority); got != want {
			t.Errorf("under %s: %q answers, want %q", authority, got, want)
		}
	}

	// What is said of a target holds under each of its names, and no name leads past it.
	for authority, want := range map[string]string{
		"red.example": "red as [red.example]", "blue.example": "PermissionDenied", "BLUE.example:1": "PermissionDenied", "x.blue.example:81": "PermissionDenied",
	} {
		if got := answer(t, under(t, audit, authority), "host", "red.example", "octo-target", "red", "octo-caller", "shop.web"); got != want {
			t.Errorf("who may not call blue gets %q under %s, want %q", got, authority, want)
		}
	}
	for authority, want := range map[string]string{"red.example": "green as [red.example]", "blue.example": "blue as [blue.example]"} {
		if got := answer(t, under(t, web, authority), "baggage", "lane=green"); got != want {
			t.Errorf("in a lane %q answers, want %q", got, want)
		}
	}
	if got := answer(t, under(t, web, "gone.example")); got != "Unimplemented" {
		t.Errorf("under the name of a target that there is not: %q", got)
	}
	health(t, web)

	// Another file is gone by from the next hot restart on, as with all that it says.
	write(t, filepath.Join(dir, "p.yaml"), "environment: test\ninstance: one\noutbound_socket: o.sock\nadmin_socket: a.sock\ninbound_address: 127.0.0.1:0\ndrain_deadline: 5s\n"+
		"resources_file: r.yaml\ngrpc: {application: shop.web, authorities: {red.example: blue}}\n")
	cc := under(t, web, "red.example")
	if got := answer(t, cc); got != "red as [red.example]" {
		t.Errorf("before the restart %q answers", got)
	}
	web.takeover(t)
	if got := answer(t, cc); got != "blue as [red.example]" {
		t.Errorf("after the restart %q answers", got)
	}
}

// health asks how whoever is called under an authority is.
func health(t *testing.T, p *process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for authority, want := range map[string]string{"blue.example": "SERVING", "gone.example": "NotFound", "elsewhere.example": "SERVING"} {
		r, err := grpc_health_v1.NewHealthClient(under(t, p, authority)).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		got := r.GetStatus().String()
		if err != nil {
			got = status.Code(err).String()
		}
		if got != want {
			t.Errorf("under %s health is %s, want %s", authority, got, want)
		}
	}
}
