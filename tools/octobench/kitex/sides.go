package main

import (
	"context"
	"net"
	"time"

	kitex "github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/stats"
	kitexserver "github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// server echoes by Kitex with its multiplexing transport.
func server(s *side.Spec) (*side.Side, error) {
	klog.SetLevel(klog.LevelError)
	network, path := side.Split(s.Listen)
	address, err := net.ResolveUnixAddr(network, path)
	if err != nil {
		return nil, err
	}
	srv := kitexserver.NewServer(
		kitexserver.WithServiceAddr(address), kitexserver.WithMuxTransport(),
		kitexserver.WithStatsLevel(stats.LevelDisabled), kitexserver.WithExitWaitTime(time.Millisecond),
	)
	if err := srv.RegisterService(service(), &handler{}); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Run() }()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		nc, err := side.Dial(s.Listen)
		if err == nil {
			_ = nc.Close()
			break
		}
		select {
		case err := <-ended:
			return nil, err
		default:
		}
		if time.Now().After(until) {
			return nil, err
		}
	}
	return &side.Side{Address: s.Listen, Stop: func() { _ = srv.Stop() }}, nil
}

// client calls by Kitex, a client with one shared connection for each connection of the load.
func client(s *side.Spec) (*side.Side, error) {
	klog.SetLevel(klog.LevelError)
	_, path := side.Split(s.Dial)
	var callers []side.Caller
	for range s.Load.Connections {
		c, err := kitex.NewClient(service(),
			kitex.WithDestService(side.Service), kitex.WithHostPorts(path), kitex.WithMuxConnection(1), kitex.WithTransportProtocol(transport.TTHeader),
			kitex.WithStatsLevel(stats.LevelDisabled),
		)
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
