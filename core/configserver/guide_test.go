package configserver_test

import (
	"os"
	"strings"
	"testing"
)

// TestTheGuidesFileIsOneThatApplyTakes applies the YAML of docs/guides/config.md.
func TestTheGuidesFileIsOneThatApplyTakes(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(guide), "```yaml\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatal("the guide shows no YAML")
	}
	if c := open(t).must(text, "guide"); len(c) != 4 {
		t.Errorf("got %v", c)
	}
}
