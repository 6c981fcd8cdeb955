package end

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// grpcRelay passes calls of all kinds on by grpc-go, whose codec leaves messages as the bytes they are: what a
// gRPC proxy costs that is written over grpc-go as well as it allows.
func grpcRelay(s *side.Spec) (*side.Side, error) {
	l, err := side.Listen(s.Listen)
	if err != nil {
		return nil, err
	}
	network, address := side.Split(s.Dial)
	if network == "tcp" {
		network = "passthrough"
	}
	up, err := grpc.NewClient(network+":"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(side.Target),
		grpc.WithWriteBufferSize(grpcBuffer), grpc.WithReadBufferSize(grpcBuffer),
		grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcConnWindow),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(asItIs{})),
	)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	srv := grpc.NewServer(
		grpc.WriteBufferSize(grpcBuffer), grpc.ReadBufferSize(grpcBuffer),
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcConnWindow),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))), grpc.ForceServerCodecV2(asItIs{}),
		grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error { return relay(down, up) }),
	)
	go func() { _ = srv.Serve(l) }()
	return &side.Side{Address: side.AddressOf(l), Stop: func() { srv.Stop(); _ = up.Close() }}, nil
}

var anyKind = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// relay passes one call on: its requests by a goroutine of their own, its answers by this one.
func relay(down grpc.ServerStream, to *grpc.ClientConn) error {
	method, _ := grpc.MethodFromServerStream(down)
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	up, err := to.NewStream(ctx, anyKind, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m mem.BufferSlice
			switch err := down.RecvMsg(&m); {
			case err == io.EOF:
				_ = up.CloseSend()
				return
			case err != nil:
				cancel()
				return
			}
			if up.SendMsg(m) != nil {
				return // receiving says why
			}
		}
	}()
	for {
		var m mem.BufferSlice
		switch err := up.RecvMsg(&m); {
		case err == io.EOF:
			down.SetTrailer(up.Trailer())
			return nil
		case err != nil:
			return err
		}
		if err := down.SendMsg(m); err != nil {
			return err
		}
	}
}

// asItIs leaves messages as the bytes they are. Both ends free what they have been given.
type asItIs struct{}

func (asItIs) Name() string { return "proto" }

func (asItIs) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(mem.BufferSlice)
	if !ok {
		return nil, status.Error(codes.Internal, fmt.Sprintf("%T is no bytes", v))
	}
	return m, nil
}

func (asItIs) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*mem.BufferSlice)
	if !ok {
		return status.Error(codes.Internal, fmt.Sprintf("%T takes no bytes", v))
	}
	data.Ref() // grpc frees its own reference when this returns
	*m = data
	return nil
}
