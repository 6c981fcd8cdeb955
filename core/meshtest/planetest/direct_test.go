package planetest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"

	"github.com/octomesh/octomesh/core/meshtest/planetest"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// counting is a service, any one, whose handlers count, and see who calls.
type counting struct {
	sdkdirectory.UnimplementedDirectory
	calls  atomic.Int64
	caller atomic.Value // string
}

func (c *counting) Report(ctx context.Context, _ *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	c.calls.Add(1)
	p, _ := octomesh.PeerInfo(ctx)
	c.caller.Store(p.Verified)
	return &directoryv1.ReportResponse{}, nil
}

// serves starts a server of the SDK's until the test ends, and returns where it listens.
func serves(t *testing.T, target, instance string, opts ...octomesh.ServerOption) (*counting, string) {
	t.Helper()
	c := &counting{}
	s := octomesh.NewServer(target, append([]octomesh.ServerOption{
		octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"), octomesh.WithEnvironment(planetest.Environment),
		octomesh.WithApplication(target), octomesh.WithInstance(instance), octomesh.WithDrainTimeout(time.Second),
	}, opts...)...)
	sdkdirectory.RegisterDirectory(s, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", instance, err)
		}
	})
	ready, end := context.WithTimeout(ctx, planetest.Long)
	defer end()
	if err := s.Ready(ready); err != nil {
		t.Fatal(err)
	}
	return c, s.Addresses()[0].String()
}

// lesserTLS takes connections by TLS 1.2 at most, with a right certificate, and counts those that shake hands.
func lesserTLS(t *testing.T, f identity.Files) (*atomic.Int64, string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	shaken, over := new(atomic.Int64), make(chan struct{})
	go func() {
		defer close(over)
		for {
			nc, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if nc.(*tls.Conn).Handshake() == nil {
				shaken.Add(1)
			}
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-over })
	return shaken, l.Addr().String()
}

// TestDirectCallsGoToWhomTheDirectoryNames: by TLS 1.3 to whoever proves to be the instance, and to nobody else, whatever the registry
// says where it is.
func TestDirectCallsGoToWhomTheDirectoryNames(t *testing.T) {
	t.Parallel()
	ca := identitytest.New(t)
	id := func(name string) string { return "spiffe://example.org/test/" + name }
	files := func(name string) identity.Files { return ca.Files(planetest.Dir(t), id(name)) }
	with := func(name string) octomesh.Option { return octomesh.WithTLS(octomesh.TLS(files(name))) }
	at, own := loopback.Free(t), files("control/all-1")
	p := programs.Up(t, "--certificate", own.Certificate, "--key", own.Key, "--authorities", own.Authorities, "--writers", id("operator/*"), "--directory", planetest.Environment+"="+at)
	off := octomesh.WithRegistration(octomesh.Registration{Off: true})
	other, otherAt := serves(t, "stock", "other", with("app/mail"), off)
	plain, plainAt := serves(t, "stock", "plain", off)
	lesser, lesserAt := lesserTLS(t, files("app/stock"))
	for instance, address := range map[string]string{"other": otherAt, "plain": plainAt, "lesser": lesserAt} {
		p.PutEndpoint(&resourcev1.Endpoint{Target: "stock", Instance: instance, DirectAddress: address, DirectIdentity: id("app/stock")})
	}
	ch, err := octomesh.Dial("stock", octomesh.WithDirectory(at), octomesh.WithEnvironment(planetest.Environment),
		octomesh.WithApplication("web"), octomesh.WithInstance("web-1"), with("app/web"))
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	client := sdkdirectory.NewDirectoryClient(ch)
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), planetest.Long)
		defer cancel()
		_, err := client.Report(ctx, &directoryv1.ReportRequest{})
		return err
	}
	planetest.Await(t, "the three instances", func() error {
		if s := ch.Status(); s.Direct != 3 {
			return fmt.Errorf("%v, %w", s, call())
		}
		return nil
	})
	for range 10 {
		var e *octomesh.Error
		if err := call(); !errors.As(err, &e) || e.Code != octomesh.Unavailable || e.Disposition != octomesh.DispositionNotProcessed {
			t.Fatalf("a call that nobody should have taken ended with %v", err)
		}
	}
	right, _ := serves(t, "stock", "stock-1", with("app/stock"), octomesh.WithDirectory(at))
	planetest.Await(t, "a call at the right one", call)
	for range 100 {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if got := right.calls.Load(); got != 101 || right.caller.Load() != id("app/web") {
		t.Errorf("%d calls came, of %v", got, right.caller.Load())
	}
	if other.calls.Load() > 0 || plain.calls.Load() > 0 || lesser.Load() > 0 {
		t.Errorf("calls came to another identity %d, without TLS %d, by TLS 1.2 %d", other.calls.Load(), plain.calls.Load(), lesser.Load())
	}
}
