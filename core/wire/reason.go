package wire

import "fmt"

// Reason narrows a status that the mesh itself produced. The table is that of octo.wire.v1.Reason;
// a test holds the two together.
type Reason uint32

// The reasons. The numbers are the wire's.
const (
	ReasonUnspecified Reason = 0

	// The proxy is leaving and did not start the call.
	ReasonProxyDraining Reason = 1
	// The proxy has no usable configuration, or the instance is not attached (yet).
	ReasonProxyUnready Reason = 2
	// No connection to the next hop could be made; no byte of the call was written.
	ReasonProxyUnreachable Reason = 3
	// The caller may not call this.
	ReasonAuthDenied Reason = 10
	// A rate limit is used up; retry_after_ms says when to come back.
	ReasonRateLimited Reason = 11
	// The target's circuit breaker is open.
	ReasonCircuitOpen Reason = 12
	// The target is known and has no instance that may take the call.
	ReasonNoEndpoint Reason = 13
	// A bounded queue is full: a peer's, a stream limit's or a parking lot's.
	ReasonQueueFull Reason = 14
	// The process sheds load.
	ReasonOverloaded Reason = 15
	// No route and no registered target of that name, in a registry known to be complete.
	ReasonUnknownTarget Reason = 16
	// A fault that an operator injected.
	ReasonFaultInjected Reason = 17
	// The server has no such service.
	ReasonUnknownService Reason = 20
	// The service has no such method, or it is of another kind.
	ReasonUnknownMethod Reason = 21
	// The head does not parse, or breaks a rule of its fields.
	ReasonBadHead Reason = 22
	// The head, with what a hop must add, is over its limit.
	ReasonHeadTooLarge Reason = 23
	// A message is over the receiver's limit (of its uncompressed size, in an SDK).
	ReasonMessageTooLarge Reason = 24
	// The message encoding is not one the receiver can decode.
	ReasonUnknownEncoding Reason = 25
	// A message could not be decoded, or its count does not fit the kind of call.
	ReasonBadMessage Reason = 26
	// The content type is not one this receiver takes.
	ReasonUnknownContentType Reason = 27
	// A frame carries a critical flag that the receiver does not know.
	ReasonUnknownFlag Reason = 28
	// The frames of the stream break a rule of the protocol.
	ReasonStreamProtocol Reason = 29
	// The connection was lost after bytes of the call had been written.
	ReasonConnectionLost Reason = 40
	// The peer left, and its drain deadline passed, with the call unfinished.
	ReasonDrainDeadline Reason = 41
	// The time budget ran out.
	ReasonDeadline Reason = 42
	// The caller cancelled, or went away.
	ReasonCancelled Reason = 43
	// The handler crashed; its text stays in the server's log.
	ReasonHandlerCrashed Reason = 44
)

// ReasonRule is what the protocol promises of a reason.
type ReasonRule struct {
	Name        string
	Code        Code        // the code with which it comes
	Disposition Disposition // the disposition with which it originates
	Path        bool        // the path failed: with NOT_PROCESSED the caller may take another
}

var reasonRules = map[Reason]ReasonRule{
	ReasonProxyDraining:      {"PROXY_DRAINING", Unavailable, DispositionNotProcessed, true},
	ReasonProxyUnready:       {"PROXY_UNREADY", Unavailable, DispositionNotProcessed, true},
	ReasonProxyUnreachable:   {"PROXY_UNREACHABLE", Unavailable, DispositionNotProcessed, true},
	ReasonAuthDenied:         {"AUTH_DENIED", PermissionDenied, DispositionNotProcessed, false},
	ReasonRateLimited:        {"RATE_LIMITED", ResourceExhausted, DispositionNotProcessed, false},
	ReasonCircuitOpen:        {"CIRCUIT_OPEN", Unavailable, DispositionNotProcessed, false},
	ReasonNoEndpoint:         {"NO_ENDPOINT", Unavailable, DispositionNotProcessed, false},
	ReasonQueueFull:          {"QUEUE_FULL", ResourceExhausted, DispositionNotProcessed, false},
	ReasonOverloaded:         {"OVERLOADED", ResourceExhausted, DispositionNotProcessed, false},
	ReasonUnknownTarget:      {"UNKNOWN_TARGET", Unimplemented, DispositionNotProcessed, false},
	ReasonFaultInjected:      {"FAULT_INJECTED", Unavailable, DispositionNotProcessed, false},
	ReasonUnknownService:     {"UNKNOWN_SERVICE", Unimplemented, DispositionNotProcessed, false},
	ReasonUnknownMethod:      {"UNKNOWN_METHOD", Unimplemented, DispositionNotProcessed, false},
	ReasonBadHead:            {"BAD_HEAD", InvalidArgument, DispositionNotProcessed, false},
	ReasonHeadTooLarge:       {"HEAD_TOO_LARGE", ResourceExhausted, DispositionNotProcessed, false},
	ReasonMessageTooLarge:    {"MESSAGE_TOO_LARGE", ResourceExhausted, DispositionUnknown, false},
	ReasonUnknownEncoding:    {"UNKNOWN_ENCODING", Unimplemented, DispositionUnknown, false},
	ReasonBadMessage:         {"BAD_MESSAGE", Internal, DispositionUnknown, false},
	ReasonUnknownContentType: {"UNKNOWN_CONTENT_TYPE", Unimplemented, DispositionNotProcessed, false},
	ReasonUnknownFlag:        {"UNKNOWN_FLAG", Unimplemented, DispositionUnknown, false},
	ReasonStreamProtocol:     {"STREAM_PROTOCOL", Internal, DispositionUnknown, false},
	ReasonConnectionLost:     {"CONNECTION_LOST", Unavailable, DispositionUnknown, false},
	ReasonDrainDeadline:      {"DRAIN_DEADLINE", Unavailable, DispositionUnknown, false},
	ReasonDeadline:           {"DEADLINE", DeadlineExceeded, DispositionUnknown, false},
	ReasonCancelled:          {"CANCELLED", Cancelled, DispositionUnknown, false},
	ReasonHandlerCrashed:     {"HANDLER_CRASHED", Internal, DispositionProcessed, false},
}

// Rule returns what the protocol promises of the reason. Of an unknown one it promises nothing.
func (r Reason) Rule() ReasonRule {
	if rule, ok := reasonRules[r]; ok {
		return rule
	}
	return ReasonRule{Name: fmt.Sprintf("REASON_%d", uint32(r)), Code: Unknown}
}

// String returns the reason's name.
func (r Reason) String() string {
	if r == ReasonUnspecified {
		return "UNSPECIFIED"
	}
	return r.Rule().Name
}
