package wire

// Role says who opens calls on a connection.
type Role uint8

// The roles. The numbers are the wire's.
const (
	RoleUnspecified Role = iota
	RoleCall             // the dialer opens calls
	RoleServe            // the acceptor opens calls
)

// PeerKind says what a peer is.
type PeerKind uint8

// The kinds of peer. The numbers are the wire's.
const (
	PeerUnspecified PeerKind = iota
	PeerSDK
	PeerProxy
	PeerGateway
)

// Hello is the dialer's first and only word before Welcome.
type Hello struct {
	LowestVersion, HighestVersion uint32
	Role                          Role
	Kind                          PeerKind
	SDK, SDKVersion               string
	Environment, Application      string
	Instance                      string
	Incarnation                   uint64
	Targets                       []string
	Limits                        Limits
	Features                      []string
	Credentials                   string
}

// Append appends the serialized octo.wire.v1.Hello.
func (h *Hello) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(h.LowestVersion))
	dst = appendUint(dst, 2, uint64(h.HighestVersion))
	dst = appendUint(dst, 3, uint64(h.Role))
	dst = appendUint(dst, 4, uint64(h.Kind))
	dst = appendText(dst, 5, h.SDK)
	dst = appendText(dst, 6, h.SDKVersion)
	dst = appendText(dst, 7, h.Environment)
	dst = appendText(dst, 8, h.Application)
	dst = appendText(dst, 9, h.Instance)
	dst = appendUint(dst, 10, h.Incarnation)
	for _, t := range h.Targets {
		dst = appendTextAlways(dst, 11, t)
	}
	dst = appendMessage(dst, 12, h.Limits.append)
	for _, t := range h.Features {
		dst = appendTextAlways(dst, 13, t)
	}
	return appendText(dst, 14, h.Credentials)
}

// Parse reads a serialized octo.wire.v1.Hello. The result owns its strings.
func (h *Hello) Parse(b []byte) error {
	*h = Hello{}
	return eachField(b, func(f *field) bool {
		switch f.num {
		case 1, 2, 3, 4, 10:
			return f.kind == wireVarint && h.setNumber(f)
		case 5, 6, 7, 8, 9, 11, 13, 14:
			return f.kind == wireBytes && h.setText(f)
		case 12:
			return f.kind == wireBytes && h.Limits.parse(f.raw)
		}
		return true
	})
}

func (h *Hello) setNumber(f *field) bool {
	switch f.num {
	case 1:
		h.LowestVersion = uint32(f.val)
	case 2:
		h.HighestVersion = uint32(f.val)
	case 3:
		h.Role = Role(min(f.val, 255))
	case 4:
		h.Kind = PeerKind(min(f.val, 255))
	case 10:
		h.Incarnation = f.val
	}
	return true
}

func (h *Hello) setText(f *field) bool {
	s := string(f.raw)
	switch f.num {
	case 5:
		h.SDK = s
	case 6:
		h.SDKVersion = s
	case 7:
		h.Environment = s
	case 8:
		h.Application = s
	case 9:
		h.Instance = s
	case 11:
		h.Targets = append(h.Targets, s)
	case 13:
		h.Features = append(h.Features, s)
	case 14:
		h.Credentials = s
	}
	return true
}

// Welcome is the acceptor's answer to a Hello that it accepts.
type Welcome struct {
	Version         uint32
	Kind            PeerKind
	Instance        string
	Incarnation     uint64
	Limits          Limits
	Features        []string
	SoftwareVersion string
}

// Append appends the serialized octo.wire.v1.Welcome.
func (w *Welcome) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(w.Version))
	dst = appendUint(dst, 2, uint64(w.Kind))
	dst = appendText(dst, 3, w.Instance)
	dst = appendUint(dst, 4, w.Incarnation)
	dst = appendMessage(dst, 5, w.Limits.append)
	for _, t := range w.Features {
		dst = appendTextAlways(dst, 6, t)
	}
	return appendText(dst, 7, w.SoftwareVersion)
}

// Parse reads a serialized octo.wire.v1.Welcome. The result owns its strings.
func (w *Welcome) Parse(b []byte) error {
	*w = Welcome{}
	return eachField(b, func(f *field) bool {
		want := uint8(wireBytes)
		switch f.num {
		case 1, 2, 4:
			want = wireVarint
		}
		if f.num <= 7 && f.kind != want {
			return false
		}
		switch f.num {
		case 1:
			w.Version = uint32(f.val)
		case 2:
			w.Kind = PeerKind(min(f.val, 255))
		case 3:
			w.Instance = string(f.raw)
		case 4:
			w.Incarnation = f.val
		case 5:
			return w.Limits.parse(f.raw)
		case 6:
			w.Features = append(w.Features, string(f.raw))
		case 7:
			w.SoftwareVersion = string(f.raw)
		}
		return true
	})
}

