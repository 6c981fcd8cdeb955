package meshswitch

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxFile bounds a kill switch's file, in bytes.
	MaxFile = 1 << 20
	// Every is the name that stands for all targets without a line of their own.
	Every = "*"
)

// File is what a kill switch's file says.
type File map[string]Word

// ParseFile reads a kill switch's file: a line for each target, or "*" for all others, with a permille, "on", "off" or "auto"; empty
// lines and what follows a "#" say nothing. A file with one bad line is bad as a whole: the error names the line.
func ParseFile(b []byte) (File, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%d bytes, at most %d", len(b), MaxFile)
	}
	f := File{}
	for i, line := range bytes.Split(b, []byte("\n")) {
		text, _, _ := strings.Cut(string(line), "#")
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
			continue
		case len(words) != 2:
			return nil, fmt.Errorf("line %d: want a target, or *, and a permille, on, off or auto", i+1)
		}
		if _, twice := f[words[0]]; twice {
			return nil, fmt.Errorf("line %d: %s has a line already", i+1, words[0])
		}
		w, err := ParseWord(words[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		f[words[0]] = w
	}
	return f, nil
}

// ParseWord reads a permille, "on", "off" or "auto".
func ParseWord(text string) (Word, error) {
	switch text {
	case "on":
		return Word{Said: true, Mode: On}, nil
	case "off":
		return Word{Said: true, Mode: Off}, nil
	case "auto":
		return Word{Said: true, Back: true}, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > Whole || text != strconv.FormatUint(n, 10) {
		return Word{}, fmt.Errorf("%q is neither a permille from 0 to 1000 nor on, off or auto", text)
	}
	return Word{Said: true, HasShare: true, Share: uint32(n)}, nil
}

// Of is what the file says of a target.
func (f File) Of(target string) Word {
	if w, ok := f[target]; ok {
		return w
	}
	return f[Every]
}
