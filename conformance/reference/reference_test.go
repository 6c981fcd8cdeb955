package reference

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// The vectors were made by the specification's tool; this peer must read and write the same bytes.
func TestFramesAreThoseOfTheVectors(t *testing.T) {
	text, err := os.ReadFile("../vectors/frame.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID     string
			Flags  []string
			Input  struct{ Header string }
			Result struct {
				Valid       bool
				Type, Flags uint8
				Stream      uint32
				HeadLen     uint16 `json:"head_len"`
				BodyLen     uint32 `json:"body_len"`
			}
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range file.Vectors {
		b, err := hex.DecodeString(v.Input.Header)
		if err != nil || len(b) != headerSize {
			t.Fatalf("%s: %q: %v", v.ID, v.Input.Header, err)
		}
		f, want := parseHeader(b), v.Result
		if got := f.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: %x was read and written as %x", v.ID, b, got)
		}
		if !want.Valid {
			continue
		}
		n++
		if uint8(f.Type) != want.Type || f.Flags != want.Flags || f.Stream != want.Stream || f.HeadLength != want.HeadLen || f.BodyLength != want.BodyLen {
			t.Errorf("%s: read as %+v, expected %+v", v.ID, f, want)
		}
	}
	if n == 0 {
		t.Fatal("no vector is valid: has their form changed?")
	}
}

// answer is the other side of a test: it reads one frame after the other and sends what the test says.
type answer func(f *Frame) []*Frame

// play lets a raw client go through steps with the other side, and returns what is wrong.
func play(t *testing.T, steps string, other answer) error {
	t.Helper()
	script := &conformancev1.RawConversation{}
	if err := protojson.Unmarshal([]byte(`{"steps": `+steps+`}`), script); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		for {
			f, err := Read(nc)
			if err != nil {
				return
			}
			for _, out := range other(f) {
				if out == nil {
					return
				}
				_, _ = nc.Write(out.Append(nil))
			}
		}
	}()
	p := New(Ends{Network: "tcp", Address: l.Addr().String(), Name: "t", Calls: "t", Patience: 5 * time.Second, Origin: wirev1.Origin_ORIGIN_SERVER_SDK})
	err = p.Play([]*conformancev1.RawConversation{script}, nil)
	<-done
	return err
}

func frame(t *testing.T, typ conformancev1.FrameType, stream uint32, head proto.Message, body string) *Frame {
	t.Helper()
	f := &Frame{Magic: magic, Version: 1, Type: typ, Stream: stream, Body: []byte(body), BodyLength: uint32(len(body))}
	if head != nil {
		var err error
		if f.Head, err = proto.Marshal(head); err != nil {
			t.Fatal(err)
		}
		f.HeadLength = uint16(len(f.Head))
	}
	return f
}

// good answers as a server would, but for what a test does about REQUESTs.
func good(t *testing.T, request answer) answer {
	return func(f *Frame) []*Frame {
		switch f.Type {
		case conformancev1.FrameType_FRAME_TYPE_HELLO:
			return []*Frame{frame(t, conformancev1.FrameType_FRAME_TYPE_WELCOME, 0, &wirev1.Welcome{Version: 1}, "")}
		case conformancev1.FrameType_FRAME_TYPE_PING:
			return []*Frame{frame(t, conformancev1.FrameType_FRAME_TYPE_PONG, 0, nil, string(f.Body))}
		case conformancev1.FrameType_FRAME_TYPE_REQUEST:
			return request(f)
		}
		return nil
	}
}

const callAndReset = `[{"send": {"type": "FRAME_TYPE_REQUEST", "call": {}}},
	{"expect": {"types": ["FRAME_TYPE_RESET"], "status": {"code": "CODE_INTERNAL", "reason": "REASON_STREAM_PROTOCOL"}, "shown": ["why"]}}]`

