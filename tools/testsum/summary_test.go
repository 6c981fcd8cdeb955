package main

import (
	"strings"
	"testing"
)

func summarize(t *testing.T, input string) (*summary, string) {
	t.Helper()
	var out strings.Builder
	s := newSummary(&out)
	if err := s.read(strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	s.finish()
	return s, out.String()
}

func TestSummary(t *testing.T) {
	for _, tc := range []struct {
		name, input string
		ok          bool
		want        []string
		wantNot     string
	}{
		{
			name: "a passing run counts tests and hides their output",
			input: `{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1.5}
{"Action":"skip","Package":"without"}`,
			ok: true, want: []string{"ok      1.50s  p\n", "\n1 passed, 0 failed, 1 skipped\n"}, wantNot: "chatter",
		},
		{
			name: "a failing test shows its output",
			input: `{"Action":"output","Package":"p","Test":"TestA","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: []string{"got 1, want 2\n", "failed: p\n", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			name: "a package that does not build is a failure",
			input: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			want: []string{"undefined: x\n", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			name: "a panic shows where it was",
			input: `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			want: []string{"NOT ENDED: p TestB\n", "CRASHED: p\npanic: boom\n", "\n1 passed, 1 failed, 0 skipped\n"},
		},
		{
			name:  "no test at all is a failure",
			input: `{"Action":"skip","Package":"p"}`,
			want:  []string{"no test ran\n", "0 passed, 0 failed, 0 skipped\n"},
		},
		{
			name:  "words of the go command pass through",
			input: "go: updates to go.mod needed\n",
			want:  []string{"go: updates to go.mod needed\n"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, out := summarize(t, tc.input)
			if s.ok() != tc.ok {
				t.Errorf("ok = %v, want %v", s.ok(), tc.ok)
			}
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in:\n%s", want, out)
				}
			}
			if tc.wantNot != "" && strings.Contains(out, tc.wantNot) {
				t.Errorf("%q should not be in:\n%s", tc.wantNot, out)
			}
		})
	}
}
