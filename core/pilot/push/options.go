package push

import (
	"context"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
)

// readBuffer is what each connection reads with, in bytes. Proxies say little: with gRPC's default of 32 KiB this would
// be half of what a connection takes.
const readBuffer = 4 << 10

// ServerOptions are what a gRPC server needs on which a Pilot's push is registered. They do for other services, too. The
// tap is taken: gRPC lets a server have one.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(encodingproto.Name)}),
		grpc.InTapHandle(makeEndable),
		grpc.ReadBufferSize(readBuffer),
	}
}

// codec is protobuf's, but for responses, which are encoded already.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}

// endable is a stream's context that the Pilot can end. What waits to receive on the stream returns then, for which it
// would take a second goroutine otherwise: with its stack as much as all the rest that a stream costs.
type endable struct {
	context.Context // of gRPC; when it ends this ends
	done            chan struct{}
	once            sync.Once
	err             error // once done is closed
}

type endableKey struct{}

// makeEndable gives a stream of the discovery service such a context.
func makeEndable(ctx context.Context, info *tap.Info) (context.Context, error) {
	switch info.FullMethodName {
	case discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, discoveryv3.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName:
	default:
		return ctx, nil
	}
	e := &endable{Context: ctx, done: make(chan struct{})}
	context.AfterFunc(ctx, func() { e.end(ctx.Err()) })
	return e, nil
}

// end ends the stream. gRPC tells the proxy the code that goes with the error, if that is one of package context's.
func (e *endable) end(why error) {
	e.once.Do(func() {
		e.err = why
		close(e.done)
	})
}

// Done implements context.Context.
func (e *endable) Done() <-chan struct{} { return e.done }

// Err implements context.Context.
func (e *endable) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// Value implements context.Context.
func (e *endable) Value(key any) any {
	if key == (endableKey{}) {
		return e
	}
	return e.Context.Value(key)
}

// endableOf finds the one of a stream, if its server was made with [ServerOptions].
func endableOf(ctx context.Context) (e *endable, ok bool) {
	e, ok = ctx.Value(endableKey{}).(*endable)
	return e, ok
}
