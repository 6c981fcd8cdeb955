package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/octomesh/octomesh/core/wire"
)

const vectorsDir = "../../conformance/vectors"

// vector is a case of any file; a file's test knows what input and result hold.
type vector struct {
	ID     string          `json:"id"`
	Kind   string          `json:"kind"`
	Flags  []string        `json:"flags"`
	Input  json.RawMessage `json:"input"`
	Result json.RawMessage `json:"result"`
}

// eachVector runs a test for every vector of a file.
func eachVector(t *testing.T, name string, run func(t *testing.T, v vector)) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(file.Vectors) == 0 {
		t.Fatalf("%s has no vectors", name)
	}
	for _, v := range file.Vectors {
		t.Run(v.ID, func(t *testing.T) { run(t, v) })
	}
}

// in reads a part of a vector.
func in[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out
}

// hexBytes is bytes in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// decimal is a 64-bit number as a string.
type decimal uint64

func (d *decimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	*d = decimal(n)
	return err
}

// chunks is a run of bytes in pieces: hex, once or repeated, or so many zeros.
type chunks []struct {
	Hex          hexBytes
	Repeat, Fill int
}

func (c chunks) bytes() []byte {
	var out []byte
	for _, p := range c {
		out = append(out, bytes.Repeat(p.Hex, max(p.Repeat, 1))...)
		out = append(out, make([]byte, p.Fill)...)
	}
	return out
}

func TestFrameVectors(t *testing.T) {
	kinds := map[string]wire.FrameErrorKind{
		"magic": wire.BadMagic, "version": wire.BadVersion, "body_limit": wire.BodyTooLong, "body_length": wire.BadLength,
	}
	eachVector(t, "frame.json", func(t *testing.T, v vector) {
		input := in[struct {
			Header       hexBytes
			MaxFrameBody uint32 `json:"max_frame_body"`
		}](t, v.Input)
		want := in[struct {
			Valid   bool
			Error   string
			Type    uint8
			Name    string
			Flags   uint8
			HeadLen uint16 `json:"head_len"`
			Stream  uint32
			BodyLen uint32 `json:"body_len"`
			Cost    int64
		}](t, v.Result)
		h, err := wire.ParseHeader(input.Header, input.MaxFrameBody)
		var broken *wire.FrameError
		switch {
		case want.Error == "stream":
			// A header alone does not show it; the connection refuses the frame.
			if err != nil {
				t.Fatalf("ParseHeader: %v", err)
			}
			whole := append(input.Header, make([]byte, int(h.HeadLen)+int(h.BodyLen))...)
			if _, err := accepting(wire.Limits{}).Feed(whole, new(wire.Event)); err == nil {
				t.Error("Feed took the frame")
			}
			return
		case !want.Valid:
			if !errors.As(err, &broken) || broken.Kind != kinds[want.Error] {
				t.Errorf("got %v, want %s", err, want.Error)
			}
			return
		case err != nil:
			t.Fatal(err)
		}
		got := wire.Header{Type: wire.Type(want.Type), Flags: wire.Flags(want.Flags), HeadLen: want.HeadLen, Stream: want.Stream, BodyLen: want.BodyLen}
		if h != got {
			t.Errorf("got %+v, want %+v", h, got)
		}
		if want.Name != "UNKNOWN" && h.Type.String() != want.Name {
			t.Errorf("name is %v, want %s", h.Type, want.Name)
		}
		if want.Name != "UNKNOWN" && h.Cost() != want.Cost {
			t.Errorf("cost is %d, want %d", h.Cost(), want.Cost)
		}
		if len(v.Flags) == 0 || v.Flags[0] != "NonCanonical" {
			if enc := h.Append(nil); !bytes.Equal(enc, input.Header) {
				t.Errorf("encodes to %x", enc)
			}
		}
	})
}

// accepting is a callee of CALL after its handshake.
func accepting(local wire.Limits) *wire.Conn {
	c := wire.NewConn(wire.Config{Side: wire.Acceptor, Local: local, Origin: wire.OriginServerSDK})
	c.Resume(wire.RoleCall, wire.Limits{})
	return c
}

