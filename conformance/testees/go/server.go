package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	conformancev1 "github.com/octomesh/octomesh/conformance/testees/go/gen/octo/conformance/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// Metadata that drives the handlers.
const (
	responseKey = "conformance-response-bin"
	callIDKey   = "conformance-call-id"
)

// server is one that runs, and its service.
type server struct {
	conformancev1.UnimplementedConformance
	*octomesh.Server
	testee *testee
	name   string
	ledger *frames
}

func (t *testee) start(c *conformancev1.StartServer) (address string, err error) {
	ledger, err := t.ledger(c.Ledger)
	if err != nil {
		return "", err
	}
	opts := []octomesh.ServerOption{
		octomesh.WithEnvironment(c.Environment), octomesh.WithInstance(c.Name), octomesh.WithSocket(c.Socket),
		octomesh.WithApplication(c.Target), octomesh.WithLogger(t.log), octomesh.WithMode("auto"),
		octomesh.WithDirectory(c.Registration.GetDirectories()...), octomesh.WithRegistration(registration(c.Registration)),
	}
	if c.Listen != "" {
		opts = append(opts, octomesh.WithListen(c.Listen))
	}
	if c.Tls != nil {
		opts = append(opts, files(c.Tls))
	}
	s := &server{Server: octomesh.NewServer(c.Target, opts...), testee: t, name: c.Name, ledger: ledger}
	conformancev1.RegisterConformance(s.Server, s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		select {
		case err = <-served:
		default:
		}
		return "", fmt.Errorf("server %s does not get ready: %w", c.Name, err)
	}
	t.mu.Lock()
	t.servers[c.Name] = s
	t.mu.Unlock()
	for _, a := range s.Addresses() {
		address = a.String()
		if a.Network() == "unix" {
			address = "unix:" + strings.TrimPrefix(address, "unix:")
		}
	}
	return address, nil
}

// registration is what the server says of itself. Not asked to, it says nothing: the reference peer, in a proxy's place, expects no
// connection and no call beside those of its script.
func registration(r *conformancev1.Registration) octomesh.Registration {
	out := octomesh.Registration{Off: r == nil, Zone: r.GetZone(), Tags: r.GetTags(), Weight: int(r.GetWeight())}
	if r != nil && r.Weight != nil && *r.Weight == 0 {
		out.Weight = -1
	}
	return out
}

