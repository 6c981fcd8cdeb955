package octomesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/octomesh/octomesh/core/wire"
)

// Error is how a call ended, equal through the mesh and direct. Every error that a generated client
// returns is one: get it with errors.As, or only its code with [CodeOf]. A handler makes one with
// [Errorf]; of what a handler returns only code, message, details and retry-after reach the client.
//
// errors.Is(err, context.Canceled) holds for CANCELLED and errors.Is(err, context.DeadlineExceeded) for
// DEADLINE_EXCEEDED. errors.Is(err, &Error{Code: NotFound}) compares codes, and the reason if it is set.
type Error struct {
	Code Code
	// Reason narrows an error of the mesh's own; an application's has none.
	Reason Reason
	// Origin is who concluded the error.
	Origin Origin
	// Disposition says whether a handler may have seen the call.
	Disposition Disposition
	// Message is text for people; no program should depend on it.
	Message string
	// RetryAfter is when a retry may succeed, from now; 0 says nothing.
	RetryAfter time.Duration
	// Trailer is the metadata that came with the end of the call.
	Trailer Metadata
	// AcceptedEncodings is what the other end can decode, where it said so.
	AcceptedEncodings []string

	details []byte // a serialized google.rpc.Status, untouched
	cause   error  // what an interceptor returned
}

// Errorf returns an error for a handler to return. Its origin is set when it leaves the handler.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err: OK of nil, UNKNOWN of an error that is none of a call, CANCELLED and
// DEADLINE_EXCEEDED of the context package's two.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	}
	return Unknown
}

// WithDetails returns err, which should be an [*Error], with details for programs: protobuf messages that
// the client gets from [Error.Details]. An Any is a detail as it stands, also of a type that this program
// does not know. A detail that does not serialize is returned as an error instead.
func WithDetails(err error, details ...proto.Message) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeOf(err), Message: err.Error()}
	}
	anys := e.Details()
	for _, d := range details {
		a, err := packed(d)
		if err != nil {
			return &Error{Code: Internal, Message: "a detail does not serialize: " + err.Error()}
		}
		anys = append(anys, a)
	}
	with := *e
	with.details = appendDetails(nil, e.Code, e.Message, anys)
	return &with
}

func packed(detail proto.Message) (*anypb.Any, error) {
	if a, ok := detail.(*anypb.Any); ok {
		return a, nil
	}
	return anypb.New(detail)
}

// Details returns the details of the error in their order, also those of types that this program does not
// know. It returns nil if there are none or they do not parse.
func (e *Error) Details() []*anypb.Any { return parseDetails(e.details) }

// Error says code, message, and who concluded it.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code.String())
	if e.Message != "" {
		b.WriteString(": ")
		b.WriteString(strings.ToValidUTF8(e.Message, "\uFFFD"))
	}
	if e.Reason != 0 || e.Origin != 0 {
		fmt.Fprintf(&b, " (%v", e.Origin)
		if e.Reason != 0 {
			fmt.Fprintf(&b, ", %v", e.Reason)
		}
		fmt.Fprintf(&b, ", %v)", e.Disposition)
	}
	return b.String()
}

// Is compares with the context package's errors and with another Error, as the type's comment says.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == Cancelled
	case context.DeadlineExceeded:
		return e.Code == DeadlineExceeded
	}
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Reason == 0 || t.Reason == e.Reason)
}

// Unwrap returns the error that an interceptor of this process returned, or nil.
func (e *Error) Unwrap() error { return e.cause }

// wrapError makes an Error of one that this process concluded.
func wrapError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		with := *e
		with.cause = err
		return &with
	}
	return &Error{Code: CodeOf(err), Origin: OriginClientSDK, Message: err.Error(), cause: err}
}

// fromWire makes an error of a status that is not OK.
func fromWire(st *wire.Status) *Error {
	return &Error{
		Code: Code(st.Code), Reason: Reason(st.Reason), Origin: Origin(st.Origin),
		Disposition: Disposition(st.Disposition), Message: string(st.Message),
		RetryAfter: time.Duration(st.RetryAfterMS) * time.Millisecond,
		details:    append([]byte(nil), st.Details...),
	}
}

// refused makes an error that this client's SDK concludes itself.
func refused(reason wire.Reason, format string, args ...any) *Error {
	st := wire.Refuse(reason, wire.OriginClientSDK, fmt.Sprintf(format, args...))
	return fromWire(&st)
}

// unsent is refused for a call of which nothing was sent.
func unsent(reason wire.Reason, format string, args ...any) *Error {
	e := refused(reason, format, args...)
	e.Disposition = DispositionNotProcessed
	return e
}

// clone is for an error that ends several calls: each caller owns its own.
func (e *Error) clone() *Error {
	own := *e
	return &own
}

// badCall is the error of a call that its caller built wrongly; nothing is sent.
func badCall(format string, args ...any) *Error {
	return &Error{Code: InvalidArgument, Origin: OriginClientSDK, Disposition: DispositionNotProcessed,
		Message: fmt.Sprintf(format, args...)}
}

// fromHandler turns what a handler returned into the status that leaves the server: the handler's word is
// always the application's, never a downstream's passed on as one's own.
func fromHandler(err error) wire.Status {
	st := wire.Status{Origin: wire.OriginApplication, Disposition: wire.DispositionProcessed}
	var e *Error
	if !errors.As(err, &e) {
		st.Code = wire.Code(CodeOf(err))
		st.Message = []byte(err.Error())
		return st
	}
	st.Code, st.Message, st.Details = wire.Code(e.Code), []byte(e.Message), e.details
	if e.RetryAfter > 0 {
		st.RetryAfterMS = uint32(min(e.RetryAfter.Milliseconds(), 1<<32-1))
	}
	return st
}
