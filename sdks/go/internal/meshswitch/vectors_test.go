package meshswitch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

var modeNames = map[Mode]string{Auto: "auto", On: "on", Off: "off"}

// said is a word as the vectors write it.
func said(t *testing.T, text string) Word {
	if text == "" {
		return Word{}
	}
	w, err := ParseWord(text)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestDecideVectors(t *testing.T) {
	type question struct {
		File, Environment string
		Console           *uint32
		Forbidden         bool
		Scale             int
	}
	vectors.Each(t, "switch.json", "decide", func(t *testing.T, in question, out struct {
		By, Mode string
		Permille uint32
	}) {
		var console *Console
		if in.Console != nil {
			console = &Console{Permille: *in.Console}
		}
		d := Decide(said(t, in.File), said(t, in.Environment), console, in.Forbidden)
		if in.Scale > 0 {
			d.Permille = Scaled(d.Permille, in.Scale)
		}
		if d.By.String() != out.By || modeNames[d.Mode] != out.Mode || d.Permille != out.Permille {
			t.Fatal(d)
		}
	})
}

func TestFileVectors(t *testing.T) {
	vectors.Each(t, "switch.json", "file", func(t *testing.T, in struct{ Text string }, out struct {
		Targets map[string]string
		BadLine int `json:"bad_line"`
	}) {
		f, err := ParseFile([]byte(in.Text))
		if (err != nil) != (out.BadLine > 0) || err != nil && !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d:", out.BadLine)) {
			t.Fatal(err)
		}
		for target, want := range out.Targets {
			if got := f.Of(target); got != said(t, want) {
				t.Fatalf("%s: %+v, want %q", target, got, want)
			}
		}
	})
}

func TestFileIsBounded(t *testing.T) {
	if _, err := ParseFile(make([]byte, MaxFile+1)); err == nil {
		t.Fatal("it is too large")
	}
}

// The slots that calls get are those of the block's seed, in turn, one block after the other.
func TestBlockVectors(t *testing.T) {
	vectors.Each(t, "ratio.json", "block", func(t *testing.T, in struct{ Seed string }, out struct{ Slots []uint32 }) {
		seed, err := strconv.ParseUint(in.Seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		b := NewBlocks(func() uint64 { return seed })
		for k := range 2 * len(out.Slots) {
			if b.Mesh(0) || !b.Mesh(Whole) || !b.Mesh(Whole+1) {
				t.Fatal("nothing is to be decided there")
			}
			share := uint32(k)%998 + 1
			if got := b.Mesh(share); got != (out.Slots[k%len(out.Slots)] < share) {
				t.Fatalf("call %d at %d: %v, its slot is %d", k, share, got, out.Slots[k%len(out.Slots)])
			}
		}
	})
}
