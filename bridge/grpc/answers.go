package grpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/proxy"
	answers "github.com/octomesh/octomesh/core/proxy/directory"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// learn is how long a question waits for the control plane's first word about a target.
const learn = 5 * time.Second

// Answers answers in the proxy what gRPC's clients ask of a server, and no single server behind a proxy can say: which services
// there are, and how they are.
type Answers struct {
	// Config is that of the connections that the questions come on.
	Config *Config
	// Services are known by name: their health is listed, and the schemas of their targets.
	Services []string
	// Targets are further ones whose schemas are listed.
	Targets []string
	// Schemas are what reflection tells. nil: what the proxy itself answers, and no more.
	Schemas Schemas
	// Passed tells which of the services that are answered here are not: calls to them go on, as to any service. nil: none.
	Passed func(service string) bool
}

var _ proxy.Answerer = (*Answers)(nil)

const healthService = "grpc.health.v1.Health"

// Answers implements proxy.Answerer.
func (a *Answers) Answers(service []byte) bool {
	switch string(service) {
	case healthService, reflectionService, reflectionAlpha:
		return a.Passed == nil || !a.Passed(string(service))
	}
	return false
}

// Answer implements proxy.Answerer.
func (a *Answers) Answer(m proxy.Mesh, l *session.Local, q proxy.Question) {
	ask := &question{Question: q, a: a, mesh: m, l: l}
	var err error
	if q.Service == healthService {
		err = ask.health()
	} else {
		err = ask.reflect()
	}
	l.End(ask.end(err))
}

// question is one call that is answered here.
type question struct {
	proxy.Question
	a    *Answers
	mesh proxy.Mesh
	l    *session.Local
}

// receive receives the next message; io.EOF: the client says nothing more.
func (q *question) receive(into proto.Message) error {
	raw, err := q.l.Receive()
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(raw, into); err != nil {
		return status.Error(codes.InvalidArgument, "a request does not decode: "+err.Error())
	}
	return nil
}

// receiveOnly receives the only message.
func (q *question) receiveOnly(into proto.Message) error {
	err := q.receive(into)
	if errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "the call has no request")
	}
	return err
}

func (q *question) send(m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return q.l.Send(raw)
}

// end is the status that a call ends with.
func (q *question) end(err error) wire.Status {
	var said interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return wire.Status{}
	case errors.As(err, &said):
		st := said.GRPCStatus()
		return wire.Status{Code: wire.Code(st.Code()), Message: []byte(st.Message()), Origin: wire.OriginBridge, Disposition: wire.DispositionProcessed}
	case errors.Is(context.Cause(q.l.Context()), answers.ErrLeaving):
		st := wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, "the proxy leaves: come to its successor")
		st.Disposition = wire.DispositionProcessed
		return st
	}
	return wire.Refuse(wire.ReasonCancelled, wire.OriginBridge, err.Error())
}

// noMethod says that a service has no method of a name.
func (q *question) noMethod() error {
	return status.Errorf(codes.Unimplemented, "%s has no method %s", q.Service, q.Method)
}

// target is whom a question about a service is about: the service's target. If no service is named it is the target that the
// authority means, and "", the proxy itself, if it means none.
func (q *question) target(service string) string {
	if service != "" {
		return q.a.Config.target(q.Authority, service)
	}
	if t := q.a.Config.target(q.Authority, q.Service); t != q.Service {
		return t
	}
	return ""
}

// follow begins to follow a target; what has changed comes as news, which holds one element.
func (q *question) follow(target string) (news chan struct{}, stop func(), err error) {
	news = make(chan struct{}, 1)
	stop, err = q.mesh.Follow(target, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	return news, stop, nil
}
