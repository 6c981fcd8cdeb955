package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // what "gzip" means
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// Metadata that drives the handlers.
const (
	responseKey = "conformance-response-bin"
	callIDKey   = "conformance-call-id"
)

// inline is up to where a response goes to the runner whole.
const inline = 64 << 10

// connect makes a channel to a proxy's socket: a stock client knows no other way into the mesh.
func (t *testee) connect(c *conformancev1.Connect) error {
	if c.GetSocket() == "" || c.Tls != nil || c.Ways != nil {
		return errors.New("a stock client dials a proxy's socket")
	}
	ch, err := grpc.NewClient("unix:"+c.GetSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.channels[c.Channel] = ch
	return nil
}

func (t *testee) channel(name string) (*grpc.ClientConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.channels[name]; ch != nil {
		return ch, nil
	}
	return nil, fmt.Errorf("no channel %q", name)
}

// call is one that runs.
type call struct {
	ch     *grpc.ClientConn
	do     *conformancev1.RunCall
	opts   []grpc.CallOption
	result *conformancev1.CallResult

	cancel          func()
	paused          chan struct{} // closed by resume
	once            sync.Once
	header, trailer metadata.MD
}

func (c *call) resume() { c.once.Do(func() { close(c.paused) }) }

func (t *testee) call(do *conformancev1.RunCall) (*conformancev1.CallResult, error) {
	ch, err := t.channel(do.Channel)
	if err != nil {
		return nil, err
	}
	if do.Options == nil {
		do.Options = &conformancev1.CallOptions{}
	}
	begin, o := time.Now(), do.Options
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if o.TimeoutUs != nil {
		ctx, cancel = context.WithTimeout(ctx, timeout(*o.TimeoutUs))
		defer cancel()
	}
	c := &call{ch: ch, do: do, result: &conformancev1.CallResult{}, paused: make(chan struct{}), cancel: cancel}
	def, err := proto.Marshal(do.Response)
	if err != nil {
		return nil, err
	}
	ctx = outgoing(ctx, o, do.CallId, def)
	c.options()
	t.mu.Lock()
	t.calls[do.CallId] = c
	t.mu.Unlock()
	err = c.run(ctx)
	c.result.ElapsedUs = uint64(time.Since(begin).Microseconds())
	if o.CancelAfterEnd {
		cancel()
	}
	t.mu.Lock()
	delete(t.calls, do.CallId)
	t.mu.Unlock()
	c.result.Status = c.outcome(err)
	c.result.Headers, c.result.Trailers = entries(c.header), entries(c.trailer)
	return c.result, nil
}

// timeout is a deadline that time.Duration can hold.
func timeout(us int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Microsecond)
	return time.Duration(min(us, most)) * time.Microsecond
}

