// Package directory answers octo.directory.v1 to the applications beside a proxy: what the service does is in
// core/directory; here is what a proxy knows of targets, and how a call that ends in the proxy comes to the service.
package directory

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// serviceName is the protobuf service's full name.
const serviceName = "octo.directory.v1.Directory"

// kinds are the methods, and of what kind each is.
var kinds = map[string]wire.CallKind{
	"Watch": wire.KindServerStream, "Register": wire.KindBidiStream, "Report": wire.KindUnary,
}

// Check tells why a call cannot be answered here; ok: it can be, as the method.
func Check(h *wire.RequestHead) (method string, refused wire.Status, ok bool) {
	if string(h.Service) != serviceName {
		return "", wire.Refuse(wire.ReasonUnknownService, wire.OriginClientProxy, "the proxy serves "+serviceName+" and nothing else"), false
	}
	kind, known := kinds[string(h.Method)]
	if !known || h.Kind != wire.KindUnspecified && h.Kind != kind {
		return "", wire.Refuse(wire.ReasonUnknownMethod, wire.OriginClientProxy, "no such method of "+serviceName+", or it is of another kind"), false
	}
	return string(h.Method), wire.Status{}, true
}

// ErrLeaving is the cause with which the context of calls ends when the proxy leaves.
var ErrLeaving = errors.New("the proxy leaves")

// Answer answers a call that Check let pass, and ends it.
func Answer(s *directory.Service, l *session.Local, method string) {
	ctx, c := l.Context(), CallerOf(l.Session())
	var err error
	switch method {
	case "Watch":
		r := &directoryv1.WatchRequest{}
		if err = receiveOnly(l, r); err == nil {
			err = s.Watch(ctx, c, r, func(m *directoryv1.WatchResponse) error { return send(l, m) })
		}
	case "Register":
		err = s.Register(ctx, c, registerStream{l})
	case "Report":
		r := &directoryv1.ReportRequest{}
		if err = receiveOnly(l, r); err == nil {
			var res *directoryv1.ReportResponse
			if res, err = s.Report(c, r); err == nil {
				err = send(l, res)
			}
		}
	}
	l.End(statusOf(ctx, err))
}

// statusOf is the status with which a call ends.
func statusOf(ctx context.Context, err error) wire.Status {
	var bad *badMessage
	switch {
	case err == nil:
		return wire.Status{}
	case errors.Is(context.Cause(ctx), ErrLeaving):
		st := wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, "the proxy leaves: come to its successor")
		st.Disposition = wire.DispositionProcessed // begun, and given up: a new call says all again
		return st
	case errors.As(err, &bad):
		return wire.Refuse(wire.ReasonBadMessage, wire.OriginClientProxy, bad.Error())
	}
	return directory.Status(err, wire.OriginClientProxy)
}

// CallerOf is who calls on a session of a local application.
func CallerOf(s *session.Session) directory.Caller {
	p := s.Peer()
	return directory.Caller{Connection: s, Application: p.Application, Instance: p.Instance, Incarnation: p.Incarnation, SDK: p.SDK, SDKVersion: p.SDKVersion}
}

// badMessage says that a request does not decode.
type badMessage struct{ why string }

func (b *badMessage) Error() string { return b.why }

// receiveOnly receives the only request of a call.
func receiveOnly(l *session.Local, into proto.Message) error {
	b, err := l.Receive()
	if err != nil {
		return &badMessage{"the call has no request"}
	}
	return decode(b, into)
}

func decode(b []byte, into proto.Message) error {
	if err := proto.Unmarshal(b, into); err != nil {
		return &badMessage{"a request does not decode: " + err.Error()}
	}
	return nil
}

func send(l *session.Local, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return l.Send(b)
}

// registerStream is a Register call.
type registerStream struct{ *session.Local }

func (r registerStream) Receive() (*directoryv1.RegisterRequest, error) {
	b, err := r.Local.Receive()
	if err != nil {
		return nil, err
	}
	m := &directoryv1.RegisterRequest{}
	return m, decode(b, m)
}

func (r registerStream) Send(m *directoryv1.RegisterResponse) error { return send(r.Local, m) }
