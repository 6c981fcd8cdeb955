package kitex_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/bridge/bridgetest"
	"github.com/octomesh/octomesh/bridge/kitex"
	"github.com/octomesh/octomesh/core/wire"
)

// head makes a TTHeader of a version that stands here alone, so that reader and writer cannot agree on a fault.
func head(number uint32, ints map[uint16]string, names [][2]string, payload string) []byte {
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	info := []byte{0, 0}
	if len(names) > 0 {
		info = binary.BigEndian.AppendUint16(append(info, 0x01), uint16(len(names)))
		for _, e := range names {
			info = text(text(info, e[0]), e[1])
		}
	}
	if len(ints) > 0 {
		info = binary.BigEndian.AppendUint16(append(info, 0x10), uint16(len(ints)))
		for k := range uint16(64) {
			if v, ok := ints[k]; ok {
				info = text(binary.BigEndian.AppendUint16(info, k), v)
			}
		}
	}
	for len(info)%4 != 0 {
		info = append(info, 0)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(10+len(info)+len(payload)))
	out = binary.BigEndian.AppendUint32(append(out, 0x10, 0, 0, 0), number)
	out = binary.BigEndian.AppendUint16(out, uint16(len(info)/4))
	return append(append(out, info...), payload...)
}

// message begins a payload.
func message(magic string, kind byte, method string, number uint32, rest string) string {
	b := append([]byte(magic), 0, kind)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(method))), method...)
	return string(binary.BigEndian.AppendUint32(b, number)) + rest
}

