package tree

import "testing"

func FuzzSound(f *testing.F) {
	f.Fuzz(func(*testing.T, []byte) {})
}

func FuzzFaulty(f *testing.F) {
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			t.Error("found")
		}
	})
}
