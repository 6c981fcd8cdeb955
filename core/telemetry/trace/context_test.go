package trace_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/telemetry/trace"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestContextIsReadAndWritten(t *testing.T) {
	c, ok := trace.Parse([]byte(traceparent))
	if !ok || !c.Sampled() || c.Trace.String() != "0af7651916cd43dd8448eb211c80319c" || c.Span.String() != "b7ad6b7169203331" {
		t.Fatalf("%+v, %v", c, ok)
	}
	if got := string(c.Append(nil)); got != traceparent {
		t.Errorf("written as %s", got)
	}
	later, ok := trace.Parse([]byte("01" + traceparent[2:53] + "ff-more"))
	if !ok || later.Flags != trace.Sampled {
		t.Errorf("a later version: %+v, %v", later, ok)
	}
}

// TestVectors holds the parser to the vectors that every SDK reads.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("../../../conformance/vectors/traceparent.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID     string
			Input  map[string]any
			Result map[string]any
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range file.Vectors {
		text, ok := v.Input["traceparent"].(string)
		if !ok {
			continue
		}
		n++
		c, valid := trace.Parse([]byte(text))
		if valid != v.Result["valid"] {
			t.Errorf("%s: %q is valid: %v", v.ID, text, valid)
		}
		if valid && !strings.Contains(text, c.Trace.String()+"-"+c.Span.String()) {
			t.Errorf("%s: read as %+v", v.ID, c)
		}
	}
	if n == 0 {
		t.Error("no vector was read")
	}
}

func TestRootsAreSampledAndDiffer(t *testing.T) {
	a, b := trace.NewRoot(), trace.NewRoot()
	if a.Trace == b.Trace || a.Span == b.Span || !a.Sampled() {
		t.Errorf("%+v and %+v", a, b)
	}
	if _, ok := trace.Parse(a.Append(nil)); !ok {
		t.Errorf("%s is not valid", a.Append(nil))
	}
}

func TestShareIsDrawn(t *testing.T) {
	const n = 100_000
	for permille, want := range map[uint32][2]int{0: {0, 0}, 10: {n / 200, n / 50}, 500: {n * 45 / 100, n * 55 / 100}, 1000: {n, n}, 2000: {n, n}} {
		share, got := trace.Permille(permille), 0
		for range n {
			if share.Draw() {
				got++
			}
		}
		if got < want[0] || got > want[1] {
			t.Errorf("%d in a thousand: %d of %d", permille, got, n)
		}
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	text, out := []byte(traceparent), make([]byte, 0, trace.Size)
	if n := testing.AllocsPerRun(100, func() {
		c, _ := trace.Parse(text)
		c.Span = trace.NewSpanID()
		out = c.Append(out[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(traceparent))
	f.Add([]byte("cc" + traceparent[2:] + "-x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := trace.Parse(b)
		if !ok {
			return
		}
		again, ok := trace.Parse(c.Append(nil))
		if !ok || again != c {
			t.Errorf("%q reads as %+v, and written again as %+v", b, c, again)
		}
	})
}