func TestWhatAPeerGetsIsComparedInFull(t *testing.T) {
	reset := func(change func(*wirev1.Status, *Frame)) answer {
		return good(t, func(f *Frame) []*Frame {
			st := &wirev1.Status{Code: 13, Reason: wirev1.Reason_REASON_STREAM_PROTOCOL, Origin: wirev1.Origin_ORIGIN_SERVER_SDK, Message: []byte("this is why")}
			out := &Frame{Type: conformancev1.FrameType_FRAME_TYPE_RESET, Stream: f.Stream}
			if change != nil {
				change(st, out)
			}
			return []*Frame{frame(t, out.Type, out.Stream, &wirev1.Reset{Status: st}, "")}
		})
	}
	if err := play(t, callAndReset, reset(nil)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*wirev1.Status, *Frame){
		"code":        func(s *wirev1.Status, _ *Frame) { s.Code = 14 },
		"reason":      func(s *wirev1.Status, _ *Frame) { s.Reason = wirev1.Reason_REASON_BAD_HEAD },
		"origin":      func(s *wirev1.Status, _ *Frame) { s.Origin = wirev1.Origin_ORIGIN_CLIENT_SDK },
		"disposition": func(s *wirev1.Status, _ *Frame) { s.Disposition = wirev1.Disposition_DISPOSITION_PROCESSED },
		"text":        func(s *wirev1.Status, _ *Frame) { s.Message = nil },
		"stream":      func(_ *wirev1.Status, f *Frame) { f.Stream += 2 },
		"type":        func(_ *wirev1.Status, f *Frame) { f.Type = conformancev1.FrameType_FRAME_TYPE_RESPONSE },
	} {
		if err := play(t, callAndReset, reset(change)); err == nil {
			t.Errorf("another %s was taken", name)
		}
	}
}

func TestNothingMoreThanExpectedMayCome(t *testing.T) {
	twice := good(t, func(f *Frame) []*Frame {
		one := frame(t, conformancev1.FrameType_FRAME_TYPE_RESET, f.Stream, &wirev1.Reset{}, "")
		return []*Frame{one, one}
	})
	steps := `[{"send": {"type": "FRAME_TYPE_REQUEST", "call": {}}}, {"expect": {"types": ["FRAME_TYPE_RESET"]}}]`
	if err := play(t, steps, twice); err == nil || !strings.Contains(err.Error(), "nothing was to come") {
		t.Errorf("a second frame was taken: %v", err)
	}
	ends := good(t, func(*Frame) []*Frame { return []*Frame{nil} })
	if err := play(t, `[{"send": {"type": "FRAME_TYPE_REQUEST", "call": {}}}]`, ends); err == nil {
		t.Error("an end of the connection was taken")
	}
	if err := play(t, `[{"send": {"type": "FRAME_TYPE_REQUEST", "call": {}}}, {"end": true}]`, ends); err != nil {
		t.Error(err)
	}
	if err := play(t, `[{"send": {"type": "FRAME_TYPE_REQUEST", "call": {}}}, {"end": true}]`, twice); err == nil {
		t.Error("a frame was taken for an end")
	}
}

func TestAGoAwayNamesTheFrameAtFault(t *testing.T) {
	steps := `[{"send": {"type": "FRAME_TYPE_REQUEST", "magic": 1, "call": {}}}, {"expect": {"types": ["FRAME_TYPE_GOAWAY"], "code": "GO_AWAY_CODE_PROTOCOL_ERROR"}}, {"end": true}]`
	for offset, ok := range map[uint64]bool{0: false, 1: true} {
		sent := 0
		err := play(t, strings.Replace(steps, `"magic": 1, `, "", 1), func(f *Frame) []*Frame {
			if f.Type == conformancev1.FrameType_FRAME_TYPE_HELLO {
				sent = len(f.Append(nil))
				return []*Frame{frame(t, conformancev1.FrameType_FRAME_TYPE_WELCOME, 0, &wirev1.Welcome{Version: 1}, "")}
			}
			g := &wirev1.GoAway{Code: wirev1.GoAwayCode_GO_AWAY_CODE_PROTOCOL_ERROR, Message: []byte("x"), Offset: offset * uint64(sent)}
			return []*Frame{frame(t, conformancev1.FrameType_FRAME_TYPE_GOAWAY, 0, g, ""), nil}
		})
		if (err == nil) != ok {
			t.Errorf("offset %d times the HELLO: %v", offset, err)
		}
	}
}
