package stocktest_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

const echoService = "octo.test.v1.Echo"

// echoSchema writes the descriptor set of a service that says things again, once and many times.
func echoSchema(t *testing.T) (path string) {
	t.Helper()
	const text = ".google.protobuf.StringValue"
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto),
		{
			Name: proto.String("octo/test/v1/echo.proto"), Package: proto.String("octo.test.v1"), Syntax: proto.String("proto3"),
			Dependency: []string{"google/protobuf/wrappers.proto"},
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Echo"), Method: []*descriptorpb.MethodDescriptorProto{
				{Name: proto.String("Say"), InputType: proto.String(text), OutputType: proto.String(text)},
				{Name: proto.String("Chat"), InputType: proto.String(text), OutputType: proto.String(text), ClientStreaming: proto.Bool(true), ServerStreaming: proto.Bool(true)},
			}}},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "echo.binpb")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serveEcho serves the target "echo" with the Go SDK beside a proxy, until the test ends.
func serveEcho(t *testing.T, x *planetest.Proxy) {
	t.Helper()
	type text = wrapperspb.StringValue
	s := octomesh.NewServer("echo", octomesh.WithApplication("echo"), octomesh.WithEnvironment(planetest.Environment), octomesh.WithMode("on"),
		octomesh.WithSocket(x.Socket), octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	say := func(_ context.Context, m *text) (*text, error) { return &text{Value: "heard " + m.Value}, nil }
	chat := func(_ context.Context, s *octomesh.ServerStream[text, text]) error {
		for m, err := range s.All() {
			if err != nil {
				return err
			}
			if err := s.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
	method := func(name string, kind octomesh.Kind) octomesh.Method {
		return octomesh.Method{Service: echoService, Name: name, Kind: kind}
	}
	s.RegisterService(octomesh.ServiceDesc{Name: echoService, Methods: []octomesh.MethodDesc{
		{Method: method("Say", octomesh.Unary), Handler: octomesh.UnaryHandler(say)},
		{Method: method("Chat", octomesh.BidiStreaming), Handler: octomesh.BidiStreamHandler(chat)},
	}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestGrpcurlNeedsASchemaAndNothingElse has grpcurl, as its makers ship it, list, describe and call a service of the Go SDK's through
// two proxies: neither of them, nor grpcurl, has a file about the service.
func TestGrpcurlNeedsASchemaAndNothingElse(t *testing.T) {
	t.Parallel()
	grpcurl := filepath.Join(t.TempDir(), "grpcurl")
	if out, err := exec.Command("go", "build", "-o", grpcurl, "github.com/fullstorydev/grpcurl/cmd/grpcurl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := programs.Up(t)
	serveEcho(t, programs.Proxy(t, "server-1", p.PilotAddresses(), ""))
	at := loopback.Free(t)
	client := programs.Proxy(t, "client-1", p.PilotAddresses(), "grpc: {application: curl, address: \""+at+"\", targets: {"+echoService+": echo}}\n")
	curl := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), planetest.Long)
		defer cancel()
		out, err := exec.CommandContext(ctx, grpcurl, append([]string{"-plaintext"}, args...)...).CombinedOutput()
		return string(out), err
	}
	want := func(says string, args ...string) {
		t.Helper()
		out, err := curl(args...)
		for line := range strings.Lines(says) {
			if err != nil || !strings.Contains(out, strings.TrimSpace(line)) {
				t.Errorf("grpcurl %q does not say %q: %v\n%s", args, line, err, out)
			}
		}
	}
	if out, err := curl(at, "list"); err != nil || strings.Contains(out, echoService) {
		t.Errorf("without a schema it lists %q, %v", out, err)
	}
	if out, err := curl(at, "describe", echoService); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("without a schema it describes %q, %v", out, err)
	}
	if out, err := p.Octo(p.Configs[0], "", "schema", "push", "echo", echoSchema(t), "-m", "for grpcurl"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	planetest.Await(t, "the schema", func() error { _, err := curl(at, "describe", echoService); return err })
	want(echoService+"\ngrpc.health.v1.Health\ngrpc.reflection.v1.ServerReflection", at, "list")
	want(echoService+".Say\n"+echoService+".Chat", at, "list", echoService)
	want("rpc Chat ( stream .google.protobuf.StringValue ) returns ( stream .google.protobuf.StringValue )", at, "describe", echoService)
	want(`"heard hello"`, "-d", `"hello"`, at, echoService+"/Say")
	want("\"one\"\n\"two\"", "-d", `"one" "two"`, at, echoService+".Chat")
	want(`"SERVING"`, "-d", `{"service": "`+echoService+`"}`, at, "grpc.health.v1.Health/Check")
	want(`"heard by the socket"`, "-unix", "-d", `"by the socket"`, client.Socket, echoService+"/Say")
	if out, err := p.Octo(p.Configs[0], "", "schema", "delete", "echo", "-m", "enough"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	planetest.Await(t, "the schema's end", func() error {
		if out, err := curl(at, "list"); err != nil || strings.Contains(out, echoService) {
			return os.ErrExist
		}
		return nil
	})
}
