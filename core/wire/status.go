package wire

import "fmt"

// Code says what went wrong. The numbers are google.rpc.Code's; others travel verbatim.
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

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String returns the code's name, or its number.
func (c Code) String() string {
	if c >= 0 && int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("CODE_%d", int32(c))
}

// Origin says who concluded a status.
type Origin uint8

// The origins. The numbers are the wire's.
const (
	OriginUnspecified Origin = iota
	OriginApplication
	OriginServerSDK
	OriginServerProxy
	OriginClientProxy
	OriginClientSDK
	OriginBridge
)

var originNames = [...]string{
	"UNSPECIFIED", "APPLICATION", "SERVER_SDK", "SERVER_PROXY", "CLIENT_PROXY", "CLIENT_SDK", "BRIDGE",
}

// String returns the origin's name.
func (o Origin) String() string {
	if int(o) < len(originNames) {
		return originNames[o]
	}
	return fmt.Sprintf("ORIGIN_%d", uint8(o))
}

// Disposition says whether a handler may have seen the call.
type Disposition uint8

// The dispositions. The numbers are the wire's.
const (
	DispositionUnknown      Disposition = iota // somebody may have started it
	DispositionNotProcessed                    // surely no handler saw it
	DispositionProcessed                       // a handler saw it
)

var dispositionNames = [...]string{"UNKNOWN", "NOT_PROCESSED", "PROCESSED"}

// String returns the disposition's name.
func (d Disposition) String() string {
	if int(d) < len(dispositionNames) {
		return dispositionNames[d]
	}
	return fmt.Sprintf("DISPOSITION_%d", uint8(d))
}

// Worse returns the worse of two dispositions: PROCESSED, then UNKNOWN, then NOT_PROCESSED. A hop that
// tried several times answers with the worst of them.
func (d Disposition) Worse(o Disposition) Disposition {
	rank := func(d Disposition) int {
		switch d {
		case DispositionProcessed:
			return 2
		case DispositionNotProcessed:
			return 0
		}
		return 1
	}
	if rank(o) > rank(d) {
		return o
	}
	return d
}

// Status ends a call. Message and Details borrow the buffer that they were parsed from.
type Status struct {
	Code         Code
	Reason       Reason
	Origin       Origin
	Disposition  Disposition
	RetryAfterMS uint32
	Message      []byte // text for people; never parsed
	Details      []byte // a serialized google.rpc.Status, untouched
}

// Refuse returns the status of a reason as its table has it, concluded by origin.
func Refuse(r Reason, origin Origin, message string) Status {
	rule := r.Rule()
	return Status{Code: rule.Code, Reason: r, Origin: origin, Disposition: rule.Disposition, Message: []byte(message)}
}

// Clone returns a status that owns its bytes.
func (s Status) Clone() Status {
	s.Message = append([]byte(nil), s.Message...)
	s.Details = append([]byte(nil), s.Details...)
	return s
}

// Append appends the serialized octo.wire.v1.Status.
func (s *Status) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(int64(s.Code)))
	dst = appendUint(dst, 2, uint64(s.Reason))
	dst = appendText(dst, 3, s.Message)
	dst = appendText(dst, 4, s.Details)
	dst = appendUint(dst, 5, uint64(s.Origin))
	dst = appendUint(dst, 6, uint64(s.Disposition))
	return appendUint(dst, 7, uint64(s.RetryAfterMS))
}

// Parse reads a serialized octo.wire.v1.Status.
func (s *Status) Parse(b []byte) error {
	*s = Status{}
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return errHead
		}
		want := uint8(wireVarint)
		if f.num == 3 || f.num == 4 {
			want = wireBytes
		}
		if f.num <= 7 && f.kind != want {
			return errHead
		}
		switch f.num {
		case 1:
			s.Code = Code(int32(f.val))
		case 2:
			s.Reason = Reason(f.val)
		case 3:
			s.Message = f.raw
		case 4:
			s.Details = f.raw
		case 5:
			s.Origin = Origin(min(f.val, 255))
		case 6:
			s.Disposition = disposition(f.val)
		case 7:
			s.RetryAfterMS = uint32(f.val)
		}
	}
	return nil
}

// disposition keeps an unknown number from counting as NOT_PROCESSED.
func disposition(v uint64) Disposition {
	if v > uint64(DispositionProcessed) {
		return DispositionUnknown
	}
	return Disposition(v)
}
