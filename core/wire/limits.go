package wire

// Defaults and bounds of what a side accepts. Bytes, unless the name says otherwise.
const (
	DefaultMaxStreams   = 1024
	DefaultStreamWindow = 256 << 10
	MinFrameBody        = 64 << 10 // everyone accepts this much
	// PreferredFragment leaves room for a header and a head beside it in 64 KiB.
	PreferredFragment = 60 << 10
	// MaxSDKHead bounds a head that an SDK sends; hops may add HopAllowance to it.
	MaxSDKHead   = 60 << 10
	HopAllowance = 1 << 10
	// MaxCredit bounds a stream's credit; more resets the stream.
	MaxCredit = 1<<31 - 1
)

// Limits is what one side accepts from the other.
type Limits struct {
	MaxStreams   uint32 // streams open at once
	StreamWindow uint32 // credit of a new stream, in bytes
	MaxFrameBody uint32 // bytes
}

// DefaultLimits returns the limits of a side that states none.
func DefaultLimits() Limits {
	return Limits{DefaultMaxStreams, DefaultStreamWindow, MinFrameBody}
}

// Normalize replaces zeros by defaults and lifts what is under the protocol's minimum.
func (l Limits) Normalize() Limits {
	if l.MaxStreams == 0 {
		l.MaxStreams = DefaultMaxStreams
	}
	if l.MaxFrameBody < MinFrameBody {
		l.MaxFrameBody = MinFrameBody
	}
	if l.MaxFrameBody > MaxCredit/4 {
		l.MaxFrameBody = MaxCredit / 4
	}
	if l.StreamWindow == 0 {
		l.StreamWindow = DefaultStreamWindow
	}
	if least := 2 * (l.MaxFrameBody + FrameCost); l.StreamWindow < least {
		l.StreamWindow = least
	}
	if l.StreamWindow > MaxCredit {
		l.StreamWindow = MaxCredit
	}
	return l
}
