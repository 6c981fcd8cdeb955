package end

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// methods are the names of the methods, by kind of load.
var methods = map[string]string{side.Unary: "Echo", side.ServerStream: "Stream", side.Bidi: "Chat"}

var (
	echoMethod   = octomesh.Method{Service: side.Service, Name: methods[side.Unary], Kind: octomesh.Unary}
	streamMethod = octomesh.Method{Service: side.Service, Name: methods[side.ServerStream], Kind: octomesh.ServerStreaming}
	chatMethod   = octomesh.Method{Service: side.Service, Name: methods[side.Bidi], Kind: octomesh.BidiStreaming}
)

// sdkServer answers by the Go SDK: it listens, or attaches to the proxy that it is to dial.
func sdkServer(s *side.Spec) (*side.Side, error) {
	options := []octomesh.ServerOption{octomesh.WithEnvironment(side.Environment), octomesh.WithApplication(side.Target)}
	if s.Dial != "" {
		options = append(options, octomesh.WithMode("on"), octomesh.WithSocket(strings.TrimPrefix(s.Dial, "unix:")))
	} else {
		options = append(options, octomesh.WithMode("off"), octomesh.WithListen(strings.TrimPrefix(s.Listen, "tcp:")))
	}
	srv := octomesh.NewServer(side.Target, options...)
	srv.RegisterService(octomesh.ServiceDesc{Name: side.Service, Methods: []octomesh.MethodDesc{
		{Method: echoMethod, Handler: octomesh.UnaryHandler(side.Echo)},
		{Method: streamMethod, Handler: octomesh.ServerStreamHandler(
			func(_ context.Context, in *side.Message, out *octomesh.ServerSender[side.Message]) error {
				return side.SendAll(in, out.Send)
			})},
		{Method: chatMethod, Handler: octomesh.BidiStreamHandler(
			func(_ context.Context, x *octomesh.ServerStream[side.Message, side.Message]) error {
				return side.EchoAll(x)
			})},
	}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx) }()
	ready, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := srv.Ready(ready); err != nil {
		stop()
		return nil, errors.Join(err, <-ended)
	}
	out := &side.Side{Stop: func() { stop(); <-ended }}
	for _, a := range srv.Addresses() {
		out.Address = a.Network() + ":" + a.String()
	}
	return out, nil
}

// sdkMeshClient calls through a proxy.
func sdkMeshClient(s *side.Spec) (*side.Side, error) {
	return sdkClient(s, octomesh.WithMode("on"), octomesh.WithSocket(strings.TrimPrefix(s.Dial, "unix:")))
}

// sdkDirectClient calls a server direct.
func sdkDirectClient(s *side.Spec) (*side.Side, error) {
	return sdkClient(s, octomesh.WithMode("off"), octomesh.WithDirect(strings.TrimPrefix(s.Dial, "tcp:")))
}

func sdkClient(s *side.Spec, options ...octomesh.DialOption) (*side.Side, error) {
	var channels []*octomesh.Channel
	stop := func() {
		for _, c := range channels {
			_ = c.Close()
		}
	}
	var callers []side.Caller
	for i := range s.Load.Connections {
		// Channels of one application would share one connection.
		name := octomesh.WithApplication(fmt.Sprintf("caller-%d", i))
		ch, err := octomesh.Dial(side.Target, append(options, name, octomesh.WithEnvironment(side.Environment))...)
		if err != nil {
			stop()
			return nil, err
		}
		channels = append(channels, ch)
		callers = append(callers, side.Caller{
			Unary: func(ctx context.Context, in *side.Message) (*side.Message, error) {
				return octomesh.CallUnary[side.Message, side.Message](ctx, ch, &echoMethod, in, nil)
			},
			ServerStream: func(ctx context.Context, in *side.Message) (side.Receiver, error) {
				return octomesh.CallServerStream[side.Message, side.Message](ctx, ch, &streamMethod, in, nil)
			},
			Bidi: func(ctx context.Context) (side.Exchange, error) {
				return octomesh.CallBidiStream[side.Message, side.Message](ctx, ch, &chatMethod, nil)
			},
		})
	}
	return side.StartWorkers(s, callers, stop)
}
