package kitex

import (
	"encoding/binary"
	"strconv"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
	"google.golang.org/protobuf/encoding/protowire"
)

// Kinds of messages, in payloads and in heads.
const (
	typeCall      = 1
	typeReply     = 2
	typeException = 3
	typeOneWay    = 4
	typeHeartbeat = 6
)

// Bits of a request's note: what is known of its client.
const (
	noteFramed   = 1 // the payload begins with its length
	noteProtobuf = 2
)

// payload is what the beginning of a payload says: of Thrift's strict binary protocol, or of Kitex protobuf, which begins likewise.
//
//	[4 length] | 2 magic, 1 nothing, 1 kind | 4 length, method | 4 sequence number | the method's arguments or outcome
type payload struct {
	kind   byte
	note   uint32
	at     int // where the number stands
	number uint32
	method []byte
	rest   []byte
}

func readPayload(b []byte) (p payload, ok bool) {
	at := 0
	magic := func() uint32 {
		if len(b) < at+8 {
			return 0
		}
		return binary.BigEndian.Uint32(b[at:]) >> 16
	}
	if m := magic(); m != 0x8001 && m != 0x9001 {
		at, p.note = 4, noteFramed
	}
	switch magic() {
	case 0x9001:
		p.note |= noteProtobuf
	case 0x8001:
	default:
		return payload{}, false
	}
	n := binary.BigEndian.Uint32(b[at+4:])
	if uint64(n)+12 > uint64(len(b)-at) {
		return payload{}, false
	}
	p.kind, p.method = b[at+3], b[at+8:at+8+int(n)]
	p.at = at + 8 + int(n)
	p.number, p.rest = binary.BigEndian.Uint32(b[p.at:]), b[p.at+4:]
	return p, true
}

// declared tells whether a Thrift answer's outcome is another field than 0, which is the result: an exception of the method's.
func (p *payload) declared() bool {
	return p.note&noteProtobuf == 0 && len(p.rest) >= 3 && p.rest[0] != 0 && binary.BigEndian.Uint16(p.rest[1:]) != 0
}

// Kinds of exceptions that are no method's own.
const (
	unknownMethod  = 1
	internalError  = 6 // also what a handler returns that it does not declare
	unknownService = 20
)

// exception is the status of an answer that is an exception: a TApplicationException, or Kitex protobuf's error.
func (p *payload) exception() wire.Status {
	kind, text := p.readException()
	st := wire.Status{Code: wire.Internal, Origin: wire.OriginServerSDK, Message: text}
	switch kind {
	case unknownMethod:
		st.Code, st.Reason = wire.Unimplemented, wire.ReasonUnknownMethod
	case unknownService:
		st.Code, st.Reason = wire.Unimplemented, wire.ReasonUnknownService
	case internalError:
		st.Origin = wire.OriginApplication
	}
	if len(text) == 0 {
		st.Message = strconv.AppendInt([]byte("exception of type "), int64(kind), 10)
	}
	return st
}

// readException reads the first two fields, whatever their order. What does not parse counts as an internal error.
func (p *payload) readException() (kind int32, text []byte) {
	kind = internalError
	if p.note&noteProtobuf != 0 {
		for b := p.rest; len(b) > 0; {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return kind, text
			}
			size := protowire.ConsumeFieldValue(num, typ, b[n:])
			if size < 0 {
				return kind, text
			}
			switch value := b[n : n+size]; {
			case num == 1 && typ == protowire.VarintType:
				v, _ := protowire.ConsumeVarint(value)
				kind = int32(v)
			case num == 2 && typ == protowire.BytesType:
				text, _ = protowire.ConsumeBytes(value)
			}
			b = b[n+size:]
		}
		return kind, text
	}
	r := reader{b: p.rest}
	for range 2 {
		switch typ, id := r.byte(), 0; typ {
		case 11: // a string
			id = r.short()
			if s := r.bytes(int(min(r.long(), 1<<30))); id == 1 {
				text = s
			}
		case 8: // a number of 32 bits
			id = r.short()
			if v := r.long(); id == 2 && !r.bad {
				kind = int32(v)
			}
		default:
			return kind, text
		}
	}
	return kind, text
}

// Local implements bridge.FrameCodec: an exception, as Kitex's own servers answer what no handler has seen.
func (*Codec) Local(out []byte, req *bridge.Frame, st *wire.Status) ([]byte, error) {
	kind := byte(typeException)
	if st.Code == wire.OK {
		kind = typeHeartbeat
	}
	at := len(out)
	out = append(out, 0, 0, 0, 0, magic>>8, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(req.ID)^uint32(req.ID>>32))
	// The rest of the head is 3 words: the protocol, no transforms, one numbered entry, padding.
	out = append(out, 0, 3, 0, 0, blockNumbers, 0, 1, 0, keyMessageType, 0, 1, '0'+kind, 0, 0)
	body := len(out)
	if req.Note&noteFramed != 0 {
		out = append(out, 0, 0, 0, 0)
	}
	first := byte(0x80)
	if req.Note&noteProtobuf != 0 {
		first = 0x90
	}
	out = append(out, first, 1, 0, kind)
	out = append(binary.BigEndian.AppendUint32(out, uint32(len(req.Method))), req.Method...)
	out = binary.BigEndian.AppendUint32(out, uint32(req.ID))
	if kind == typeException {
		out = appendException(out, st, first == 0x90)
	}
	if req.Note&noteFramed != 0 {
		binary.BigEndian.PutUint32(out[body:], uint32(len(out)-body-4))
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out, nil
}

// maxText bounds an exception's text.
const maxText = 8 << 10

func appendException(out []byte, st *wire.Status, protobuf bool) []byte {
	kind := uint32(internalError)
	switch st.Reason {
	case wire.ReasonUnknownMethod:
		kind = unknownMethod
	case wire.ReasonUnknownService, wire.ReasonUnknownTarget:
		kind = unknownService
	}
	text := st.Message[:min(len(st.Message), maxText)]
	if protobuf {
		out = protowire.AppendVarint(protowire.AppendTag(out, 1, protowire.VarintType), uint64(kind))
		return protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), text)
	}
	out = append(out, 11, 0, 1)
	out = append(binary.BigEndian.AppendUint32(out, uint32(len(text))), text...)
	out = append(out, 8, 0, 2)
	return append(binary.BigEndian.AppendUint32(out, kind), 0)
}

// reader takes a head's bytes one after the other. What is not there is empty, and noted.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) short() int {
	if b := r.bytes(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) long() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) text() []byte { return r.bytes(r.short()) }