func (l *Limits) append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(l.MaxStreams))
	dst = appendUint(dst, 2, uint64(l.StreamWindow))
	return appendUint(dst, 3, uint64(l.MaxFrameBody))
}

func (l *Limits) parse(b []byte) bool {
	return eachField(b, func(f *field) bool {
		switch f.num {
		case 1:
			l.MaxStreams = uint32(f.val)
		case 2:
			l.StreamWindow = uint32(f.val)
		case 3:
			l.MaxFrameBody = uint32(f.val)
		default:
			return true
		}
		return f.kind == wireVarint
	}) == nil
}

// GoAwayCode says why a peer leaves or refuses.
type GoAwayCode uint8

// The codes. The numbers are the wire's. The first two are graceful.
const (
	GoAwayUnspecified GoAwayCode = iota
	GoAwayDraining
	GoAwayIDExhausted
	GoAwayProtocolError
	GoAwayEnhanceYourCalm
	GoAwayRefused
)

var goAwayNames = [...]string{
	"UNSPECIFIED", "DRAINING", "ID_EXHAUSTED", "PROTOCOL_ERROR", "ENHANCE_YOUR_CALM", "REFUSED",
}

// String returns the code's name.
func (c GoAwayCode) String() string {
	if int(c) < len(goAwayNames) {
		return goAwayNames[c]
	}
	return "UNSPECIFIED"
}

// Graceful tells whether open calls go on after a GOAWAY of this code.
func (c GoAwayCode) Graceful() bool { return c == GoAwayDraining || c == GoAwayIDExhausted }

// GoAway asks the peer to move, or says why the connection ends.
type GoAway struct {
	Code         GoAwayCode
	Last         uint32
	Final        bool
	Message      string
	Offset       uint64
	RetryAfterMS uint32
}

// LastGraceful is the last of a GOAWAY that permits re-sending nothing.
const LastGraceful = 1<<32 - 1

// Append appends the serialized octo.wire.v1.GoAway.
func (g *GoAway) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(g.Code))
	dst = appendUint(dst, 2, uint64(g.Last))
	dst = appendBool(dst, 3, g.Final)
	dst = appendText(dst, 4, g.Message)
	dst = appendUint(dst, 5, g.Offset)
	return appendUint(dst, 6, uint64(g.RetryAfterMS))
}

// Parse reads a serialized octo.wire.v1.GoAway.
func (g *GoAway) Parse(b []byte) error {
	*g = GoAway{}
	return eachField(b, func(f *field) bool {
		if f.num <= 6 && (f.kind == wireBytes) != (f.num == 4) {
			return false
		}
		switch f.num {
		case 1:
			g.Code = GoAwayCode(min(f.val, 255))
		case 2:
			g.Last = uint32(f.val)
		case 3:
			g.Final = f.val != 0
		case 4:
			g.Message = string(f.raw)
		case 5:
			g.Offset = f.val
		case 6:
			g.RetryAfterMS = uint32(f.val)
		}
		return true
	})
}

// ResetHead ends a stream at once.
type ResetHead struct {
	Status    Status
	HTTP2Code uint32
}

// Append appends the serialized octo.wire.v1.Reset.
func (r *ResetHead) Append(dst []byte) []byte {
	return appendUint(AppendStatus(dst, &r.Status), 2, uint64(r.HTTP2Code))
}

// Parse reads a serialized octo.wire.v1.Reset. The status borrows b.
func (r *ResetHead) Parse(b []byte) error {
	*r = ResetHead{}
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return errHead
		}
		switch f.num {
		case 1:
			if f.kind != wireBytes || r.Status.Parse(f.raw) != nil {
				return errHead
			}
		case 2:
			if f.kind != wireVarint {
				return errHead
			}
			r.HTTP2Code = uint32(f.val)
		}
	}
	return nil
}

// eachField calls set for each field of a message; it fails where the bytes do not parse or set refuses.
func eachField(b []byte, set func(*field) bool) error {
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) || !set(&f) {
			return errHead
		}
	}
	return nil
}
