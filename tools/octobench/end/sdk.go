package end

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

var echoMethod = octomesh.Method{Service: Service, Name: Method, Kind: octomesh.Unary}

// sdkServer echoes by the Go SDK: it listens, or attaches to the proxy that it is to dial.
func sdkServer(s *Spec) (*side, error) {
	options := []octomesh.ServerOption{octomesh.WithEnvironment(Environment), octomesh.WithApplication(Target)}
	if s.Dial != "" {
		options = append(options, octomesh.WithMode("on"), octomesh.WithSocket(strings.TrimPrefix(s.Dial, "unix:")))
	} else {
		options = append(options, octomesh.WithMode("off"), octomesh.WithListen(strings.TrimPrefix(s.Listen, "tcp:")))
	}
	srv := octomesh.NewServer(Target, options...)
	srv.RegisterService(octomesh.ServiceDesc{Name: Service, Methods: []octomesh.MethodDesc{
		{Method: echoMethod, Handler: octomesh.UnaryHandler(echo)},
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
	out := &side{stop: func() { stop(); <-ended }}
	for _, a := range srv.Addresses() {
		out.address = a.Network() + ":" + a.String()
	}
	return out, nil
}

// sdkMeshClient calls through a proxy.
func sdkMeshClient(s *Spec) (*side, error) {
	return sdkClient(s, octomesh.WithMode("on"), octomesh.WithSocket(strings.TrimPrefix(s.Dial, "unix:")))
}

// sdkDirectClient calls a server direct.
func sdkDirectClient(s *Spec) (*side, error) {
	return sdkClient(s, octomesh.WithMode("off"), octomesh.WithDirect(strings.TrimPrefix(s.Dial, "tcp:")))
}

func sdkClient(s *Spec, options ...octomesh.DialOption) (*side, error) {
	var channels []*octomesh.Channel
	stop := func() {
		for _, c := range channels {
			_ = c.Close()
		}
	}
	var calls []caller
	for i := range s.Load.Connections {
		// Channels of one application would share one connection.
		name := octomesh.WithApplication(fmt.Sprintf("caller-%d", i))
		ch, err := octomesh.Dial(Target, append(options, name, octomesh.WithEnvironment(Environment))...)
		if err != nil {
			stop()
			return nil, err
		}
		channels = append(channels, ch)
		calls = append(calls, func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			return octomesh.CallUnary[wrapperspb.BytesValue, wrapperspb.BytesValue](ctx, ch, &echoMethod, in, nil)
		})
	}
	return startWorkers(s, calls, stop), nil
}
