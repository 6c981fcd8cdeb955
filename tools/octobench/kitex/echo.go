package main

import (
	"context"

	"github.com/cloudwego/gopkg/protocol/thrift"
	"github.com/cloudwego/kitex/pkg/serviceinfo"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// method is the only one of the service.
const method = "Echo"

// service describes the echo service as Kitex' generated code does: Thrift, for which its codec is at its best.
func service() *serviceinfo.ServiceInfo {
	return &serviceinfo.ServiceInfo{
		ServiceName: side.Service,
		HandlerType: (*echoer)(nil),
		Methods: map[string]serviceinfo.MethodInfo{
			method: serviceinfo.NewMethodInfo(handle,
				func() any { return newArgument(nil) }, func() any { return newResult() },
				false, serviceinfo.WithStreamingMode(serviceinfo.StreamingUnary)),
		},
		PayloadCodec: serviceinfo.Thrift,
		Extra:        map[string]any{"PackageName": "octobench"},
	}
}

// echoer is what a server implements.
type echoer interface {
	Echo(ctx context.Context, in *side.Message) (*side.Message, error)
}

// handler is the one of all our servers.
type handler struct{}

func (*handler) Echo(ctx context.Context, in *side.Message) (*side.Message, error) {
	return side.Echo(ctx, in)
}

func handle(ctx context.Context, h, arg, res any) error {
	out, err := h.(echoer).Echo(ctx, arg.(*argument).message)
	res.(*result).message = out
	return err
}

// The ids of the fields that Thrift gives a method's only argument and its result.
const (
	argumentField = 1
	resultField   = 0
	valueField    = 1 // of the message
)

// carried is a message as Thrift has it: a struct, in a field of another, with bytes in its only field. It is
// what Kitex' own fast codec would be generated to.
type carried struct {
	field   int16
	message *side.Message
}

// BLength is how long FastWriteNocopy makes it.
func (c *carried) BLength() int {
	return 2*(thrift.Binary.FieldBeginLength()+thrift.Binary.FieldStopLength()) + thrift.Binary.BinaryLengthNocopy(c.message.Value)
}

// FastWriteNocopy writes it.
func (c *carried) FastWriteNocopy(buf []byte, w thrift.NocopyWriter) int {
	n := thrift.Binary.WriteFieldBegin(buf, thrift.STRUCT, c.field)
	n += thrift.Binary.WriteFieldBegin(buf[n:], thrift.STRING, valueField)
	n += thrift.Binary.WriteBinaryNocopy(buf[n:], w, c.message.Value)
	n += thrift.Binary.WriteFieldStop(buf[n:])
	return n + thrift.Binary.WriteFieldStop(buf[n:])
}

// FastRead reads it.
func (c *carried) FastRead(buf []byte) (int, error) {
	c.message = &side.Message{}
	return fieldsOf(buf, func(id int16, kind thrift.TType, buf []byte) (int, error) {
		if id != c.field || kind != thrift.STRUCT {
			return thrift.Binary.Skip(buf, kind)
		}
		return fieldsOf(buf, func(id int16, kind thrift.TType, buf []byte) (n int, err error) {
			if id != valueField || kind != thrift.STRING {
				return thrift.Binary.Skip(buf, kind)
			}
			c.message.Value, n, err = thrift.Binary.ReadBinary(buf)
			return n, err
		})
	})
}

// fieldsOf reads the fields of a struct up to its end.
func fieldsOf(buf []byte, field func(id int16, kind thrift.TType, buf []byte) (int, error)) (int, error) {
	for used := 0; ; {
		kind, id, n, err := thrift.Binary.ReadFieldBegin(buf[used:])
		if used += n; err != nil || kind == thrift.STOP {
			return used, err
		}
		n, err = field(id, kind, buf[used:])
		if used += n; err != nil {
			return used, err
		}
	}
}

// argument is a call's request.
type argument struct{ carried }

func newArgument(m *side.Message) *argument { return &argument{carried{argumentField, m}} }

// GetFirstArgument gives Kitex the request.
func (a *argument) GetFirstArgument() any { return a.message }

// result is a call's response.
type result struct{ carried }

func newResult() *result { return &result{carried{field: resultField}} }

// GetResult gives Kitex the response.
func (r *result) GetResult() any { return r.message }
