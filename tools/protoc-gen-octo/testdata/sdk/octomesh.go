// Package octomesh has the declarations of the Go SDK that generated code uses, and nothing behind them.
package octomesh

import (
	"context"
	"time"
)

const RequireGen1 = true

type Kind int

const (
	Unary Kind = iota
	ClientStreaming
	ServerStreaming
	BidiStreaming
)

type Method struct {
	Service, Name string
	Kind          Kind
	Idempotent    bool
	Timeout       time.Duration
}

type (
	CallOption                 interface{ apply() }
	Caller                     interface{ call() }
	ReceiveStream[Res any]     struct{ _ [0]Res }
	SendStream[Req, Res any]   struct{ _ [0]Req }
	BidiStream[Req, Res any]   struct{ _ [0]Req }
	ServerSender[Res any]      struct{ _ [0]Res }
	ServerReceiver[Req any]    struct{ _ [0]Req }
	ServerStream[Req, Res any] struct{ _ [0]Req }
	Handler                    func()
	MethodDesc                 struct {
		Method  Method
		Handler Handler
	}
	ServiceDesc struct {
		Name    string
		Methods []MethodDesc
	}
	Registrar interface{ RegisterService(ServiceDesc) }
)

type Code int

const Unimplemented Code = 12

func Errorf(Code, string, ...any) error { return nil }

func CallUnary[Req, Res any](context.Context, Caller, *Method, *Req, []CallOption) (*Res, error) {
	return nil, nil
}

func CallServerStream[Req, Res any](context.Context, Caller, *Method, *Req, []CallOption) (*ReceiveStream[Res], error) {
	return nil, nil
}

func CallClientStream[Req, Res any](context.Context, Caller, *Method, []CallOption) (*SendStream[Req, Res], error) {
	return nil, nil
}

func CallBidiStream[Req, Res any](context.Context, Caller, *Method, []CallOption) (*BidiStream[Req, Res], error) {
	return nil, nil
}

func UnaryHandler[Req, Res any](func(context.Context, *Req) (*Res, error)) Handler { return nil }

func ServerStreamHandler[Req, Res any](func(context.Context, *Req, *ServerSender[Res]) error) Handler {
	return nil
}

func ClientStreamHandler[Req, Res any](func(context.Context, *ServerReceiver[Req]) (*Res, error)) Handler {
	return nil
}

func BidiStreamHandler[Req, Res any](func(context.Context, *ServerStream[Req, Res]) error) Handler {
	return nil
}
