package resource

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a resource.
type Problem struct {
	File     string // empty: it did not come from a file
	Line     int    // from 1; 0: unknown
	Resource string // such as "policy shop.cart"; empty: the file as a whole
	Field    string // its path, such as "policies[0].routes[1].timeout"
	Text     string // what is wrong, and what to write instead
	Warning  bool   // it is odd, but calls can go
	Target   string // that is referred to, and that nothing here knows; empty: it is not that
}

// String returns "file:line: field (resource): text", less what is unknown.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	switch {
	case p.Field != "" && p.Resource != "":
		fmt.Fprintf(&b, "%s (%s): ", p.Field, p.Resource)
	case p.Field != "" || p.Resource != "":
		b.WriteString(p.Field + p.Resource + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error is why a snapshot was refused.
type Error struct{ Problems []Problem }

// Error returns a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Errors returns a [*Error] of the problems that are not warnings, or nil if there are none.
func Errors(problems []Problem) error {
	if bad := filter(problems, false); len(bad) > 0 {
		return &Error{bad}
	}
	return nil
}

// Warnings returns the problems that are warnings.
func Warnings(problems []Problem) []Problem { return filter(problems, true) }

func filter(problems []Problem, warning bool) []Problem {
	var out []Problem
	for _, p := range problems {
		if p.Warning == warning {
			out = append(out, p)
		}
	}
	return out
}
