package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

const serviceName = "octo.conformance.v1.Conformance"

// server is one that runs, and its service.
type server struct {
	grpc   *grpc.Server
	testee *testee
	name   string
	ledger *frames
}

// description is the service as gRPC's generator would write it.
func description() *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil)}
	for _, method := range []string{"Unary", "Idempotent", "Throw", "Relay"} {
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: method, Handler: func(s any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			req := &request{}
			if err := decode(req); err != nil {
				return nil, err
			}
			return s.(*server).unary(ctx, method, req)
		}})
	}
	for method, run := range map[string]func(*handling, grpc.ServerStream) error{
		"ServerStream": (*handling).serverStream, "ClientStream": (*handling).clientStream, "Bidi": (*handling).bidi,
	} {
		d.Streams = append(d.Streams, grpc.StreamDesc{
			StreamName: method, ServerStreams: method != "ClientStream", ClientStreams: method != "ServerStream",
			Handler: func(s any, stream grpc.ServerStream) error { return s.(*server).stream(method, stream, run) },
		})
	}
	return d
}

func (t *testee) start(c *conformancev1.StartServer) (address string, err error) {
	path, ok := strings.CutPrefix(c.Listen, "unix:")
	if !ok || c.Socket != "" || c.Tls != nil {
		return "", errors.New("a stock server listens on a Unix socket, where its proxy dials it")
	}
	ledger, err := t.ledger(c.Ledger)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	s := &server{grpc: grpc.NewServer(), testee: t, name: c.Name, ledger: ledger}
	s.grpc.RegisterService(description(), s)
	go func() { _ = s.grpc.Serve(l) }()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.servers[c.Name] = s
	return c.Listen, nil
}

func (t *testee) stop(name string, drain time.Duration) (cut bool, err error) {
	t.mu.Lock()
	s := t.servers[name]
	delete(t.servers, name)
	t.mu.Unlock()
	if s == nil {
		return false, fmt.Errorf("no server %s", name)
	}
	return s.end(context.Background(), drain), nil
}

// end stops a server; it tells whether calls were cut off.
func (s *server) end(ctx context.Context, drain time.Duration) (cut bool) {
	ctx, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	over := make(chan struct{})
	go func() { defer close(over); s.grpc.GracefulStop() }()
	select {
	case <-over:
		return false
	case <-ctx.Done():
		s.grpc.Stop()
		<-over
		return true
	}
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
	next   metadata.MD // what a relay passes on
	read   uint32
	sent   uint32
	over   bool // the ledger knows that the context has ended
}

func (s *server) begin(ctx context.Context, method string, req *request) (*handling, error) {
	h := &handling{server: s, ctx: ctx, method: method, def: &conformancev1.ResponseDefinition{}, next: metadata.MD{}}
	info := &conformancev1.RequestInfo{}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, e := range entries(md) {
		switch value := string(e.Value); e.Key {
		case responseKey:
			if err := proto.Unmarshal(e.Value, h.def); err != nil {
				return nil, err
			}
		case callIDKey:
			h.id = value
		case "traceparent":
			info.Traceparent = value
			h.next.Append(e.Key, value)
		case "tracestate":
			info.Tracestate = value
			h.next.Append(e.Key, value)
		case "baggage":
			info.Baggage = append(info.Baggage, unbaggage(value)...)
			h.next.Append(e.Key, value)
		case "user-agent":
		default:
			info.Metadata = append(info.Metadata, e)
		}
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
	info.HopsLeft = uint32(len(h.def.Hops))
	if req != nil {
		h.read = 1
		if h.def.LedgerRequest {
			info.Request, _ = proto.Marshal(req)
		}
	}
	s.testee.count(1)
	h.tell(conformancev1.LedgerEntry_EVENT_BEGAN, 0, info)
	md = metadata.MD{}
	for _, e := range h.def.Headers {
		md.Append(e.Key, string(e.Value))
	}
	if h.def.EarlyHeaders {
		return h, grpc.SendHeader(ctx, md)
	}
	return h, grpc.SetHeader(ctx, md)
}

func (t *testee) count(n int) {
	t.mu.Lock()
	t.handlers += n
	t.mu.Unlock()
}

func (h *handling) tell(event conformancev1.LedgerEntry_Event, count uint32, info *conformancev1.RequestInfo) {
	e := &conformancev1.LedgerEntry{CallId: h.id, Event: event, Server: h.name, Method: h.method, Count: count, Info: info}
	if err := h.ledger.write(e); err != nil {
		fmt.Fprintln(os.Stderr, "the ledger is gone:", err)
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
		return status.FromContextError(h.ctx.Err()).Err()
	}
}

func (h *handling) cancelled() {
	if !h.over {
		h.over = true
		h.tell(conformancev1.LedgerEntry_EVENT_CANCELLED, 0, nil)
	}
}

// end tells the ledger.
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

// status is that of the definition.
func (h *handling) status() error {
	md := metadata.MD{}
	for _, e := range h.def.Trailers {
		md.Append(e.Key, string(e.Value))
	}
	if err := grpc.SetTrailer(h.ctx, md); err != nil {
		return err
	}
	f := h.def.Status
	if h.def.Throw == conformancev1.ResponseDefinition_THROW_NATIVE {
		return errors.New(f.GetMessage())
	}
	if f == nil || f.Code == 0 {
		return nil
	}
	p := &statuspb.Status{Code: f.Code, Message: f.Message}
	for _, d := range f.Details {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: d.TypeUrl, Value: d.Value})
	}
	return status.ErrorProto(p)
}

