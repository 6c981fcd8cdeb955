package octomesh

import "github.com/octomesh/octomesh/core/wire"

// Code says what went wrong, for a caller that decides what to do next. The numbers are those of
// google.rpc.Code; a code outside 0 to 16 travels verbatim.
type Code int32

// The codes that have names.
const (
	OK                 Code = 0
	Cancelled          Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

// String returns the code's name, such as "NOT_FOUND", or "CODE_n".
func (c Code) String() string { return wire.Code(c).String() }

// Origin says who concluded an error: the answer to "is it the mesh or my service".
type Origin uint8

// The origins.
const (
	OriginUnspecified Origin = 0
	OriginApplication Origin = 1 // the called service's handler
	OriginServerSDK   Origin = 2
	OriginServerProxy Origin = 3
	OriginClientProxy Origin = 4
	OriginClientSDK   Origin = 5
	OriginBridge      Origin = 6 // a foreign RPC stack, or the bridge to it
)

// String returns the origin's name, such as "APPLICATION".
func (o Origin) String() string { return wire.Origin(o).String() }

// Disposition says whether a handler may have seen the call, which decides whether it may be sent again.
type Disposition uint8

// The dispositions.
const (
	DispositionUnknown      Disposition = 0 // somebody may have begun it
	DispositionNotProcessed Disposition = 1 // surely no handler saw it
	DispositionProcessed    Disposition = 2 // a handler saw it
)

// String returns the disposition's name, such as "NOT_PROCESSED".
func (d Disposition) String() string { return wire.Disposition(d).String() }

// Reason narrows an error that the mesh itself concluded; an application's error has none.
type Reason uint32

// The reasons. proto/spec/errors.md says of each who originates it and what to do about it.
const (
	ReasonUnspecified        = Reason(wire.ReasonUnspecified)
	ReasonProxyDraining      = Reason(wire.ReasonProxyDraining)
	ReasonProxyUnready       = Reason(wire.ReasonProxyUnready)
	ReasonProxyUnreachable   = Reason(wire.ReasonProxyUnreachable)
	ReasonAuthDenied         = Reason(wire.ReasonAuthDenied)
	ReasonRateLimited        = Reason(wire.ReasonRateLimited)
	ReasonCircuitOpen        = Reason(wire.ReasonCircuitOpen)
	ReasonNoEndpoint         = Reason(wire.ReasonNoEndpoint)
	ReasonQueueFull          = Reason(wire.ReasonQueueFull)
	ReasonOverloaded         = Reason(wire.ReasonOverloaded)
	ReasonUnknownTarget      = Reason(wire.ReasonUnknownTarget)
	ReasonFaultInjected      = Reason(wire.ReasonFaultInjected)
	ReasonUnknownService     = Reason(wire.ReasonUnknownService)
	ReasonUnknownMethod      = Reason(wire.ReasonUnknownMethod)
	ReasonBadHead            = Reason(wire.ReasonBadHead)
	ReasonHeadTooLarge       = Reason(wire.ReasonHeadTooLarge)
	ReasonMessageTooLarge    = Reason(wire.ReasonMessageTooLarge)
	ReasonUnknownEncoding    = Reason(wire.ReasonUnknownEncoding)
	ReasonBadMessage         = Reason(wire.ReasonBadMessage)
	ReasonUnknownContentType = Reason(wire.ReasonUnknownContentType)
	ReasonUnknownFlag        = Reason(wire.ReasonUnknownFlag)
	ReasonStreamProtocol     = Reason(wire.ReasonStreamProtocol)
	ReasonConnectionLost     = Reason(wire.ReasonConnectionLost)
	ReasonDrainDeadline      = Reason(wire.ReasonDrainDeadline)
	ReasonDeadline           = Reason(wire.ReasonDeadline)
	ReasonCancelled          = Reason(wire.ReasonCancelled)
	ReasonHandlerCrashed     = Reason(wire.ReasonHandlerCrashed)
)

// String returns the reason's name, such as "RATE_LIMITED".
func (r Reason) String() string { return wire.Reason(r).String() }
