// Package kitex reads and writes the frames of CloudWeGo Kitex: TTHeader, with Thrift or Kitex protobuf in it. Payloads are not decoded, but
// for the number that they repeat and for what an answer says of its call's end.
package kitex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
)

// Codec is TTHeader as the engine of package bridge/message takes it.
type Codec struct {
	// Multiplexed: the peer takes several calls at once on one connection. Clients' connections are read so in any case: a client that has one at a
	// time sends no more. Of servers, those with server.WithMuxTransport do.
	Multiplexed bool
}

// TTHeader:
//
//	4 length of what follows | 2 magic 0x1000 | 2 flags | 4 sequence number | 2 length of the rest of the head, in words of 4
//	1 protocol of the payload | 1 number of transforms | 1 each transform | blocks of entries | padding | payload
const (
	fixed         = 14
	magic         = 0x1000
	flagStreaming = 0x0002
	maxHead       = 4 * 65535
)

// Kinds of blocks.
const (
	blockPadding = 0x00
	blockStrings = 0x01 // 2 count, then 2 length, key, 2 length, value
	blockNumbers = 0x10 // 2 count, then 2 key, 2 length, value
	blockToken   = 0x11 // 2 length, value
)

// Keys of the numbered entries.
const (
	keyFromService = 3
	keyToService   = 6
	keyToMethod    = 9
	keyTimeout     = 12 // milliseconds
	keyMessageType = 22
)

// Keys of the named entries.
const (
	keyIDLService = "isn"
	keyBizStatus  = "biz-status"
	keyBizMessage = "biz-message"
	keyMoves      = "crrst" // the connection is about to be closed
	transient     = "RPC_TRANSIT_"
	persistent    = "RPC_PERSIST_"
)

var errStreaming = errors.New("TTHeader's streaming is not spoken here: only calls with one answer are")

// Info implements bridge.FrameCodec.
func (c *Codec) Info() bridge.Info {
	return bridge.Info{Name: "kitex", ContentType: "application/x-kitex-ttheader", Multiplexed: c.Multiplexed}
}

// Sniff implements bridge.FrameCodec.
func (*Codec) Sniff(b []byte) bridge.Verdict {
	if len(b) >= 1 && b[0] != 0 || len(b) >= 5 && b[4] != magic>>8 || len(b) >= 6 && b[5] != 0 { // longer frames than the limit are not taken
		return bridge.No
	}
	if len(b) < 6 {
		return bridge.More
	}
	return bridge.Yes
}

// Decode implements bridge.FrameCodec.
func (c *Codec) Decode(in []byte, f *bridge.Frame) (int, error) {
	if len(in) < 4 {
		return 0, nil
	}
	length := binary.BigEndian.Uint32(in)
	switch {
	case length > bridge.DefaultMaxFrame-4:
		return 0, bridge.ErrTooLong
	case length < fixed-4:
		return 0, bridge.ErrMalformed
	case len(in) < fixed:
		return 0, nil
	}
	total, head := int(length)+4, fixed+4*int(binary.BigEndian.Uint16(in[12:]))
	switch {
	case binary.BigEndian.Uint16(in[4:]) != magic || head < fixed+2 || head > total:
		return 0, bridge.ErrMalformed
	case in[7]&flagStreaming != 0:
		return 0, errStreaming
	case len(in) < total:
		return 0, nil
	}
	f.Head, f.Payload = in[:head:head], in[head:total:total]
	e, ok := readEntries(f)
	if !ok {
		return 0, bridge.ErrMalformed
	}
	number := binary.BigEndian.Uint32(in[8:])
	f.ID = uint64(number)
	p, ok := readPayload(f.Payload)
	if ok { // the head's number may be another: the difference goes along
		f.ID = uint64(p.number) | uint64(number^p.number)<<32
	}
	if !e.finish(f, &p) {
		return 0, bridge.ErrMalformed
	}
	return total, nil
}

// entries is what a head's entries say that is not told as it is read.
type entries struct {
	toService, toMethod, idl, messageType []byte
	bizStatus, bizMessage                 []byte
}

// readEntries reads the blocks of a head.
func readEntries(f *bridge.Frame) (e entries, ok bool) {
	r := reader{b: f.Head[fixed+1:]}
	r.bytes(int(r.byte())) // transforms
	for !r.bad && len(r.b) > 0 {
		switch r.byte() {
		case blockPadding:
		case blockNumbers:
			for n := r.short(); n > 0 && !r.bad; n-- {
				key := r.short()
				e.number(f, key, r.text())
			}
		case blockStrings:
			for n := r.short(); n > 0 && !r.bad; n-- {
				key := r.text()
				e.name(f, key, r.text())
			}
		case blockToken:
			r.text()
		default:
			return e, false
		}
	}
	return e, !r.bad
}

