package plane_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/pilot/callers"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
)

const domain = "spiffe://example.org/"

// as dials with a certificate. It does not look whom it reaches.
func as(t *testing.T, files identity.Files, address string) *grpc.ClientConn {
	t.Helper()
	id, err := identity.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(id.Client(func(identity.ID) error { return nil }))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// discover opens a discovery stream that says to be of an instance, and returns how it answers: nil, once it serves.
func discover(t *testing.T, c grpc.ClientConnInterface, environment, instance string, topics ...string) error {
	t.Helper()
	s, err := subscribed(t, c, environment, instance, topics...)
	if err != nil {
		return err
	}
	_, err = s.Recv()
	return err
}

type discovery = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// subscribed opens a discovery stream that says to be of an instance, and asks for topics.
func subscribed(t *testing.T, c grpc.ClientConnInterface, environment, instance string, topics ...string) (discovery, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: instance, Cluster: environment}, TypeUrl: "octo.resource.v1.Endpoint", ResourceNamesSubscribe: topics,
	}); err != nil {
		t.Log(err) // Recv says why
	}
	return s, nil
}

// reason is the ErrorInfo's.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

func TestProxiesProveWhoTheyAre(t *testing.T) {
	ca, other := identitytest.New(t), identitytest.New(t)
	p, _ := start(t, plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(short(t), "data")}, TLS: ca.Files(t.TempDir(), domain+"prod/control/all-1"),
		Writers: []string{domain + "prod/operator/*"}, Limits: plane.Limits{Streams: 2, Topics: 3},
	})
	file := func(a *identitytest.Authority, id string) identity.Files { return a.Files(t.TempDir(), domain+id, ca) }
	web := as(t, file(ca, "prod/proxy/web-1"), p.Address())
	if err := discover(t, web, "prod", "web-1", "prod/cart/*"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		conn                  *grpc.ClientConn
		environment, instance string
		code                  codes.Code
		reason, text          string
	}{
		"another's name":          {web, "prod", "web-2", codes.PermissionDenied, callers.ReasonIdentity, `is not the proxy "web-2"`},
		"another's environment":   {web, "test", "web-1", codes.PermissionDenied, callers.ReasonIdentity, `environment "test"`},
		"an application":          {as(t, file(ca, "prod/app/web-1"), p.Address()), "prod", "web-1", codes.PermissionDenied, callers.ReasonIdentity, "prod/app/web-1"},
		"of another environment":  {as(t, file(ca, "test/proxy/web-1"), p.Address()), "test", "web-1", codes.Unavailable, "", ""},
		"of a stranger's CA":      {as(t, file(other, "prod/proxy/web-1"), p.Address()), "prod", "web-1", codes.Unavailable, "", ""},
		"without TLS":             {dial(t, p.Address()), "prod", "web-1", codes.Unavailable, "", ""},
		"a topic of another envi": {as(t, file(ca, "prod/proxy/web-3"), p.Address()), "prod", "web-3", codes.PermissionDenied, "", "another environment"},
	} {
		topics := []string{"prod/cart/*"}
		if strings.HasPrefix(name, "a topic") {
			topics = []string{"test/cart/*"}
		}
		err := discover(t, c.conn, c.environment, c.instance, topics...)
		if status.Code(err) != c.code || reason(err) != c.reason || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v %q", name, err, reason(err))
		}
	}
	introduce := func(c *grpc.ClientConn, instance string) error {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		s, err := controlv1.NewNodeClient(c).Connect(ctx)
		if err != nil {
			return err
		}
		_ = s.Send(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Introduction{Introduction: &controlv1.Introduction{Environment: "prod", Instance: instance}}})
		_ = s.CloseSend()
		_, err = s.Recv()
		return err
	}
	web5 := as(t, file(ca, "prod/proxy/web-5"), p.Address())
	if err := introduce(web5, "web-5"); !errors.Is(err, io.EOF) {
		t.Errorf("a proxy that introduces itself: %v", err)
	}
	if err := introduce(web5, "web-1"); status.Code(err) != codes.PermissionDenied || reason(err) != callers.ReasonIdentity {
		t.Errorf("a proxy that introduces itself as another: %v", err)
	}
	if err := discover(t, as(t, file(ca, "prod/control/directory-1"), p.Address()), "prod", "anybody", "prod/cart/*"); err != nil {
		t.Errorf("a Directory speaks for all: %v", err)
	}
	if err := discover(t, web, "prod", "web-1", "prod/cart/*"); err != nil { // its second
		t.Fatal(err)
	}
	err := discover(t, web, "prod", "web-1", "prod/cart/*")
	if status.Code(err) != codes.ResourceExhausted || reason(err) != callers.ReasonStreams || !strings.Contains(err.Error(), "has 2 streams open") {
		t.Errorf("too many streams: %v %q", err, reason(err))
	}
	stream, err := subscribed(t, as(t, file(ca, "prod/proxy/web-4"), p.Address()), "prod", "web-4", "prod/a/*", "prod/b/*", "prod/c/*", "prod/d/*")
	for err == nil { // the first three may be answered before the fourth is refused
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted || reason(err) != "TOPICS_PER_STREAM" {
		t.Errorf("too many topics: %v %q", err, reason(err))
	}
}