// period is after how many bytes what is sent repeats itself.
const period = 251

// data is a payload's bytes.
func data(p *conformancev1.Payload) []byte {
	if p.GetSize() == 0 {
		return p.GetData()
	}
	b := make([]byte, p.Size)
	for i := range b {
		b[i] = byte(i % period)
	}
	return b
}

// single answers with one message.
func (h *handling) single(requests [][]byte) (*response, error) {
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_BEFORE_RESPONSES); err != nil {
		return nil, err
	}
	res := &response{}
	if len(h.def.Responses) > 0 {
		res.Data = data(h.def.Responses[0])
	}
	if h.def.Echo {
		res.Data = slices.Concat(requests...)
	}
	return res, h.status()
}

func (s *server) unary(ctx context.Context, method string, req *request) (*response, error) {
	h, err := s.begin(ctx, method, req)
	if err != nil {
		return nil, err
	}
	defer h.end()
	if method == "Relay" {
		return h.relay(req)
	}
	return h.single([][]byte{req.Data})
}

// relay calls the next hop with the context that it received.
func (h *handling) relay(req *request) (*response, error) {
	if len(h.def.Hops) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a relay without a hop")
	}
	ch, err := h.testee.channel(h.def.Hops[0].Channel)
	if err != nil {
		return nil, err
	}
	h.def.Hops = h.def.Hops[1:]
	def, err := proto.Marshal(h.def)
	if err != nil {
		return nil, err
	}
	method := "Unary"
	if len(h.def.Hops) > 0 {
		method = "Relay"
	}
	h.next.Append(responseKey, string(def))
	h.next.Append(callIDKey, h.id)
	res := &response{}
	return res, ch.Invoke(metadata.NewOutgoingContext(h.ctx, h.next), "/"+serviceName+"/"+method, req, res)
}

func (s *server) stream(method string, stream grpc.ServerStream, run func(*handling, grpc.ServerStream) error) error {
	h, err := s.begin(stream.Context(), method, nil)
	if err != nil {
		return err
	}
	defer h.end()
	return run(h, stream)
}

// answer sends the responses of the definition.
func (h *handling) answer(s grpc.ServerStream) error {
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_BEFORE_RESPONSES); err != nil {
		return err
	}
	n := len(h.def.Responses)
	for i := range n + int(h.def.Repeat) {
		if err := h.send(s, data(h.def.Responses[min(i, n-1)])); err != nil {
			return err
		}
	}
	if err := h.hold(conformancev1.ResponseDefinition_HOLD_AFTER_RESPONSES); err != nil {
		return err
	}
	return h.status()
}

func (h *handling) send(s grpc.ServerStream, data []byte) error {
	if err := s.SendMsg(&response{Data: data}); err != nil {
		return err
	}
	if h.sent++; h.def.LedgerSends {
		h.tell(conformancev1.LedgerEntry_EVENT_SENT, h.sent, nil)
	}
	return nil
}

// receive reads requests, all or as many as the definition says.
func (h *handling) receive(s grpc.ServerStream, got func(data []byte) error) error {
	for h.def.Read == nil || h.read < *h.def.Read {
		req := &request{}
		switch err := s.RecvMsg(req); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		h.read++
		if err := got(req.Data); err != nil {
			return err
		}
	}
	return nil
}

func (h *handling) serverStream(s grpc.ServerStream) error {
	req := &request{}
	if err := s.RecvMsg(req); err != nil {
		return err
	}
	h.read = 1
	if h.def.Echo {
		if err := h.send(s, req.Data); err != nil {
			return err
		}
	}
	return h.answer(s)
}

func (h *handling) clientStream(s grpc.ServerStream) error {
	var requests [][]byte
	err := h.receive(s, func(data []byte) error {
		requests = append(requests, data)
		return nil
	})
	if err != nil {
		return err
	}
	res, err := h.single(requests)
	if err != nil {
		return err
	}
	return s.SendMsg(res)
}

func (h *handling) bidi(s grpc.ServerStream) error {
	err := h.receive(s, func(data []byte) error {
		if !h.def.Echo {
			return nil
		}
		return h.send(s, data)
	})
	if err != nil {
		return err
	}
	return h.answer(s)
}

// baggage writes entries as W3C has them.
func baggage(all []*conformancev1.Entry) string {
	var parts []string
	for _, e := range all {
		parts = append(parts, e.Key+"="+strings.ReplaceAll(url.QueryEscape(string(e.Value)), "+", "%20"))
	}
	return strings.Join(parts, ",")
}

// unbaggage reads them.
func unbaggage(header string) (all []*conformancev1.Entry) {
	for one := range strings.SplitSeq(header, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(one), "=")
		if raw, err := url.PathUnescape(value); err == nil {
			all = append(all, &conformancev1.Entry{Key: key, Value: []byte(raw)})
		}
	}
	return all
}
