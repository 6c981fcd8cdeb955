package message_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/bridge/bridgetest"
	"github.com/octomesh/octomesh/core/wire"
)

// plain is a small protocol of messages, as a further one may look:
//
//	4 length of what follows | 1 kind: '?', '!', '1' (one-way), 'h' | 1 code of an answer | 4 number | 1 length, "service/method" | payload
type plain struct{ multiplexed bool }

const (
	plainHead = 11
	plainMax  = 1 << 20
)

func (p plain) Info() bridge.Info {
	return bridge.Info{Name: "plain", ContentType: "application/x-plain", Multiplexed: p.multiplexed, MaxFrame: plainMax}
}

func (plain) Sniff(b []byte) bridge.Verdict {
	switch {
	case len(b) > 0 && b[0] != 0 || len(b) > 4 && b[4] != '?' && b[4] != '1' && b[4] != 'h':
		return bridge.No
	case len(b) < 5:
		return bridge.More
	}
	return bridge.Yes
}

func (plain) Decode(in []byte, f *bridge.Frame) (int, error) {
	if len(in) < 4 {
		return 0, nil
	}
	total := uint64(binary.BigEndian.Uint32(in)) + 4
	switch {
	case total > plainMax:
		return 0, bridge.ErrTooLong
	case total < plainHead:
		return 0, bridge.ErrMalformed
	case uint64(len(in)) < total:
		return 0, nil
	}
	in = in[:total:total]
	head := plainHead + int(in[10])
	if head > len(in) {
		return 0, bridge.ErrMalformed
	}
	f.Head, f.Payload, f.ID = in[:head:head], in[head:], uint64(binary.BigEndian.Uint32(in[6:]))
	switch in[4] {
	case '?', '1':
		if f.Kind = bridge.Request; in[4] == '1' {
			f.Kind = bridge.OneWay
		}
		f.Service, f.Method, _ = bytes.Cut(in[plainHead:head], []byte("/"))
		if lane, ok := bytes.CutPrefix(f.Payload, []byte("lane=")); ok {
			f.Meta = append(f.Meta, wire.Entry{Key: []byte("lane"), Value: lane}, wire.Entry{Key: []byte("octo-origin"), Value: lane},
				wire.Entry{Key: []byte("Bad"), Value: lane}, wire.Entry{Key: []byte("bad"), Value: []byte{0}})
		}
	case '!':
		f.Kind = bridge.Response
		if f.Status.Code = wire.Code(in[5]); f.Status.Code != wire.OK {
			f.Status.Message = f.Payload
		}
	case 'h':
		f.Kind = bridge.Heartbeat
	case 'H':
		f.Kind = bridge.Ignored
	default:
		return 0, bridge.ErrMalformed
	}
	return len(in), nil
}

func (plain) Append(out []byte, f *bridge.Frame) ([]byte, error) {
	at := len(out)
	out = append(append(out, f.Head...), f.Payload...)
	binary.BigEndian.PutUint32(out[at+6:], uint32(f.ID))
	return out, nil
}

func (plain) Local(out []byte, req *bridge.Frame, st *wire.Status) ([]byte, error) {
	if st.Code == wire.OK {
		return append(out, frame('H', 0, uint32(req.ID), "", "")...), nil
	}
	return append(out, frame('!', byte(st.Code), uint32(req.ID), "", string(st.Message))...), nil
}

// frame makes one.
func frame(kind, code byte, id uint32, name, payload string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(plainHead-4+len(name)+len(payload)))
	b = binary.BigEndian.AppendUint32(append(b, kind, code), id)
	return append(append(append(b, byte(len(name))), name...), payload...)
}

func TestPlainIsACodec(t *testing.T) {
	bridgetest.Run(t, plain{multiplexed: true}, []bridgetest.Sample{
		{Name: "request", Bytes: frame('?', 0, 3, "bank/Pay", "ten"), Kind: bridge.Request, Service: "bank", Method: "Pay"},
		{Name: "one-way", Bytes: frame('1', 0, 3, "bank/Note", ""), Kind: bridge.OneWay},
		{Name: "answer", Bytes: frame('!', 0, 3, "", "paid"), Kind: bridge.Response},
		{Name: "error", Bytes: frame('!', 5, 3, "", "who?"), Kind: bridge.Response, Code: wire.NotFound},
		{Name: "heartbeat", Bytes: frame('h', 0, 3, "", ""), Kind: bridge.Heartbeat},
		{Name: "heartbeat's answer", Bytes: frame('H', 0, 3, "", ""), Kind: bridge.Ignored},
	})
}
