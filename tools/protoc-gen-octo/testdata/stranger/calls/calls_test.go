package calls

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	greetv1 "example.com/greeter/gen/greet/v1"
	"example.com/greeter/gen/odd"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// service lacks Default and Defer.
type service struct{ odd.UnimplementedImport }

func (service) Func(_ context.Context, req *odd.TypeSelect) (*odd.TypeSelect, error) {
	return req, nil
}

func (service) Go(_ context.Context, in *octomesh.ServerReceiver[odd.TypeSelect]) (*greetv1.GreetResponse, error) {
	var text string
	for each, err := range in.All() {
		if err != nil {
			return nil, err
		}
		text += each.GetFunc()
	}
	return &greetv1.GreetResponse{Text: text}, nil
}

func (service) Range(_ context.Context, req *greetv1.GreetRequest, out *octomesh.ServerSender[odd.TypeSelect]) error {
	for _, letter := range req.GetName() {
		if err := out.Send(word(string(letter))); err != nil {
			return err
		}
	}
	return nil
}

func (service) Chan(_ context.Context, stream *octomesh.ServerStream[odd.TypeSelect, greetv1.GreetResponse]) error {
	for each, err := range stream.All() {
		if err != nil {
			return err
		}
		if err := stream.Send(&greetv1.GreetResponse{Text: each.GetFunc()}); err != nil {
			return err
		}
	}
	return nil
}

func word(text string) *odd.TypeSelect { return &odd.TypeSelect{Func: proto.String(text)} }

func client(t *testing.T) odd.ImportClient {
	server := octomesh.NewServer("odd")
	odd.RegisterImport(server, service{})
	channel, err := octomesh.NewInProcess(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := channel.Close(); err != nil {
			t.Error(err)
		}
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return odd.NewImportClient(channel)
}

func check(t *testing.T, got, want string, err error) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("answer is %q (%v), want %q", got, err, want)
	}
}

func TestUnary(t *testing.T) {
	got, err := client(t).Func(t.Context(), word("a"))
	check(t, got.GetFunc(), "a", err)
}

func TestClientStreaming(t *testing.T) {
	stream, err := client(t).Go(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b", "c"} {
		if err := stream.Send(word(text)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := stream.CloseAndReceive()
	check(t, got.GetText(), "abc", err)
}

func TestServerStreaming(t *testing.T) {
	stream, err := client(t).Range(t.Context(), &greetv1.GreetRequest{Name: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for each, err := range stream.All() {
		if err != nil {
			t.Fatal(err)
		}
		text += each.GetFunc()
	}
	check(t, text, "abc", nil)
}

func TestBidiStreaming(t *testing.T) {
	stream, err := client(t).Chan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b"} {
		if err := stream.Send(word(text)); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Receive()
		check(t, got.GetText(), text, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for range stream.All() {
		t.Error("an answer too many")
	}
}

func TestMethodsThatAreLackingAnswerUnimplemented(t *testing.T) {
	client := client(t)
	_, err := client.Default(t.Context(), &odd.Type{})
	if octomesh.CodeOf(err) != octomesh.Unimplemented {
		t.Errorf("unary: %v", err)
	}
	stream, err := client.Defer(t.Context())
	if err == nil {
		_, err = stream.Receive()
	}
	if octomesh.CodeOf(err) != octomesh.Unimplemented {
		t.Errorf("stream: %v", err)
	}
}
