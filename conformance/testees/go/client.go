package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/conformance/testees/go/gen/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// inline is up to where a response goes to the runner whole.
const inline = 64 << 10

func (t *testee) connect(c *conformancev1.Connect) error {
	opts := []octomesh.DialOption{octomesh.WithEnvironment(c.Environment), octomesh.WithApplication(c.Application), octomesh.WithLogger(t.log)}
	switch {
	case c.Ways != nil:
		opts = append(opts, ways(c.Ways)...)
	case c.GetSocket() != "":
		opts = append(opts, octomesh.WithMode("on"), octomesh.WithSocket(c.GetSocket()))
	default:
		opts = append(opts, octomesh.WithMode("off"), octomesh.WithDirect(c.GetDirect()))
	}
	if c.Tls != nil {
		opts = append(opts, files(c.Tls), octomesh.WithServerIdentity(c.Tls.Peer))
	}
	ch, err := octomesh.Dial(c.Target, opts...)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.channels[c.Channel] = ch
	return nil
}

// ways are the options of a channel that chooses.
func ways(w *conformancev1.Ways) []octomesh.DialOption {
	opts := []octomesh.DialOption{
		octomesh.WithMode("auto"), octomesh.WithSocket(w.Socket), octomesh.WithDirect(w.Direct...), octomesh.WithDirectory(w.Directories...),
		octomesh.WithState(w.State), octomesh.WithSwitchFile(w.SwitchFile), octomesh.WithFallback(!w.NoFallback), octomesh.WithZone(w.Zone),
	}
	if w.Permille != nil {
		opts = append(opts, octomesh.WithPermille(int(*w.Permille)))
	}
	return opts
}

func files(t *conformancev1.Tls) octomesh.Option {
	return octomesh.WithTLS(octomesh.TLS{Certificate: t.Certificate, Key: t.Key, Authorities: t.Authorities})
}

func (t *testee) channel(name string) (*octomesh.Channel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.channels[name]; ch != nil {
		return ch, nil
	}
	return nil, fmt.Errorf("no channel %q", name)
}

// call is one that runs.
type call struct {
	ch     *octomesh.Channel
	do     *conformancev1.RunCall
	opts   []octomesh.CallOption
	result *conformancev1.CallResult

	cancel  func()
	paused  chan struct{} // closed by resume
	once    sync.Once
	header  octomesh.Metadata // unary
	trailer octomesh.Metadata
	path    octomesh.Path
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
	begin := time.Now() // before the context's deadline is set
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := do.Options
	if o.ContextDeadline {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.GetTimeoutUs())*time.Microsecond)
		defer cancel()
	}
	ctx = octomesh.ContextWithTrace(ctx, octomesh.TraceContext{Traceparent: o.Traceparent, Tracestate: o.Tracestate})
	c := &call{ch: ch, do: do, result: &conformancev1.CallResult{}, paused: make(chan struct{})}
	c.cancel = cancel
	if o.CancelTwice {
		c.cancel = func() { cancel(); cancel() }
	}
	if c.opts, err = c.options(); err != nil {
		return nil, err
	}
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
	c.result.Status, c.result.Path = outcome(err), conformancev1.Path(c.path)
	return c.result, nil
}

func (c *call) options() ([]octomesh.CallOption, error) {
	o := c.do.Options
	def, err := proto.Marshal(c.do.Response)
	if err != nil {
		return nil, err
	}
	opts := []octomesh.CallOption{
		octomesh.Header(callIDKey, c.do.CallId), octomesh.Header(responseKey, string(def)),
		octomesh.CaptureHeader(&c.header), octomesh.CaptureTrailer(&c.trailer), octomesh.CapturePath(&c.path),
	}
	for _, e := range o.Metadata {
		opts = append(opts, octomesh.Header(e.Key, string(e.Value)))
	}
	for _, e := range o.Baggage {
		opts = append(opts, octomesh.WithBaggage(e.Key, string(e.Value)))
	}
	if o.TimeoutUs != nil && !o.ContextDeadline {
		opts = append(opts, octomesh.Timeout(time.Duration(*o.TimeoutUs)*time.Microsecond))
	}
	if o.Compression != "" {
		opts = append(opts, octomesh.Compress(o.Compression))
	}
	if o.MaxReceive > 0 {
		opts = append(opts, octomesh.MaxReceive(int(o.MaxReceive)))
	}
	if o.Idempotent {
		opts = append(opts, octomesh.Idempotent())
	}
	if o.HashKey != "" {
		opts = append(opts, octomesh.HashKey(o.HashKey))
	}
	if o.WaitForReady {
		opts = append(opts, octomesh.WaitForReady())
	}
	return opts, nil
}

