package end

import (
	"context"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// Settings of grpc-go: what its documentation and our own tries say is best for many small calls on one
// connection. GRPCSettings says them for the table.
const (
	// Given windows, it measures no bandwidth and sends no pings for that. A message of 1 MiB needs no grant
	// on its way.
	grpcWindow     = 2 << 20
	grpcConnWindow = 16 << 20
	grpcBuffer     = 64 << 10

	GRPCSettings = "grpc-go: shared write buffers (its default), 64 KiB buffers, windows of 2 MiB a stream and 16 MiB a connection (so no pings " +
		"that measure bandwidth), a stream worker per core, no service config, static method names, no retries, no stats"
)

// grpcServer answers by grpc-go.
func grpcServer(s *side.Spec) (*side.Side, error) {
	l, err := side.Listen(s.Listen)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer(
		grpc.WriteBufferSize(grpcBuffer), grpc.ReadBufferSize(grpcBuffer),
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcConnWindow),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
	)
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: side.Service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: methods[side.Unary], Handler: grpcEcho}},
		Streams: []grpc.StreamDesc{
			{StreamName: methods[side.ServerStream], Handler: grpcSendAll, ServerStreams: true},
			{StreamName: methods[side.Bidi], Handler: grpcEchoAll, ServerStreams: true, ClientStreams: true},
		},
	}, nil)
	go func() { _ = srv.Serve(l) }()
	return &side.Side{Address: side.AddressOf(l), Stop: srv.Stop}, nil
}

// The handlers are what generated code makes of a service's.

func grpcEcho(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(side.Message)
	if err := decode(in); err != nil {
		return nil, err
	}
	return side.Echo(ctx, in)
}

func grpcSendAll(_ any, s grpc.ServerStream) error {
	in := new(side.Message)
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	return side.SendAll(in, func(m *side.Message) error { return s.SendMsg(m) })
}

func grpcEchoAll(_ any, s grpc.ServerStream) error { return side.EchoAll(grpcStream{s}) }

// grpcStream is a stream of messages at either end.
type grpcStream struct {
	s interface {
		SendMsg(any) error
		RecvMsg(any) error
	}
}

func (g grpcStream) Send(m *side.Message) error { return g.s.SendMsg(m) }

func (g grpcStream) Receive() (*side.Message, error) {
	m := new(side.Message)
	return m, g.s.RecvMsg(m)
}

// grpcClient calls by grpc-go, each connection one of its channels.
func grpcClient(s *side.Spec) (*side.Side, error) {
	var connections []*grpc.ClientConn
	stop := func() {
		for _, c := range connections {
			_ = c.Close()
		}
	}
	var callers []side.Caller
	for range s.Load.Connections {
		network, address := side.Split(s.Dial)
		if network == "tcp" {
			network = "passthrough"
		}
		c, err := grpc.NewClient(network+":"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(side.Target),
			grpc.WithWriteBufferSize(grpcBuffer), grpc.WithReadBufferSize(grpcBuffer),
			grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcConnWindow),
			grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		)
		if err != nil {
			stop()
			return nil, err
		}
		connections = append(connections, c)
		callers = append(callers, grpcCaller(c))
	}
	return side.StartWorkers(s, callers, stop)
}

func grpcCaller(c *grpc.ClientConn) side.Caller {
	static := grpc.StaticMethod()
	path := func(kind string) string { return "/" + side.Service + "/" + methods[kind] }
	echo, stream, chat := path(side.Unary), path(side.ServerStream), path(side.Bidi)
	streamDesc := &grpc.StreamDesc{StreamName: methods[side.ServerStream], ServerStreams: true}
	chatDesc := &grpc.StreamDesc{StreamName: methods[side.Bidi], ServerStreams: true, ClientStreams: true}
	return side.Caller{
		Unary: func(ctx context.Context, in *side.Message) (*side.Message, error) {
			out := &side.Message{}
			return out, c.Invoke(ctx, echo, in, out, static)
		},
		ServerStream: func(ctx context.Context, in *side.Message) (side.Receiver, error) {
			s, err := c.NewStream(ctx, streamDesc, stream, static)
			if err != nil {
				return nil, err
			}
			if err := s.SendMsg(in); err != nil {
				return nil, err
			}
			return grpcStream{s}, s.CloseSend()
		},
		Bidi: func(ctx context.Context) (side.Exchange, error) {
			s, err := c.NewStream(ctx, chatDesc, chat, static)
			return grpcStream{s}, err
		},
	}
}