func TestTimeoutVectors(t *testing.T) {
	eachVector(t, "timeout.json", func(t *testing.T, v vector) {
		input := in[struct {
			LeftNS    decimal `json:"left_ns"`
			TimeoutUS decimal `json:"timeout_us"`
			ElapsedNS decimal `json:"elapsed_ns"`
		}](t, v.Input)
		want := in[struct {
			None, Expired bool
			TimeoutUS     decimal `json:"timeout_us"`
		}](t, v.Result)
		switch v.Kind {
		case "encode":
			if got := wire.TimeoutUS(int64(input.LeftNS)); got != uint64(want.TimeoutUS) {
				t.Errorf("got %d, want %d", got, want.TimeoutUS)
			}
		case "decode":
			if !want.None && wire.TimeoutNanos(uint64(input.TimeoutUS)) != int64(want.TimeoutUS)*1000 {
				t.Errorf("got %d ns, want %d us", wire.TimeoutNanos(uint64(input.TimeoutUS)), want.TimeoutUS)
			}
		case "remaining":
			left := wire.TimeoutNanos(uint64(input.TimeoutUS)) - int64(input.ElapsedNS)
			if input.TimeoutUS == 0 {
				return // no deadline: nothing is computed
			}
			if (left <= 0) != want.Expired || left > 0 && wire.TimeoutUS(left) != uint64(want.TimeoutUS) {
				t.Errorf("%d ns are left, want %+v", left, want)
			}
		case "user":
			t.Skip("an SDK's rule")
		}
	})
}

func TestRatioVectors(t *testing.T) {
	eachVector(t, "ratio.json", func(t *testing.T, v vector) {
		input := in[struct {
			Bytes, Target, Key hexBytes
			Seed               json.RawMessage
			Permille           uint32
		}](t, v.Input)
		want := in[struct {
			Hash     uint32
			Mesh     json.RawMessage
			Permille uint32
			First    int
			Slots    []uint32
		}](t, v.Result)
		switch v.Kind {
		case "murmur3":
			if got := wire.Murmur3(input.Bytes, in[uint32](t, input.Seed)); got != want.Hash {
				t.Errorf("got %08x, want %08x", got, want.Hash)
			}
		case "sticky":
			if got := wire.StickyMesh(string(input.Target), input.Key, input.Permille); got != in[bool](t, want.Mesh) {
				t.Errorf("got %v", got)
			}
		case "threshold":
			for r := uint32(0); r <= 1000; r++ {
				if got := wire.StickyMesh(string(input.Target), input.Key, r); got != (r >= want.Permille) {
					t.Fatalf("at %d: %v, threshold is %d", r, got, want.Permille)
				}
			}
		case "block":
			var slots wire.Slots
			slots.Shuffle(uint64(in[decimal](t, input.Seed)))
			for k, slot := range want.Slots {
				if uint32(slots[k]) != slot {
					t.Fatalf("slot %d is %d, want %d", k, slots[k], slot)
				}
			}
		case "share":
			var slots wire.Slots
			slots.Shuffle(uint64(in[decimal](t, input.Seed)))
			n, first := 0, -1
			for k, slot := range slots {
				if uint32(slot) < input.Permille {
					if n++; first < 0 {
						first = k
					}
				}
			}
			if n != in[int](t, want.Mesh) || first != want.First {
				t.Errorf("%d calls, the first is %d, want %s and %d", n, first, want.Mesh, want.First)
			}
		}
	})
}

func TestLivenessVectors(t *testing.T) {
	names := map[wire.Verdict]string{wire.Alive: "alive", wire.SendPing: "ping", wire.Gone: "gone"}
	eachVector(t, "liveness.json", func(t *testing.T, v vector) {
		input := in[struct {
			Steps []struct {
				Received, Drained, Unary bool
				Repeat                   int
			}
		}](t, v.Input)
		want := in[struct{ Steps []struct{ Verdict string } }](t, v.Result)
		var l wire.Liveness
		for i, s := range input.Steps {
			for n := range s.Repeat {
				expect := "alive"
				if n == s.Repeat-1 {
					expect = want.Steps[i].Verdict
				}
				if got := names[l.Tick(s.Received, s.Drained, s.Unary)]; got != expect {
					t.Fatalf("step %d, tick %d: %s, want %s", i, n, got, expect)
				}
			}
		}
	})
}