func (e *entries) number(f *bridge.Frame, key int, value []byte) {
	switch key {
	case keyFromService:
		f.Caller = value
	case keyToService:
		e.toService = value
	case keyToMethod:
		e.toMethod = value
	case keyTimeout:
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			f.Timeout = time.Duration(ms) * time.Millisecond
		}
	case keyMessageType:
		e.messageType = value
	}
}

func (e *entries) name(f *bridge.Frame, key, value []byte) {
	switch string(key) {
	case keyIDLService:
		e.idl = value
	case keyBizStatus:
		e.bizStatus = value
	case keyBizMessage:
		e.bizMessage = value
	case keyMoves:
		f.Moves = true
	default:
		rest, ok := bytes.CutPrefix(key, []byte(transient))
		if !ok {
			rest, ok = bytes.CutPrefix(key, []byte(persistent))
		}
		if ok && len(rest) > 0 {
			f.Meta = append(f.Meta, wire.Entry{Key: lower(rest), Value: value})
		}
	}
}

// lower copies only what has to be changed.
func lower(key []byte) []byte {
	for _, b := range key {
		if b >= 'A' && b <= 'Z' {
			return bytes.ToLower(key)
		}
	}
	return key
}

// finish says what the frame is; false: nothing that is known.
func (e *entries) finish(f *bridge.Frame, p *payload) bool {
	kind := p.kind
	if kind == 0 && len(e.messageType) == 1 && e.messageType[0] >= '0' {
		kind = e.messageType[0] - '0'
	}
	f.Note = p.note
	switch kind {
	case typeCall, typeOneWay:
		if f.Kind = bridge.Request; kind == typeOneWay {
			f.Kind = bridge.OneWay
		}
		f.Target, f.Service, f.Method = e.toService, e.idl, e.toMethod
		if len(f.Service) == 0 {
			f.Service = e.toService
		}
		if len(f.Method) == 0 {
			f.Method = p.method
		}
	case typeReply, typeException:
		f.Kind = bridge.Response
		f.Status = e.status(p, kind == typeException)
	case typeHeartbeat:
		f.Kind = bridge.Heartbeat
	default:
		return false
	}
	return true
}

// status is how an answer's call ended.
func (e *entries) status(p *payload, exception bool) wire.Status {
	if biz, err := strconv.ParseInt(string(e.bizStatus), 10, 32); err == nil && biz != 0 {
		return wire.Status{Code: wire.Unknown, Origin: wire.OriginApplication, Message: e.bizMessage}
	}
	switch {
	case exception:
		return p.exception()
	case p.declared():
		return wire.Status{Code: wire.Unknown, Origin: wire.OriginApplication, Message: declaredText}
	}
	return wire.Status{}
}

var declaredText = []byte("an exception that the method declares")

// Append implements bridge.FrameCodec.
func (*Codec) Append(out []byte, f *bridge.Frame) ([]byte, error) {
	if len(f.Head) < fixed+2 {
		return out, bridge.ErrMalformed
	}
	at := len(out)
	out = append(append(out, f.Head...), f.Payload...)
	number := uint32(f.ID)
	if p, ok := readPayload(f.Payload); ok {
		binary.BigEndian.PutUint32(out[at+len(f.Head)+p.at:], number)
	}
	binary.BigEndian.PutUint32(out[at+8:], number^uint32(f.ID>>32))
	return out, nil
}

// SetMeta implements bridge.MetaSetter: handlers find the entry by metainfo.GetValue.
func (*Codec) SetMeta(f *bridge.Frame, key, value []byte) error {
	return setEntry(f, append([]byte(transient), key...), value)
}

// Move implements bridge.Mover: Kitex's own servers say so when they leave.
func (*Codec) Move(f *bridge.Frame) error { return setEntry(f, []byte(keyMoves), []byte("1")) }

// setEntry puts one more block of named entries into a head: of two with a name the later one counts.
func setEntry(f *bridge.Frame, key, value []byte) error {
	head := make([]byte, 0, len(f.Head)+len(key)+len(value)+10)
	head = append(append(head, f.Head...), blockStrings, 0, 1)
	head = appendText(appendText(head, key), value)
	for (len(head)-fixed)%4 != 0 {
		head = append(head, blockPadding)
	}
	total := len(head) + len(f.Payload)
	if len(key) > 65535 || len(value) > 65535 || len(head)-fixed > maxHead || total > bridge.DefaultMaxFrame {
		return bridge.ErrTooLong
	}
	binary.BigEndian.PutUint32(head, uint32(total-4))
	binary.BigEndian.PutUint16(head[12:], uint16((len(head)-fixed)/4))
	f.Head = head
	return nil
}

func appendText(out, s []byte) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
}
