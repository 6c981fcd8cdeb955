// Package bridgetest holds a bridge.FrameCodec to what package bridge says of it. A codec that passes may be linked into a proxy.
package bridgetest

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
)

// Sample is one whole frame as a peer sends it, and what it says.
type Sample struct {
	Name  string
	Bytes []byte
	// What Decode finds. Service and Method are of requests, Code of answers.
	Kind            bridge.Kind
	Service, Method string
	Code            wire.Code
}

// Run tests a codec by samples of all kinds of frames that it knows: at least one request and one answer.
func Run(t *testing.T, codec bridge.FrameCodec, samples []Sample) {
	t.Helper()
	if s, ok := codec.(bridge.Stateful); ok {
		codec = s.NewConn()
	}
	info := codec.Info()
	if info.Name == "" || info.ContentType == "" {
		t.Fatalf("Info has no name or no content type: %+v", info)
	}
	kinds := make(map[bridge.Kind]bool)
	for _, s := range samples {
		kinds[s.Kind] = true
		t.Run(s.Name, func(t *testing.T) {
			t.Run("decode", func(t *testing.T) { checkSample(t, codec, &s) })
			t.Run("split", func(t *testing.T) { checkSplit(t, codec, &s) })
			t.Run("round trip", func(t *testing.T) { checkRoundTrip(t, codec, &s) })
			t.Run("other id", func(t *testing.T) { checkID(t, codec, &s) })
			t.Run("hostile", func(t *testing.T) { checkHostile(t, codec, &s) })
			if s.Kind == bridge.Request || s.Kind == bridge.Heartbeat {
				t.Run("local answer", func(t *testing.T) { checkLocal(t, codec, &s) })
			}
			if s.Kind == bridge.Request {
				t.Run("sniff", func(t *testing.T) { checkSniff(t, codec, &s) })
			}
		})
	}
	if !kinds[bridge.Request] || !kinds[bridge.Response] {
		t.Error("samples of a request and of an answer are missing: without them nothing is tested")
	}
}

// decode reads one frame that must be whole.
func decode(codec bridge.FrameCodec, b []byte) (*bridge.Frame, error) {
	var f bridge.Frame
	n, err := codec.Decode(b, &f)
	if err == nil && n != len(b) {
		err = fmt.Errorf("of %d bytes %d are taken", len(b), n)
	}
	return &f, err
}

func checkSample(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	before := bytes.Clone(s.Bytes)
	f, err := decode(codec, s.Bytes)
	switch {
	case err != nil:
		t.Fatal(err)
	case !bytes.Equal(s.Bytes, before):
		t.Error("Decode changes its input")
	case f.Kind != s.Kind:
		t.Errorf("the kind is %v, not %v", f.Kind, s.Kind)
	case s.Kind == bridge.Request && (string(f.Service) != s.Service || string(f.Method) != s.Method):
		t.Errorf("it wants %q of %q, not %q of %q", f.Method, f.Service, s.Method, s.Service)
	case s.Kind == bridge.Response && f.Status.Code != s.Code:
		t.Errorf("its code is %v (%s), not %v", f.Status.Code, f.Status.Message, s.Code)
	}
	if whole := append(bytes.Clone(f.Head), f.Payload...); !bytes.Equal(whole, s.Bytes) {
		t.Errorf("head and payload together are not the frame: %d and %d of %d bytes", len(f.Head), len(f.Payload), len(s.Bytes))
	}
}

// checkSplit gives the frame cut at every byte, and then with the next one behind it.
func checkSplit(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	for cut := range s.Bytes {
		var f bridge.Frame
		// The capacity ends with the length: who reads beyond it is found out.
		if n, err := codec.Decode(bytes.Clone(s.Bytes[:cut])[:cut:cut], &f); n != 0 || err != nil {
			t.Fatalf("of the first %d of %d bytes Decode takes %d: %v", cut, len(s.Bytes), n, err)
		}
	}
	twice := append(bytes.Clone(s.Bytes), s.Bytes...)
	for cut := len(s.Bytes); cut <= len(twice); cut++ {
		var f bridge.Frame
		if n, err := codec.Decode(twice[:cut:cut], &f); n != len(s.Bytes) || err != nil {
			t.Fatalf("with %d bytes behind it Decode takes %d of %d: %v", cut-len(s.Bytes), n, len(s.Bytes), err)
		}
	}
}

