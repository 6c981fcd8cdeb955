package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/meshtest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

type message = wrapperspb.BytesValue

// peerService is the service of peers/peer.proto.
const peerService = "octo.interop.v1.Peer"

// failText is what Fail says.
const failText = "not today: ☕ 100% näin"

func peerMethod(name string, kind octomesh.Kind) *octomesh.Method {
	return &octomesh.Method{Service: peerService, Name: name, Kind: kind}
}

var quiet = octomesh.WithLogger(slog.New(slog.DiscardHandler))

// hangs is which calls of Hang have ended.
type hangs struct {
	mu    sync.Mutex
	ended map[string]chan struct{}
}

func (h *hangs) of(name string) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		h.ended = map[string]chan struct{}{}
	}
	if h.ended[name] == nil {
		h.ended[name] = make(chan struct{})
	}
	return h.ended[name]
}

func (h *hangs) hang(ctx context.Context, m *message, out *octomesh.ServerSender[message]) error {
	defer close(h.of(string(m.Value)))
	if err := out.Send(m); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h *hangs) wait(ctx context.Context, m *message) (*message, error) {
	select {
	case <-h.of(string(m.Value)):
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func sdkEcho(ctx context.Context, m *message) (*message, error) {
	for _, e := range octomesh.IncomingMetadata(ctx) {
		if e.Key != "x-ascii" && e.Key != "x-octets-bin" {
			continue
		}
		if err := octomesh.SetHeader(ctx, e.Key, e.Value); err != nil {
			return nil, err
		}
		if err := octomesh.SetTrailer(ctx, e.Key, e.Value); err != nil {
			return nil, err
		}
	}
	// A RESPONSE of its own carries the initial metadata ahead of the message (ADR 0015).
	return m, octomesh.SendHeader(ctx)
}

func sdkWatch(_ context.Context, m *message, out *octomesh.ServerSender[message]) error {
	for i := range m.Value {
		if err := out.Send(wrapperspb.Bytes(m.Value[i : i+1])); err != nil {
			return err
		}
	}
	return nil
}

func sdkCollect(_ context.Context, in *octomesh.ServerReceiver[message]) (*message, error) {
	all := &message{}
	for m, err := range in.All() {
		if err != nil {
			return nil, err
		}
		all.Value = append(all.Value, m.Value...)
	}
	return all, nil
}

func sdkChat(_ context.Context, s *octomesh.ServerStream[message, message]) error {
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

func sdkFail(_ context.Context, m *message) (*message, error) {
	return nil, octomesh.WithDetails(octomesh.Errorf(octomesh.FailedPrecondition, "%s", failText), m)
}

// sdkServer attaches a server of the Go SDK to a mesh.
func sdkServer(ctx context.Context, m *mesh) (io.Closer, error) {
	h := &hangs{}
	s := octomesh.NewServer(target, octomesh.WithApplication(target), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(m.callee.Socket))
	s.RegisterService(octomesh.ServiceDesc{Name: peerService, Methods: []octomesh.MethodDesc{
		{Method: *peerMethod("Echo", octomesh.Unary), Handler: octomesh.UnaryHandler(sdkEcho)},
		{Method: *peerMethod("Watch", octomesh.ServerStreaming), Handler: octomesh.ServerStreamHandler(sdkWatch)},
		{Method: *peerMethod("Collect", octomesh.ClientStreaming), Handler: octomesh.ClientStreamHandler(sdkCollect)},
		{Method: *peerMethod("Chat", octomesh.BidiStreaming), Handler: octomesh.BidiStreamHandler(sdkChat)},
		{Method: *peerMethod("Fail", octomesh.Unary), Handler: octomesh.UnaryHandler(sdkFail)},
		{Method: *peerMethod("Hang", octomesh.ServerStreaming), Handler: octomesh.ServerStreamHandler(h.hang)},
		{Method: *peerMethod("Ended", octomesh.Unary), Handler: octomesh.UnaryHandler(h.wait)},
	}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.WithoutCancel(ctx)) }()
	stop := closer(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // calls that a client has left are cut off
		return <-done
	})
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.Ready(ready); err != nil {
		_ = stop()
		return nil, err
	}
	return stop, nil
}

type closer func() error

func (c closer) Close() error { return c() }
