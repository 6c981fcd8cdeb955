package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// outcome is what one run of a suite came to.
type outcome struct {
	cases  int
	failed map[string]string // what each failed case said
}

// row is a line of the table.
type row struct {
	suite, version, mode string

	cases, passed int
	known         []string          // cases that fail without proxies, too, in the same run, or are excused
	excused       map[string]string // cases that may fail, and why
	failed        []string          // cases that fail through the proxies alone
	why           map[string]string
	control       string // what passes without proxies, if that is another set of cases
}

// compare fills a row in from a run through the proxies and one without.
func (r *row) compare(through, control outcome) {
	r.cases, r.passed, r.why = through.cases, through.cases-len(through.failed), through.failed
	for _, name := range slices.Sorted(maps.Keys(through.failed)) {
		if _, too := control.failed[name]; too || r.excused[name] != "" {
			r.known = append(r.known, name)
		} else {
			r.failed = append(r.failed, name)
		}
	}
	r.control = fmt.Sprint(control.cases - len(control.failed))
	if control.cases != through.cases {
		r.failed = append(r.failed, fmt.Sprintf("%d cases instead of the %d without proxies", through.cases, control.cases))
	}
}

func (r *row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %d | %s |",
		r.suite, r.version, r.mode, r.cases, r.passed, len(r.known), len(r.failed), r.control)
}

const head = "| suite | version | what runs | cases | passed | known failures | failed | passed without proxies |\n" +
	"|---|---|---|---:|---:|---:|---:|---:|\n"

func table(rows []row) string {
	out := head
	for _, r := range rows {
		out += r.String() + "\n"
	}
	return out
}

// failures is what the proxies are to blame for.
func failures(rows []row) (err error) {
	for _, r := range rows {
		for _, name := range r.failed {
			why := r.why[name]
			err = errors.Join(err, fmt.Errorf("%s, %s: %s fails through the proxies alone: %s", r.suite, r.mode, name, why[max(0, len(why)-500):]))
		}
		if r.cases == 0 {
			err = errors.Join(err, fmt.Errorf("%s, %s: no case has run", r.suite, r.mode))
		}
	}
	return err
}

// inPage compares rows with those of a page.
func inPage(rows []row, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if !strings.Contains(string(text), "\n"+r.String()+"\n") {
			err = errors.Join(err, fmt.Errorf("%s has another row, or none, for %s\nmake interop writes it anew", file, r.String()))
		}
	}
	return err
}

// page is docs/interop.md: the same from each run of the same programs.
func page(rows []row) string {
	out := &strings.Builder{}
	out.WriteString(opening + "\n" + table(rows))
	out.WriteString("\n## Known failures\n\nThey fail without proxies, too, unless a reason is given.\n")
	for _, r := range rows {
		if len(r.known) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s, %s:\n\n", r.suite, r.mode)
		for _, name := range r.known {
			fmt.Fprintf(out, "- `%s`", name)
			if why := r.excused[name]; why != "" {
				out.WriteString(": " + why)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}