func framed(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

const (
	thrift, protobuf = "\x80\x01", "\x90\x01"
	result           = "\x0b\x00\x00\x00\x00\x00\x02hi\x00"
)

var (
	called = map[uint16]string{3: "shop", 6: "billing", 9: "Charge", 12: "250", 22: "1"}
	names  = [][2]string{{"isn", "Billing"}, {"RPC_PERSIST_lane", "blue"}, {"RPC_TRANSIT_TRACEPARENT", "00-1-2-01"}, {"RPC_TRANSIT_", "x"}, {"other", "y"}}
)

func samples() []bridgetest.Sample {
	exception := func(kind byte, text string) string {
		return "\x0b\x00\x01" + framed(text) + "\x08\x00\x02\x00\x00\x00" + string(kind) + "\x00"
	}
	request := func(name string, b []byte, service string) bridgetest.Sample {
		return bridgetest.Sample{Name: name, Bytes: b, Kind: bridge.Request, Service: service, Method: "Charge"}
	}
	answer := func(name string, code wire.Code, names [][2]string, payload string) bridgetest.Sample {
		return bridgetest.Sample{Name: name, Bytes: head(7, map[uint16]string{22: "2"}, names, payload), Kind: bridge.Response, Code: code}
	}
	return []bridgetest.Sample{
		request("thrift", head(7, called, names, message(thrift, 1, "Charge", 7, result)), "Billing"),
		request("framed", head(7, called, names, framed(message(thrift, 1, "Charge", 7, result))), "Billing"),
		request("protobuf", head(7, called, nil, framed(message(protobuf, 1, "Charge", 7, "\x0a\x02hi"))), "billing"),
		request("other number in the head", head(0, called, names, message(thrift, 1, "Charge", 7, result)), "Billing"),
		request("names in the payload alone", head(7, map[uint16]string{6: "billing"}, nil, message(thrift, 1, "Charge", 7, result)), "billing"),
		request("unknown payload", head(7, called, names, "??"), "Billing"),
		{Name: "one-way", Bytes: head(7, called, names, message(thrift, 4, "Charge", 7, result)), Kind: bridge.OneWay},
		{Name: "heartbeat", Bytes: head(7, map[uint16]string{22: "6"}, nil, ""), Kind: bridge.Heartbeat},
		answer("result", wire.OK, nil, message(thrift, 2, "Charge", 7, result)),
		answer("nothing", wire.OK, nil, message(thrift, 2, "Charge", 7, "\x00")),
		answer("declared exception", wire.Unknown, nil, message(thrift, 2, "Charge", 7, "\x0c\x00\x01\x00\x00")),
		answer("business status", wire.Unknown, [][2]string{{"biz-status", "40001"}, {"biz-message", "no money"}}, message(thrift, 2, "Charge", 7, "\x00")),
		answer("no business status", wire.OK, [][2]string{{"biz-status", "0"}}, message(thrift, 2, "Charge", 7, result)),
		answer("unknown method", wire.Unimplemented, nil, message(thrift, 3, "Charge", 7, exception(1, "what?"))),
		answer("unknown service", wire.Unimplemented, nil, message(thrift, 3, "Charge", 7, exception(20, "who?"))),
		answer("handler's error", wire.Internal, nil, framed(message(thrift, 3, "Charge", 7, exception(6, "oh")))),
		answer("broken exception", wire.Internal, nil, message(thrift, 3, "Charge", 7, "\x0b\x00\x01\x7f")),
		answer("protobuf's result", wire.OK, nil, framed(message(protobuf, 2, "Charge", 7, "\x0a\x02hi"))),
		answer("protobuf's error", wire.Unimplemented, nil, framed(message(protobuf, 3, "Charge", 7, "\x08\x01\x12\x02no"))),
	}
}

func TestCodec(t *testing.T) { bridgetest.Run(t, &kitex.Codec{}, samples()) }

func FuzzCodec(f *testing.F) { bridgetest.Fuzz(f, &kitex.Codec{}, samples()) }

// decode reads a frame that must be one.
func decode(t *testing.T, b []byte) *bridge.Frame {
	t.Helper()
	var f bridge.Frame
	if n, err := (&kitex.Codec{}).Decode(b, &f); n != len(b) || err != nil {
		t.Fatalf("%d of %d bytes, %v", n, len(b), err)
	}
	return &f
}

func TestHeadSaysWhoCallsWhomAndForHowLong(t *testing.T) {
	f := decode(t, samples()[0].Bytes)
	if string(f.Target) != "billing" || string(f.Caller) != "shop" || f.Timeout != 250*time.Millisecond {
		t.Errorf("target %q, caller %q, timeout %v", f.Target, f.Caller, f.Timeout)
	}
	if len(f.Meta) != 2 || string(f.Meta[0].Key) != "lane" || string(f.Meta[0].Value) != "blue" || string(f.Meta[1].Key) != "traceparent" {
		t.Errorf("metadata: %q", f.Meta)
	}
}

func TestStatusSaysWhoConcludedIt(t *testing.T) {
	want := map[string]wire.Origin{
		"declared exception": wire.OriginApplication, "business status": wire.OriginApplication, "handler's error": wire.OriginApplication,
		"unknown method": wire.OriginServerSDK, "protobuf's error": wire.OriginServerSDK,
	}
	texts := map[string]string{"business status": "no money", "unknown method": "what?", "protobuf's error": "no", "handler's error": "oh"}
	for _, s := range samples() {
		if origin, ok := want[s.Name]; ok {
			f := decode(t, s.Bytes)
			if f.Status.Origin != origin || texts[s.Name] != "" && string(f.Status.Message) != texts[s.Name] {
				t.Errorf("%s: %v %q", s.Name, f.Status.Origin, f.Status.Message)
			}
		}
	}
}

func TestEntriesAreAdded(t *testing.T) {
	var c kitex.Codec
	for _, s := range samples() {
		f := decode(t, s.Bytes)
		before := len(f.Meta)
		if err := c.SetMeta(f, []byte("traceparent"), []byte("00-new")); err != nil {
			t.Fatal(err)
		}
		if err := c.Move(f); err != nil {
			t.Fatal(err)
		}
		out, err := c.Append(nil, f)
		if err != nil {
			t.Fatal(err)
		}
		got := decode(t, out)
		if n := len(got.Meta); n != before+1 || string(got.Meta[n-1].Value) != "00-new" || !got.Moves || string(got.Payload) != string(f.Payload) {
			t.Errorf("%s: %q, moves %v", s.Name, got.Meta, got.Moves)
		}
	}
	f := decode(t, samples()[0].Bytes)
	if err := c.SetMeta(f, []byte("k"), []byte(strings.Repeat("v", 65536))); err == nil {
		t.Error("a value that has no room is set")
	}
}

func TestWhatIsNotSpokenIsRefused(t *testing.T) {
	whole := samples()[0].Bytes
	for name, change := range map[string]func(b []byte){
		"streaming":     func(b []byte) { b[7] = 2 },
		"magic":         func(b []byte) { b[4] = 0x20 },
		"head's length": func(b []byte) { b[12], b[13] = 0, 0 },
		"too long":      func(b []byte) { b[0] = 1 },
		"block":         func(b []byte) { b[16] = 0x77 },
	} {
		b := append([]byte(nil), whole...)
		change(b)
		var f bridge.Frame
		if n, err := (&kitex.Codec{}).Decode(b, &f); n != 0 || err == nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func TestNothingIsAllocatedForAFrame(t *testing.T) {
	var c kitex.Codec
	var f bridge.Frame
	b := head(7, called, names[:2], message(thrift, 1, "Charge", 7, result))
	out := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		f.Reset()
		if _, err := c.Decode(b, &f); err != nil {
			t.Fatal(err)
		}
		f.ID = 9
		out, _ = c.Append(out[:0], &f)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