// outgoing is the context with which a call is made. Trace and baggage are W3C's, as gRPC's users send them.
func outgoing(ctx context.Context, o *conformancev1.CallOptions, id string, def []byte) context.Context {
	pairs := []string{callIDKey, id, responseKey, string(def)}
	for _, e := range o.Metadata {
		pairs = append(pairs, e.Key, string(e.Value))
	}
	if o.Traceparent != "" {
		pairs = append(pairs, "traceparent", o.Traceparent)
	}
	if o.Tracestate != "" {
		pairs = append(pairs, "tracestate", o.Tracestate)
	}
	if len(o.Baggage) > 0 {
		pairs = append(pairs, "baggage", baggage(o.Baggage))
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

func (c *call) options() {
	o := c.do.Options
	c.opts = append(c.opts, grpc.MaxCallRecvMsgSize(4<<20), grpc.Header(&c.header), grpc.Trailer(&c.trailer))
	if o.Compression == "gzip" {
		c.opts = append(c.opts, grpc.UseCompressor("gzip"))
	}
	if o.MaxReceive > 0 {
		c.opts = append(c.opts, grpc.MaxCallRecvMsgSize(int(o.MaxReceive)))
	}
	if o.WaitForReady {
		c.opts = append(c.opts, grpc.WaitForReady(true))
	}
}

type (
	request  = conformancev1.CallRequest
	response = conformancev1.CallResponse
)

// run makes the call by its kind.
func (c *call) run(ctx context.Context) error {
	path := "/" + c.do.Service + "/" + c.do.Method
	if c.do.Kind == wirev1.CallKind_CALL_KIND_UNARY {
		res := &response{}
		err := c.ch.Invoke(ctx, path, c.request(0), res, c.opts...)
		if err == nil {
			c.took(res)
		}
		return err
	}
	desc := &grpc.StreamDesc{
		ClientStreams: c.do.Kind != wirev1.CallKind_CALL_KIND_SERVER_STREAM, ServerStreams: c.do.Kind != wirev1.CallKind_CALL_KIND_CLIENT_STREAM,
	}
	s, err := c.ch.NewStream(ctx, desc, path, c.opts...)
	if err != nil {
		return err
	}
	if !desc.ClientStreams {
		if err := s.SendMsg(c.request(0)); err == nil {
			_ = s.CloseSend()
		}
		return c.receive(s, -1)
	}
	c.send(s)
	o := c.do.Options
	if o.KeepOpen && !desc.ServerStreams {
		<-ctx.Done()
	}
	if !o.KeepOpen {
		_ = s.CloseSend()
	}
	return c.receive(s, -1)
}

func (c *call) request(i int) *request {
	req := &request{}
	if i < len(c.do.Requests) {
		req.Data = data(c.do.Requests[i])
	}
	if i == 0 && len(c.do.UnknownFields) > 0 {
		req.ProtoReflect().SetUnknown(c.do.UnknownFields)
	}
	return req
}

// send sends all requests; receiving tells why it could not.
func (c *call) send(s grpc.ClientStream) {
	all := len(c.do.Requests) + int(c.do.Options.Repeat)
	for i := range all {
		if s.SendMsg(c.request(min(i, len(c.do.Requests)-1))) != nil {
			c.result.Unsent = uint32(all - i)
			return
		}
		if c.do.Options.FullDuplex && c.receive(s, 1) != nil {
			return
		}
	}
	if c.do.Options.CancelBeforeHalfClose {
		c.cancel()
	}
}

// receive takes responses: n, or all.
func (c *call) receive(s grpc.ClientStream, n int) error {
	o, got := c.do.Options, func() uint32 { return uint32(len(c.result.Responses)) }
	for ; n != 0; n-- {
		if o.CancelAfterResponses != nil && *o.CancelAfterResponses == got() {
			c.cancel()
		}
		if o.PauseAfterResponses != nil && *o.PauseAfterResponses == got() {
			<-c.paused
		}
		res := &response{}
		switch err := s.RecvMsg(res); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		c.took(res)
		if c.do.Kind == wirev1.CallKind_CALL_KIND_CLIENT_STREAM {
			return nil
		}
	}
	return nil
}

func (c *call) took(res *response) {
	r := &conformancev1.Received{Size: uint32(len(res.Data)), UnknownFields: res.ProtoReflect().GetUnknown()}
	if len(res.Data) <= inline {
		r.Data = res.Data
	} else {
		sum := sha256.Sum256(res.Data)
		r.Sha256 = sum[:]
	}
	c.result.Responses = append(c.result.Responses, r)
}

// entries are the users' own.
func entries(md metadata.MD) (all []*conformancev1.Entry) {
	for _, key := range slices.Sorted(maps.Keys(md)) {
		if key == "content-type" || strings.HasPrefix(key, ":") || strings.HasPrefix(key, "grpc-") || strings.HasPrefix(key, "octo-") {
			continue
		}
		for _, value := range md[key] {
			all = append(all, &conformancev1.Entry{Key: key, Value: []byte(value)})
		}
	}
	return all
}

// origins are those that the bridge names in trailers.
var origins = map[string]wirev1.Origin{
	"client-sdk": wirev1.Origin_ORIGIN_CLIENT_SDK, "client-proxy": wirev1.Origin_ORIGIN_CLIENT_PROXY, "server-proxy": wirev1.Origin_ORIGIN_SERVER_PROXY,
	"server-sdk": wirev1.Origin_ORIGIN_SERVER_SDK, "bridge": wirev1.Origin_ORIGIN_BRIDGE,
}

// outcome is what gRPC's client says, and who concluded it where the trailers name the mesh.
func (c *call) outcome(err error) *conformancev1.Outcome {
	s := status.Convert(err)
	out := &conformancev1.Outcome{
		Code: int32(s.Code()), Message: s.Message(), Origin: wirev1.Origin_ORIGIN_APPLICATION,
		Native: s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded,
	}
	if v := c.trailer.Get("octo-origin"); len(v) > 0 {
		out.Origin = origins[v[0]]
	}
	if v := c.trailer.Get("octo-reason"); len(v) > 0 {
		out.Reason = wirev1.Reason(wirev1.Reason_value["REASON_"+v[0]])
	}
	for _, d := range s.Proto().GetDetails() {
		out.Details = append(out.Details, &conformancev1.Detail{TypeUrl: d.TypeUrl, Value: d.Value})
	}
	return out
}
