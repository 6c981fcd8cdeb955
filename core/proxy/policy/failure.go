package policy

import "github.com/octomesh/octomesh/core/wire"

// Result is what a call's end says of the target's health.
type Result uint8

// The results.
const (
	// Success: the path and the instance did their work, whatever the application answered.
	Success Result = iota
	// Failure: the path or the instance failed.
	Failure
	// Unsaid: a refusal by policy, a cancelled call or a caller's mistake says nothing.
	Unsaid
)

// Codes is a set of google.rpc.Codes that count as failures even if the application says them.
type Codes uint32

// CodesOf makes the set; codes outside 1 to 16 are left out.
func CodesOf(codes []uint32) (set Codes) {
	for _, c := range codes {
		if c >= 1 && c <= 16 {
			set |= 1 << c
		}
	}
	return set
}

// Judge tells what a status says.
func Judge(st *wire.Status, also Codes) Result {
	switch {
	case st.Code == wire.OK:
		return Success
	case st.Code > 0 && st.Code <= 16 && also&(1<<uint32(st.Code)) != 0 && refusal(st.Reason) != Unsaid:
		return Failure
	case st.Origin == wire.OriginApplication:
		return Success
	}
	return refusal(st.Reason)
}

// refusal judges what the mesh concluded, by its reason. What has none is a bridge's or an unknown hop's failure.
func refusal(r wire.Reason) Result {
	switch r {
	case wire.ReasonUnspecified, wire.ReasonProxyUnready, wire.ReasonProxyUnreachable, wire.ReasonQueueFull, wire.ReasonOverloaded,
		wire.ReasonStreamProtocol, wire.ReasonConnectionLost, wire.ReasonDeadline, wire.ReasonHandlerCrashed:
		return Failure
	}
	return Unsaid
}
