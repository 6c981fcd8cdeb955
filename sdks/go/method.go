package octomesh

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
)

// RequireGen1 is named by generated code of generation 1: an SDK that no longer or not yet knows that
// generation does not have the constant, so a mismatch shows when compiling and not in production.
const RequireGen1 = true

// Kind is the shape of a method. The numbers are those of octo.wire.v1.CallKind.
type Kind uint8

// The four kinds.
const (
	Unary           Kind = 1 // one request, one response
	ClientStreaming Kind = 2 // a stream of requests, one response
	ServerStreaming Kind = 3 // one request, a stream of responses
	BidiStreaming   Kind = 4 // two streams, independent of each other
)

var kindNames = [...]string{
	Unary: "unary", ClientStreaming: "client streaming", ServerStreaming: "server streaming", BidiStreaming: "bidi streaming",
}

// String returns the kind in words.
func (k Kind) String() string {
	if k >= Unary && k <= BidiStreaming {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// streamsIn tells whether the client may send any number of messages.
func (k Kind) streamsIn() bool { return k == ClientStreaming || k == BidiStreaming }

// streamsOut tells whether the server may send any number of messages.
func (k Kind) streamsOut() bool { return k == ServerStreaming || k == BidiStreaming }

// Method describes one method of a protobuf service. Generated code makes it and nobody changes it.
type Method struct {
	// Service is the protobuf service's full name, such as "shop.v1.Catalogue".
	Service string
	// Name is the method's name, such as "GetItem".
	Name string
	// Kind is the method's shape.
	Kind Kind
	// Idempotent says that running twice does the same as running once, so that the SDK may send a call
	// again after a connection was lost.
	Idempotent bool
	// Timeout is the default time budget of a call; 0 means none.
	Timeout time.Duration
}

// FullName returns "service/method".
func (m *Method) FullName() string { return m.Service + "/" + m.Name }

// Caller is what generated clients call through: a [*Channel], from [Dial] or from [NewInProcess].
type Caller interface {
	callUnary(ctx context.Context, m *Method, req, res proto.Message, opts []CallOption) error
	openStream(ctx context.Context, m *Method, first proto.Message, opts []CallOption) (*clientStream, error)
}

// Registrar is what generated code registers services with: a [*Server].
type Registrar interface {
	RegisterService(ServiceDesc)
}

// ServiceDesc is a service with its implementation. Generated code makes it.
type ServiceDesc struct {
	// Name is the protobuf service's full name.
	Name string
	// Methods are the service's methods, each with what handles it.
	Methods []MethodDesc
}

// MethodDesc is a method with what handles it.
type MethodDesc struct {
	Method  Method
	Handler Handler
}

// Handler handles the calls of one method. It is made by [UnaryHandler], [ServerStreamHandler],
// [ClientStreamHandler] or [BidiStreamHandler].
type Handler struct {
	kind       Kind
	newRequest func() proto.Message // of the kinds with one request
	unary      func(context.Context, proto.Message) (proto.Message, error)
	stream     func(context.Context, proto.Message, *serverStream) (proto.Message, error)
}

// message gives a generated type's pointer its interface. Generated code passes nothing else.
func message(m any) proto.Message {
	p, ok := m.(proto.Message)
	if !ok {
		panic(fmt.Sprintf("octomesh: %T is not a protobuf message", m))
	}
	return p
}

// newMessage makes an empty message of type *M.
func newMessage[M any]() proto.Message { return message(new(M)) }

// result gives a handler's response its interface. A typed nil must not count as an empty message.
func result[M any](m *M, err error) (proto.Message, error) {
	if m == nil {
		return nil, err
	}
	return message(m), err
}

// UnaryHandler makes a handler of a function that answers one request by one response.
func UnaryHandler[Req, Res any](f func(context.Context, *Req) (*Res, error)) Handler {
	return Handler{kind: Unary, newRequest: newMessage[Req],
		unary: func(ctx context.Context, req proto.Message) (proto.Message, error) {
			res, err := f(ctx, any(req).(*Req))
			return result(res, err)
		}}
}

// ServerStreamHandler makes a handler of a function that answers one request by any number of responses.
func ServerStreamHandler[Req, Res any](f func(context.Context, *Req, *ServerSender[Res]) error) Handler {
	return Handler{kind: ServerStreaming, newRequest: newMessage[Req],
		stream: func(ctx context.Context, req proto.Message, s *serverStream) (proto.Message, error) {
			return nil, f(ctx, any(req).(*Req), &ServerSender[Res]{s})
		}}
}

// ClientStreamHandler makes a handler of a function that answers any number of requests by one response.
func ClientStreamHandler[Req, Res any](f func(context.Context, *ServerReceiver[Req]) (*Res, error)) Handler {
	return Handler{kind: ClientStreaming,
		stream: func(ctx context.Context, _ proto.Message, s *serverStream) (proto.Message, error) {
			return result(f(ctx, &ServerReceiver[Req]{s}))
		}}
}

// BidiStreamHandler makes a handler of a function that receives and sends any number of messages.
func BidiStreamHandler[Req, Res any](f func(context.Context, *ServerStream[Req, Res]) error) Handler {
	return Handler{kind: BidiStreaming,
		stream: func(ctx context.Context, _ proto.Message, s *serverStream) (proto.Message, error) {
			return nil, f(ctx, &ServerStream[Req, Res]{ServerSender[Res]{s}, ServerReceiver[Req]{s}})
		}}
}