// TestServicesAreForThoseWhoNeedThem: the Dispatcher's for roles, and the Config Server's for its environment.
func TestServicesAreForThoseWhoNeedThem(t *testing.T) {
	ca := identitytest.New(t)
	p, _ := start(t, plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(short(t), "data")}, TLS: ca.Files(t.TempDir(), domain+"prod/control/all-1"),
		Writers: []string{domain + "prod/operator/*"},
	})
	file := func(id string) identity.Files { return ca.Files(t.TempDir(), domain+id) }
	troubled := func(id string) error {
		_, err := dispatchv1.NewDispatchClient(as(t, file(id), p.Address())).Troubled(t.Context(), &dispatchv1.TroubledRequest{})
		return err
	}
	watch := func(id string) error {
		s, err := dispatchv1.NewDispatchClient(as(t, file(id), p.Address())).Watch(t.Context())
		if err != nil {
			return err
		}
		_ = s.Send(&dispatchv1.WatchRequest{Follow: []*dispatchv1.Key{{Environment: "prod", Target: "cart"}}})
		_, err = s.Recv()
		return err
	}
	for id, may := range map[string][2]codes.Code{
		"prod/control/pilot-1": {codes.OK, codes.OK}, "prod/operator/alice": {codes.OK, codes.PermissionDenied},
		"prod/proxy/web-1": {codes.PermissionDenied, codes.PermissionDenied}, "prod/control/config-1": {codes.PermissionDenied, codes.PermissionDenied},
	} {
		if err := troubled(id); status.Code(err) != may[0] {
			t.Errorf("Troubled by %s: %v", id, err)
		}
		if err := watch(id); status.Code(err) != may[1] {
			t.Errorf("Watch by %s: %v", id, err)
		}
	}
	alice := as(t, file("prod/operator/alice"), p.Address())
	if _, err := configv1.NewConfigClient(alice).List(t.Context(), &configv1.ListRequest{Environment: "prod"}); err != nil {
		t.Error(err)
	}
	_, err := configv1.NewConfigClient(alice).List(t.Context(), &configv1.ListRequest{Environment: "test"})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `environment "prod"`) {
		t.Error(err)
	}
	s, err := configv1.NewConfigClient(alice).Watch(t.Context(), &configv1.WatchRequest{Environment: "test"})
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if err := alice.Invoke(t.Context(), "/grpc.health.v1.Health/Check", &dispatchv1.TroubledRequest{}, &dispatchv1.TroubledResponse{}); status.Code(err) == codes.OK {
		t.Error("something that nobody serves was answered")
	}
}

// TestRolesApartProveWhichTheyAre: a proxy's certificate, or another role's, does not make a Dispatcher.
func TestRolesApartProveWhichTheyAre(t *testing.T) {
	ca := identitytest.New(t)
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: short(t), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	role := func(role, id string) plane.Config {
		c := plane.Config{Roles: []string{role}, Store: plane.Store{Endpoints: []string{etcd.Endpoint()}}, TLS: ca.Files(t.TempDir(), domain+id)}
		if role == plane.RoleConfig {
			c.Writers = []string{domain + "prod/operator/*"}
		}
		return c
	}
	if _, err := plane.Start(t.Context(), role(plane.RoleDispatcher, "prod/proxy/web-1")); err == nil || !strings.Contains(err.Error(), "may not have the role dispatcher") {
		t.Fatal(err)
	}
	start(t, role(plane.RoleConfig, "prod/control/config-1"))
	start(t, role(plane.RoleDispatcher, "prod/control/dispatcher-1"))
	p, _ := start(t, role(plane.RolePilot, "prod/control/pilot-1")) // it is ready when it has reached both
	registry(t, etcd.Endpoint())("cart", "cart-1")
	web := as(t, ca.Files(t.TempDir(), domain+"prod/proxy/web-1"), p.Address())
	if err := discover(t, web, "prod", "web-1", "prod/cart/*"); err != nil {
		t.Fatal(err)
	}
}