func checkRoundTrip(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	f, err := decode(codec, s.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	before := []byte("before")
	out, err := codec.Append(bytes.Clone(before), f)
	if err != nil {
		t.Fatal(err)
	}
	if rest, ok := bytes.CutPrefix(out, before); !ok || !bytes.Equal(rest, s.Bytes) {
		t.Errorf("another frame is written than was read:\n%x\n%x", s.Bytes, rest)
	}
}

// checkID gives frames the ids of another connection, the lowest and the highest among them, and the first one back.
func checkID(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	if s.Kind != bridge.Request && s.Kind != bridge.OneWay && s.Kind != bridge.Response {
		t.Skip("its id is nobody's")
	}
	first, err := decode(codec, s.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{1, 2, 255, 65536, 1<<31 - 1} {
		f := *first
		f.ID, f.Key = id, nil
		out, err := codec.Append(nil, &f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(codec, out)
		if err != nil {
			t.Fatalf("with id %d: %v", id, err)
		}
		if got.ID == 0 && first.ID == 0 && !codec.Info().Multiplexed {
			t.Skip("the protocol has no ids")
		}
		if got.ID != id || got.Kind != first.Kind || string(got.Service) != string(first.Service) || string(got.Method) != string(first.Method) ||
			got.Status.Code != first.Status.Code || got.Timeout != first.Timeout {
			t.Fatalf("with id %d it reads as id %d, %v, %s/%s, %v", id, got.ID, got.Kind, got.Service, got.Method, got.Status.Code)
		}
		got.ID, got.Key = first.ID, first.Key
		if back, err := codec.Append(nil, got); err != nil || !bytes.Equal(back, s.Bytes) {
			t.Fatalf("with its own id again it is another frame: %v\n%x\n%x", err, s.Bytes, back)
		}
	}
}

// hostileMemory is what Decode may allocate for a frame of some hundred bytes, whatever these announce.
const hostileMemory = 1 << 20

// checkHostile puts extreme values wherever a length may stand. Whatever a frame then announces, Decode neither panics nor takes
// memory for it, and does not wait for more than the limit.
func checkHostile(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	info := codec.Info()
	long := make([]byte, info.Limit()+1)
	for at := range min(len(s.Bytes), 512) {
		for _, value := range [][]byte{
			{0xff}, {0x7f}, {0x80}, {0}, {0xff, 0xff}, {0x7f, 0xff}, {0, 0}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0, 0, 0, 0},
			{0xff, 0xff, 0xff, 0x7f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		} {
			b := bytes.Clone(s.Bytes)
			copy(b[at:], value)
			n := tryDecode(t, codec, b)
			if n != 0 {
				continue
			}
			copy(long, b)
			if tryDecode(t, codec, long) == 0 {
				t.Fatalf("with %x at byte %d Decode waits for more than its limit of %d bytes", value, at, info.Limit())
			}
			clear(long[:len(b)])
		}
	}
}

// tryDecode decodes any bytes; -1: they are refused.
func tryDecode(t testing.TB, codec bridge.FrameCodec, b []byte) int {
	t.Helper()
	var f bridge.Frame
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := codec.Decode(b, &f)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > hostileMemory && got > 4*uint64(max(n, 0)) {
		t.Fatalf("Decode allocates %d bytes for a frame of %d", got, len(b))
	}
	switch {
	case err != nil:
		if n != 0 {
			t.Fatalf("Decode takes %d bytes and fails: %v", n, err)
		}
		return -1
	case n < 0 || n > len(b):
		t.Fatalf("Decode takes %d of %d bytes", n, len(b))
	case n > 0 && len(f.Head)+len(f.Payload) != n:
		t.Fatalf("head and payload have %d and %d bytes, the frame has %d", len(f.Head), len(f.Payload), n)
	case n > 0 && f.Kind == 0:
		t.Fatal("a frame without a kind")
	}
	return n
}

// checkLocal has the codec answer by itself, as the engine does: from what it remembers of the request.
func checkLocal(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	f, err := decode(codec, s.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	req := bridge.Frame{
		Kind: f.Kind, ID: f.ID, Key: bytes.Clone(f.Key), Service: bytes.Clone(f.Service), Method: bytes.Clone(f.Method), Note: f.Note,
	}
	if s.Kind == bridge.Heartbeat {
		out, err := codec.Local(nil, &req, &wire.Status{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(codec, out); err != nil || got.Kind == bridge.Request || got.Kind == bridge.OneWay {
			t.Fatalf("a heartbeat's answer reads as %v: %v", got.Kind, err)
		}
		return
	}
	for code := wire.Cancelled; code <= wire.Unauthenticated; code++ {
		st := wire.Status{Code: code, Origin: wire.OriginClientProxy, Message: []byte("why not")}
		out, err := codec.Local([]byte("before"), &req, &st)
		if err != nil {
			t.Fatal(err)
		}
		out, ok := bytes.CutPrefix(out, []byte("before"))
		if !ok {
			t.Fatal("Local does not append")
		}
		got, err := decode(codec, out)
		switch {
		case err != nil:
			t.Fatalf("the answer for %v does not read: %v", code, err)
		case got.Kind != bridge.Response || got.ID != f.ID || string(got.Key) != string(f.Key):
			t.Fatalf("the answer for %v is %v with id %d %q, the request had %d %q", code, got.Kind, got.ID, got.Key, f.ID, f.Key)
		case got.Status.Code == wire.OK:
			t.Fatalf("the answer for %v reads as success", code)
		case !bytes.Contains(out, []byte("why not")):
			t.Errorf("the answer for %v does not say why", code)
		}
	}
}

// others begins what other protocols' connections begin with.
var others = map[string]string{
	"OctoMesh": "\x0c\x70\x11\x01\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00", "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"HTTP/1": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}

// checkSniff tells the protocol by the bytes of a request as they come, and is not taken in by others.
func checkSniff(t *testing.T, codec bridge.FrameCodec, s *Sample) {
	sure := false
	for n := 0; n <= len(s.Bytes); n++ {
		switch codec.Sniff(s.Bytes[:n:n]) {
		case bridge.No:
			t.Fatalf("the first %d bytes are not known", n)
		case bridge.More:
			if sure {
				t.Fatalf("%d bytes say less than one less", n)
			}
		case bridge.Yes:
			sure = true
		}
	}
	if !sure {
		t.Error("a whole request is not known")
	}
	for name, b := range others {
		if got := codec.Sniff([]byte(b)); got != bridge.No {
			t.Errorf("%s is taken for it: %d", name, got)
		}
	}
}
