package end

import (
	"context"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Settings of grpc-go: what its documentation and our own tries say is best for many small calls on one
// connection. GRPCSettings says them for the table.
const (
	// Given windows, it measures no bandwidth and sends no pings for that.
	grpcWindow = 1 << 20
	grpcBuffer = 64 << 10

	GRPCSettings = "grpc-go: shared write buffers (its default), 64 KiB buffers, windows of 1 MiB (so no pings that measure bandwidth), " +
		"a stream worker per core, no service config, static method names, no retries, no stats"
)

// grpcServer echoes by grpc-go.
func grpcServer(s *Spec) (*side, error) {
	l, err := listen(s.Listen)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer(
		grpc.WriteBufferSize(grpcBuffer), grpc.ReadBufferSize(grpcBuffer),
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
	)
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: Service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: Method, Handler: grpcEcho}},
	}, nil)
	go func() { _ = srv.Serve(l) }()
	return &side{address: l.Addr().Network() + ":" + l.Addr().String(), stop: srv.Stop}, nil
}

// grpcEcho is what generated code makes of a handler.
func grpcEcho(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.BytesValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	return echo(ctx, in)
}

// echo is the handler of all servers that have handlers.
func echo(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return &wrapperspb.BytesValue{Value: in.Value}, nil
}

// grpcClient calls by grpc-go, each connection one of its channels.
func grpcClient(s *Spec) (*side, error) {
	var connections []*grpc.ClientConn
	stop := func() {
		for _, c := range connections {
			_ = c.Close()
		}
	}
	var calls []caller
	for range s.Load.Connections {
		network, address := split(s.Dial)
		if network == "tcp" {
			network = "passthrough"
		}
		c, err := grpc.NewClient(network+":"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithWriteBufferSize(grpcBuffer), grpc.WithReadBufferSize(grpcBuffer),
			grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcWindow),
			grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		)
		if err != nil {
			stop()
			return nil, err
		}
		connections = append(connections, c)
		options := []grpc.CallOption{grpc.StaticMethod()}
		calls = append(calls, func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
			out := &wrapperspb.BytesValue{}
			return out, c.Invoke(ctx, "/"+Service+"/"+Method, in, out, options...)
		})
	}
	return startWorkers(s, calls, stop), nil
}
