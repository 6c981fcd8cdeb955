package main

import (
	"context"
	"time"

	kitex "github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/cloudwego/kitex/pkg/transmeta"
	kitexserver "github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// server echoes by Kitex with its multiplexing transport.
func server(s *side.Spec) (*side.Side, error) {
	klog.SetLevel(klog.LevelError)
	l, err := side.Listen(s.Listen)
	if err != nil {
		return nil, err
	}
	srv := kitexserver.NewServer(
		kitexserver.WithListener(l), kitexserver.WithMuxTransport(),
		kitexserver.WithStatsLevel(stats.LevelDisabled), kitexserver.WithExitWaitTime(time.Millisecond),
	)
	if err := srv.RegisterService(service(), &handler{}); err != nil {
		return nil, err
	}
	go func() { _ = srv.Run() }() // who calls learns if it does not
	return &side.Side{Address: side.AddressOf(l), Stop: func() { _ = srv.Stop() }}, nil
}

// client calls by Kitex, a client with one shared connection for each connection of the load.
func client(s *side.Spec) (*side.Side, error) { return calls(s) }

// named is a client that says in each head whom it calls, as a client behind a proxy has to.
func named(s *side.Spec) (*side.Side, error) {
	return calls(s, kitex.WithMetaHandler(transmeta.ClientTTHeaderHandler))
}

func calls(s *side.Spec, opts ...kitex.Option) (*side.Side, error) {
	klog.SetLevel(klog.LevelError)
	_, path := side.Split(s.Dial)
	var callers []side.Caller
	for range s.Load.Connections {
		c, err := kitex.NewClient(service(), append([]kitex.Option{
			kitex.WithDestService(side.Service), kitex.WithHostPorts(path), kitex.WithMuxConnection(1), kitex.WithTransportProtocol(transport.TTHeader),
			kitex.WithStatsLevel(stats.LevelDisabled),
		}, opts...)...)
		if err != nil {
			return nil, err
		}
		callers = append(callers, side.Caller{Unary: func(ctx context.Context, in *side.Message) (*side.Message, error) {
			arg, res := newArgument(in), newResult()
			err := c.Call(ctx, method, arg, res)
			return res.message, err
		}})
	}
	return side.StartWorkers(s, callers, func() {})
}
