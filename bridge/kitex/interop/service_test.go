package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/gopkg/protocol/thrift"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
)

// The service, in Thrift's words:
//
//	exception Broke { 1: string why }
//	service Billing { string Charge(1: string text) throws (1: Broke broke), oneway void Note(1: string text) }
const (
	idlService = "Billing"
	target     = "billing" // what clients call it, and its name in the mesh
)

// fields reads the fields of a struct up to its end.
func fields(b []byte, field func(id int16, kind thrift.TType, b []byte) (int, error)) (int, error) {
	for used := 0; ; {
		kind, id, n, err := thrift.Binary.ReadFieldBegin(b[used:])
		if used += n; err != nil || kind == thrift.STOP {
			return used, err
		}
		n, err = field(id, kind, b[used:])
		if used += n; err != nil {
			return used, err
		}
	}
}

// text is a string in a field of a struct, as arguments and exceptions have it.
type text struct{ value string }

func (t *text) BLength() int {
	return thrift.Binary.FieldBeginLength() + thrift.Binary.StringLength(t.value) + thrift.Binary.FieldStopLength()
}

func (t *text) FastWriteNocopy(b []byte, _ thrift.NocopyWriter) int {
	n := thrift.Binary.WriteFieldBegin(b, thrift.STRING, 1)
	n += thrift.Binary.WriteString(b[n:], t.value)
	return n + thrift.Binary.WriteFieldStop(b[n:])
}

func (t *text) FastRead(b []byte) (int, error) {
	return fields(b, func(id int16, kind thrift.TType, b []byte) (n int, err error) {
		if id != 1 || kind != thrift.STRING {
			return thrift.Binary.Skip(b, kind)
		}
		t.value, n, err = thrift.Binary.ReadString(b)
		return n, err
	})
}

func (t *text) GetFirstArgument() any { return t.value }

// outcome is a method's: a string, or the exception.
type outcome struct {
	value string
	broke *text
}

func (o *outcome) BLength() int {
	if o.broke != nil {
		return thrift.Binary.FieldBeginLength() + o.broke.BLength() + thrift.Binary.FieldStopLength()
	}
	return (&text{o.value}).BLength()
}

func (o *outcome) FastWriteNocopy(b []byte, w thrift.NocopyWriter) (n int) {
	if o.broke != nil {
		n = thrift.Binary.WriteFieldBegin(b, thrift.STRUCT, 1)
		n += o.broke.FastWriteNocopy(b[n:], w)
	} else {
		n = thrift.Binary.WriteFieldBegin(b, thrift.STRING, 0)
		n += thrift.Binary.WriteString(b[n:], o.value)
	}
	return n + thrift.Binary.WriteFieldStop(b[n:])
}

func (o *outcome) FastRead(b []byte) (int, error) {
	return fields(b, func(id int16, kind thrift.TType, b []byte) (n int, err error) {
		switch {
		case id == 0 && kind == thrift.STRING:
			o.value, n, err = thrift.Binary.ReadString(b)
		case id == 1 && kind == thrift.STRUCT:
			o.broke = &text{}
			n, err = o.broke.FastRead(b)
		default:
			n, err = thrift.Binary.Skip(b, kind)
		}
		return n, err
	})
}

func (o *outcome) GetResult() any { return o.value }

// billing is the handler.
type billing struct {
	noted chan string
	came  chan string   // calls that wait
	may   chan struct{} // closed: they go on
}

func newBilling() *billing {
	return &billing{noted: make(chan string, 64), came: make(chan string, 1024), may: make(chan struct{})}
}

func (b *billing) charge(ctx context.Context, in string, out *outcome) error {
	switch in {
	case "exception":
		out.broke = &text{"the till is empty"}
	case "error":
		return errors.New("the till burns")
	case "business":
		return kerrors.NewBizStatusErrorWithExtra(40001, "no money", map[string]string{"left": "0"})
	case "panic":
		panic("the till exploded")
	case "metainfo":
		lane, _ := metainfo.GetPersistentValue(ctx, "lane")
		once, _ := metainfo.GetValue(ctx, "once")
		parent, _ := metainfo.GetValue(ctx, "traceparent")
		metainfo.SendBackwardValue(ctx, "back", "wards")
		out.value = lane + " " + once + " " + parent
	case "caller":
		ri := rpcinfo.GetRPCInfo(ctx)
		out.value = fmt.Sprint(ri.From().ServiceName(), " ", ri.Config().RPCTimeout())
	case "wait":
		b.came <- in
		<-b.may
		out.value = in
	default:
		out.value = in
	}
	return nil
}

// service describes it as generated code does. A client's has a method that no server has.
func service(ofClient bool) *serviceinfo.ServiceInfo {
	in, out := func() any { return &text{} }, func() any { return &outcome{} }
	charge := serviceinfo.NewMethodInfo(func(ctx context.Context, h, arg, result any) error {
		return h.(*billing).charge(ctx, arg.(*text).value, result.(*outcome))
	}, in, out, false)
	s := &serviceinfo.ServiceInfo{
		ServiceName: idlService, HandlerType: (*any)(nil), PayloadCodec: serviceinfo.Thrift, Extra: map[string]any{"PackageName": "billing"},
		Methods: map[string]serviceinfo.MethodInfo{
			"Charge": charge,
			"Note": serviceinfo.NewMethodInfo(func(_ context.Context, h, arg, _ any) error {
				h.(*billing).noted <- arg.(*text).value
				return nil
			}, in, nil, true),
		},
	}
	if ofClient {
		s.Methods["Missing"] = charge
	}
	return s
}

func init() { klog.SetLevel(klog.LevelFatal) }

// startServer runs a server of Kitex's own.
func startServer(t *testing.T, h *billing, opts ...server.Option) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.NewServer(append([]server.Option{
		server.WithListener(l), server.WithMetaHandler(transmeta.ServerTTHeaderHandler), server.WithExitWaitTime(10 * time.Millisecond),
	}, opts...)...)
	if err := s.RegisterService(service(false), h); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	t.Cleanup(func() {
		// It waits 10 ms for its connections, and does not mind if these are open then.
		if err := s.Stop(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

// newClient is a client of Kitex's own.
func newClient(t *testing.T, address string, opts ...client.Option) client.Client {
	t.Helper()
	c, err := client.NewClient(service(true), append([]client.Option{
		client.WithDestService(target), client.WithHostPorts(address), client.WithTransportProtocol(transport.TTHeader),
		client.WithMetaHandler(transmeta.ClientTTHeaderHandler), client.WithRPCTimeout(patience),
		client.WithClientBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "shop"}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const patience = 30 * time.Second

// charge makes a call.
func charge(ctx context.Context, c client.Client, in string) (*outcome, error) {
	out := &outcome{}
	err := c.Call(ctx, "Charge", &text{in}, out)
	return out, err
}