// single tells whether a kind of call has exactly one response.
func single(k wirev1.CallKind) bool {
	return k == wirev1.CallKind_CALL_KIND_UNARY || k == wirev1.CallKind_CALL_KIND_CLIENT_STREAM
}

type (
	request  = conformancev1.CallRequest
	response = conformancev1.CallResponse
)

// run makes the call by its kind, not by its name: a case may call what does not exist.
func (c *call) run(ctx context.Context) error {
	m := &octomesh.Method{Service: c.do.Service, Name: c.do.Method}
	switch c.do.Kind {
	case wirev1.CallKind_CALL_KIND_UNARY:
		m.Kind = octomesh.Unary
		res, err := octomesh.CallUnary[request, response](ctx, c.ch, m, c.request(0), c.opts)
		c.meta(c.header, c.trailer)
		if err == nil {
			c.took(res)
		}
		return err
	case wirev1.CallKind_CALL_KIND_SERVER_STREAM:
		m.Kind = octomesh.ServerStreaming
		s, err := octomesh.CallServerStream[request, response](ctx, c.ch, m, c.request(0), c.opts)
		if err != nil {
			return err
		}
		err = c.receive(s.Receive, -1)
		c.meta(s.Header(), s.Trailer())
		return err
	case wirev1.CallKind_CALL_KIND_CLIENT_STREAM:
		m.Kind = octomesh.ClientStreaming
		s, err := octomesh.CallClientStream[request, response](ctx, c.ch, m, c.opts)
		if err != nil {
			return err
		}
		c.send(s.Send, nil)
		if c.do.Options.KeepOpen {
			<-ctx.Done()
		}
		res, err := s.CloseAndReceive()
		if err == nil {
			c.took(res)
		}
		c.result.Unsent = uint32(s.Unsent())
		c.meta(s.Header(), s.Trailer())
		return err
	}
	m.Kind = octomesh.BidiStreaming
	return c.bidi(ctx, m)
}

func (c *call) bidi(ctx context.Context, m *octomesh.Method) error {
	s, err := octomesh.CallBidiStream[request, response](ctx, c.ch, m, c.opts)
	if err != nil {
		return err
	}
	var turn func() error
	if c.do.Options.FullDuplex {
		turn = func() error { return c.receive(s.Receive, 1) }
	}
	c.send(s.Send, turn)
	if !c.do.Options.KeepOpen {
		_ = s.CloseSend()
	}
	err = c.receive(s.Receive, -1)
	c.result.Unsent = uint32(s.Unsent())
	c.meta(s.Header(), s.Trailer())
	return err
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
func (c *call) send(send func(*request) error, turn func() error) {
	for i := range len(c.do.Requests) + int(c.do.Options.Repeat) {
		if err := send(c.request(min(i, len(c.do.Requests)-1))); err != nil {
			return
		}
		if turn != nil && turn() != nil {
			return
		}
	}
	if c.do.Options.CancelBeforeHalfClose {
		c.cancel()
	}
}

// receive takes responses: n, or all.
func (c *call) receive(next func() (*response, error), n int) error {
	o, got := c.do.Options, func() uint32 { return uint32(len(c.result.Responses)) }
	for ; n != 0; n-- {
		if o.CancelAfterResponses != nil && *o.CancelAfterResponses == got() {
			c.cancel()
		}
		if o.PauseAfterResponses != nil && *o.PauseAfterResponses == got() {
			<-c.paused
		}
		res, err := next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		c.took(res)
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

func (c *call) meta(header, trailer octomesh.Metadata) {
	c.result.Headers, c.result.Trailers = entries(header), entries(trailer)
}

func entries(m octomesh.Metadata) []*conformancev1.Entry {
	var all []*conformancev1.Entry
	for key, value := range m.All() {
		all = append(all, &conformancev1.Entry{Key: key, Value: []byte(value)})
	}
	return all
}

func outcome(err error) *conformancev1.Outcome {
	if err == nil {
		return &conformancev1.Outcome{}
	}
	var e *octomesh.Error
	if !errors.As(err, &e) {
		return &conformancev1.Outcome{Code: int32(octomesh.Unknown), Message: fmt.Sprintf("not the SDK's error: %T: %v", err, err)}
	}
	out := &conformancev1.Outcome{
		Code: int32(e.Code), Reason: wirev1.Reason(e.Reason), Origin: wirev1.Origin(e.Origin),
		Disposition: wirev1.Disposition(e.Disposition), Message: e.Message, AcceptedEncodings: e.AcceptedEncodings,
		Native: errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded),
	}
	for _, d := range e.Details() {
		out.Details = append(out.Details, &conformancev1.Detail{TypeUrl: d.TypeUrl, Value: d.Value})
	}
	return out
}