func (t *testee) stop(name string, drain time.Duration) (cut bool, err error) {
	t.mu.Lock()
	s := t.servers[name]
	delete(t.servers, name)
	t.mu.Unlock()
	if s == nil {
		return false, fmt.Errorf("no server %s", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	return s.Shutdown(ctx) != nil, nil
}

// ledger is the connection to the runner's ledger.
func (t *testee) ledger(address string) (*frames, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.ledgers[address]; l != nil {
		return l, nil
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	t.ledgers[address] = &frames{out: nc}
	return t.ledgers[address], nil
}

// handling is one call in its handler.
type handling struct {
	*server
	ctx    context.Context
	method string
	id     string
	def    *conformancev1.ResponseDefinition
	read   uint32
	sent   uint32
	over   bool // the ledger knows that the context has ended
}

func (s *server) begin(ctx context.Context, method string, req *conformancev1.CallRequest) (*handling, error) {
	h := &handling{server: s, ctx: ctx, method: method, def: &conformancev1.ResponseDefinition{}}
	info := &conformancev1.RequestInfo{}
	for key, value := range octomesh.IncomingMetadata(ctx).All() {
		switch key {
		case responseKey:
			if err := proto.Unmarshal([]byte(value), h.def); err != nil {
				return nil, err
			}
		case callIDKey:
			h.id = value
		default:
			info.Metadata = append(info.Metadata, &conformancev1.Entry{Key: key, Value: []byte(value)})
		}
	}
	for key, value := range octomesh.Baggage(ctx).All() {
		info.Baggage = append(info.Baggage, &conformancev1.Entry{Key: key, Value: []byte(value)})
	}
	for _, at := range h.def.At {
		if at.Server == s.name && at.Response != nil {
			h.def = at.Response
			break
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		info.RemainingUs = proto.Int64(time.Until(deadline).Microseconds())
	}
	trace, _ := octomesh.Trace(ctx)
	info.Traceparent, info.Tracestate = trace.Traceparent, trace.Tracestate
	peer, _ := octomesh.PeerInfo(ctx)
	info.Application, info.HopsLeft, info.Verified = peer.Application, uint32(len(h.def.Hops)), peer.Verified
	if h.def.LedgerRequest && req != nil {
		info.Request, _ = proto.Marshal(req)
	}
	if req != nil {
		h.read = 1
	}
	s.testee.count(1)
	h.tell(conformancev1.LedgerEntry_EVENT_BEGAN, 0, info)
	for _, e := range h.def.Headers {
		if err := octomesh.SetHeader(ctx, e.Key, string(e.Value)); err != nil {
			return nil, err
		}
	}
	if h.def.EarlyHeaders {
		if err := octomesh.SendHeader(ctx); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (t *testee) count(n int) {
	t.mu.Lock()
	t.handlers += n
	t.mu.Unlock()
}

func (h *handling) tell(event conformancev1.LedgerEntry_Event, count uint32, info *conformancev1.RequestInfo) {
	e := &conformancev1.LedgerEntry{CallId: h.id, Event: event, Server: h.name, Method: h.method, Count: count, Info: info}
	if err := h.ledger.write(e); err != nil {
		h.testee.log.Error("the ledger is gone", "err", err)
	}
}

// hold waits where the definition says so, until it is released or the call is over.
func (h *handling) hold(at conformancev1.ResponseDefinition_Hold) error {
	if h.def.Hold != at {
		return nil
	}
	h.tell(conformancev1.LedgerEntry_EVENT_HELD, 0, nil)
	select {
	case <-h.testee.gate(h.id):
		return nil
	case <-h.ctx.Done():
		h.cancelled()
		return h.ctx.Err()
	}
}

func (h *handling) cancelled() {
	if !h.over {
		h.over = true
		h.tell(conformancev1.LedgerEntry_EVENT_CANCELLED, 0, nil)
	}
}

// end tells the ledger, and returns the status of the definition. It is deferred: a crash ends a call too.
func (h *handling) end() {
	if h.ctx.Err() != nil {
		h.cancelled()
	}
	h.tell(conformancev1.LedgerEntry_EVENT_ENDED, h.read, nil)
	h.testee.count(-1)
	h.testee.mu.Lock()
	delete(h.testee.gates, h.id)
	h.testee.mu.Unlock()
}

func (h *handling) status() error {
	for _, e := range h.def.Trailers {
		if err := octomesh.SetTrailer(h.ctx, e.Key, string(e.Value)); err != nil {
			return err
		}
	}
	switch h.def.Throw {
	case conformancev1.ResponseDefinition_THROW_NATIVE:
		return errors.New(h.def.Status.GetMessage())
	case conformancev1.ResponseDefinition_THROW_CRASH:
		panic(h.def.Status.GetMessage())
	}
	f := h.def.Status
	if f == nil {
		return nil
	}
	err := error(&octomesh.Error{Code: octomesh.Code(f.Code), Message: f.Message})
	if len(f.Details) > 0 {
		details := make([]proto.Message, len(f.Details))
		for i, d := range f.Details {
			details[i] = &anypb.Any{TypeUrl: d.TypeUrl, Value: d.Value}
		}
		err = octomesh.WithDetails(err, details...)
	}
	return err
}

// period is after how many bytes what is sent repeats itself.
const period = 251

// data is a payload's bytes.
func data(p *conformancev1.Payload) []byte {
	if p.GetSize() == 0 {
		return p.GetData()
	}
	b := make([]byte, p.Size)
	for i := range min(len(b), period) {
		b[i] = byte(i)
	}
	for n := period; n < len(b); n *= 2 { // byte by byte it would cost a build with the race detector more than the call
		copy(b[n:], b[:n])
	}
	return b
}

// single answers with one message.
func (h *handling) single(requests [][]byte) (*conformancev1.CallResponse, error) {
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_BEFORE_RESPONSES); err != nil {
		return nil, err
	}
	res := &conformancev1.CallResponse{}
	if len(h.def.Responses) > 0 {
		res.Data = data(h.def.Responses[0])
	}
	if h.def.Echo {
		res.Data = slices.Concat(requests...)
	}
	return res, h.status()
}

func (s *server) unary(ctx context.Context, method string, req *conformancev1.CallRequest) (*conformancev1.CallResponse, error) {
	h, err := s.begin(ctx, method, req)
	if err != nil {
		return nil, err
	}
	defer h.end()
	return h.single([][]byte{req.Data})
}

// stream sends the responses of the definition.
func (h *handling) stream(send func(*conformancev1.CallResponse) error) error {
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_BEFORE_RESPONSES); err != nil {
		return err
	}
	n := len(h.def.Responses)
	for i := range n + int(h.def.Repeat) {
		if err := h.send(send, data(h.def.Responses[min(i, n-1)])); err != nil {
			return err
		}
	}
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_AFTER_RESPONSES); err != nil {
		return err
	}
	return h.status()
}

func (h *handling) send(send func(*conformancev1.CallResponse) error, data []byte) error {
	if err := send(&conformancev1.CallResponse{Data: data}); err != nil {
		return err
	}
	if h.sent++; h.def.LedgerSends {
		h.tell(conformancev1.LedgerEntry_EVENT_SENT, h.sent, nil)
	}
	return nil
}

// receive reads requests, all or as many as the definition says.
func (h *handling) receive(next func() (*conformancev1.CallRequest, error), got func(data []byte) error) error {
	for h.def.Read == nil || h.read < *h.def.Read {
		req, err := next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		h.read++
		if err := got(req.Data); err != nil {
			return err
		}
	}
	return nil
}

// Unary implements the service.
func (s *server) Unary(ctx context.Context, req *conformancev1.CallRequest) (*conformancev1.CallResponse, error) {
	return s.unary(ctx, "Unary", req)
}

// Idempotent implements the service.
func (s *server) Idempotent(ctx context.Context, req *conformancev1.CallRequest) (*conformancev1.CallResponse, error) {
	return s.unary(ctx, "Idempotent", req)
}

// Throw implements the service.
func (s *server) Throw(ctx context.Context, req *conformancev1.CallRequest) (*conformancev1.CallResponse, error) {
	return s.unary(ctx, "Throw", req)
}

// ServerStream implements the service.
func (s *server) ServerStream(ctx context.Context, req *conformancev1.CallRequest, out *octomesh.ServerSender[conformancev1.CallResponse]) error {
	h, err := s.begin(ctx, "ServerStream", req)
	if err != nil {
		return err
	}
	defer h.end()
	if h.def.Echo {
		if err := h.send(out.Send, req.Data); err != nil {
			return err
		}
	}
	return h.stream(out.Send)
}

// ClientStream implements the service.
func (s *server) ClientStream(ctx context.Context, in *octomesh.ServerReceiver[conformancev1.CallRequest]) (*conformancev1.CallResponse, error) {
	h, err := s.begin(ctx, "ClientStream", nil)
	if err != nil {
		return nil, err
	}
	defer h.end()
	var requests [][]byte
	err = h.receive(in.Receive, func(data []byte) error {
		requests = append(requests, data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.single(requests)
}

// Bidi implements the service.
func (s *server) Bidi(ctx context.Context, stream *octomesh.ServerStream[conformancev1.CallRequest, conformancev1.CallResponse]) error {
	h, err := s.begin(ctx, "Bidi", nil)
	if err != nil {
		return err
	}
	defer h.end()
	err = h.receive(stream.Receive, func(data []byte) error {
		if !h.def.Echo {
			return nil
		}
		return h.send(stream.Send, data)
	})
	if err != nil {
		return err
	}
	return h.stream(stream.Send)
}

// Relay implements the service.
func (s *server) Relay(ctx context.Context, req *conformancev1.CallRequest) (*conformancev1.CallResponse, error) {
	h, err := s.begin(ctx, "Relay", req)
	if err != nil {
		return nil, err
	}
	defer h.end()
	if len(h.def.Hops) == 0 {
		return nil, octomesh.Errorf(octomesh.InvalidArgument, "a relay without a hop")
	}
	ch, err := s.testee.channel(h.def.Hops[0].Channel)
	if err != nil {
		return nil, err
	}
	h.def.Hops = h.def.Hops[1:]
	def, err := proto.Marshal(h.def)
	if err != nil {
		return nil, err
	}
	call := conformancev1.NewConformanceClient(ch).Unary
	if len(h.def.Hops) > 0 {
		call = conformancev1.NewConformanceClient(ch).Relay
	}
	return call(ctx, req, octomesh.Header(responseKey, string(def)), octomesh.Header(callIDKey, h.id))
}
