package proxyd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// writeSchema writes a descriptor set with these services of the package octo.test.v1.
func writeSchema(t *testing.T, path string, services ...string) {
	t.Helper()
	f := &descriptorpb.FileDescriptorProto{Name: proto.String("echo.proto"), Package: proto.String("octo.test.v1")}
	for _, s := range services {
		f.Service = append(f.Service, &descriptorpb.ServiceDescriptorProto{Name: proto.String(s)})
	}
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{f}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReflectionTellsOfSchemasInFiles(t *testing.T) {
	dir := t.TempDir()
	writeSchema(t, filepath.Join(dir, "echo.binpb"), "Echo")
	p := launchIn(t, dir, "{}", bridgeLines+"  schemas: {echo: echo.binpb}\n")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := reflection.NewServerReflectionClient(grpcClient(t, "unix:"+p.socket, insecure.NewCredentials())).ServerReflectionInfo(ctx)
	if err == nil {
		err = s.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Recv()
	if err != nil || !slices.ContainsFunc(r.GetListServicesResponse().GetService(), func(s *reflection.ServiceResponse) bool { return s.GetName() == echoService }) {
		t.Errorf("listed are %v, %v", r, err)
	}
}

func TestFilesThatAreNoSchemasEndTheStart(t *testing.T) {
	dir := t.TempDir()
	writeSchema(t, filepath.Join(dir, "empty"))
	write(t, filepath.Join(dir, "text"), "syntax = \"proto3\";")
	for file, want := range map[string]string{"none": "no such file", "text": "is no google.protobuf.FileDescriptorSet", "empty": "holds no service"} {
		path := filepath.Join(dir, "p.yaml")
		write(t, path, "outbound_socket: o.sock\nresources_file: r.yaml\n"+bridgeLines+"  schemas: {echo: "+file+"}\n")
		out, err := exec.Command(binary, "--config", path).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "grpc.schemas") {
			t.Errorf("%s: %v %s", file, err, out)
		}
	}
}
