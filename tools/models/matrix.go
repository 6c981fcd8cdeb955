package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// row is one line of matrix.txt: NAME EXPECTED CHECK MODEL [SWITCH...].
type row struct {
	name     string
	expected string // ok or cex
	check    string // safety or progress
	model    string
	switches []string
}

func readMatrix(file string) ([]row, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []row
	names := map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		r, err := parseRow(fields)
		if err == nil && names[r.name] {
			err = fmt.Errorf("%s stands there twice", r.name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		names[r.name] = true
		rows = append(rows, r)
	}
	return rows, lines.Err()
}

func parseRow(fields []string) (row, error) {
	if len(fields) < 4 {
		return row{}, fmt.Errorf("want NAME EXPECTED CHECK MODEL [SWITCH...]")
	}
	r := row{fields[0], fields[1], fields[2], fields[3], fields[4:]}
	if r.expected != ok && r.expected != counterexample {
		return row{}, fmt.Errorf("expected is %q, not %s or %s", r.expected, ok, counterexample)
	}
	if _, known := checks[r.check]; !known {
		return row{}, fmt.Errorf("check is %q, not safety or progress", r.check)
	}
	return r, nil
}
