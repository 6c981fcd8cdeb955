package control

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table is what one part of a run has found.
type Table struct {
	Part  string   `json:"part"`
	Title string   `json:"title"`
	Notes []string `json:"notes"` // how it was measured
	Heads []string `json:"heads"`
	Rows  [][]any  `json:"rows"` // each with a text or a number for each head
	Gates []Gate   `json:"gates"`
}

// Gate is a bound on a figure.
type Gate struct {
	What string  `json:"what"`
	Is   float64 `json:"is"`
	Goal float64 `json:"goal"` // at most
	OK   bool    `json:"ok"`
}

// gate judges a figure that is to be at most so much.
func (t *Table) gate(is, goal float64, what string, args ...any) {
	t.Gates = append(t.Gates, Gate{fmt.Sprintf(what, args...), is, goal, is <= goal})
}

// Verdict says in words whether the bound is kept.
func (g Gate) Verdict() string {
	if g.OK {
		return "ok"
	}
	return "FAILS"
}

// text is a cell or figure as people read it: with three digits that count.
func text(v any) string {
	n, ok := v.(float64)
	switch {
	case !ok:
		return fmt.Sprint(v)
	case n >= 100 || n == float64(int(n)):
		return fmt.Sprintf("%.0f", n)
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

// Print writes the table for a terminal.
func (t *Table) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s: %s\n", t.Part, t.Title)
	for _, n := range t.Notes {
		fmt.Fprintf(out, "  %s\n", n)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, strings.Join(t.Heads, "\t")+"\t")
	for _, r := range t.Rows {
		for _, cell := range r {
			fmt.Fprintf(w, "%s\t", text(cell))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range t.Gates {
		if _, err := fmt.Fprintf(out, "  %s: %s, at most %s: %s\n", g.What, text(g.Is), text(g.Goal), g.Verdict()); err != nil {
			return err
		}
	}
	return nil
}

// Markdown is the table as it stands on a page.
func (t *Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n", t.Title)
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	fmt.Fprintf(&b, "\n| %s |\n|%s\n", strings.Join(t.Heads, " | "), strings.Repeat("---|", len(t.Heads)))
	for _, r := range t.Rows {
		b.WriteString("|")
		for _, cell := range r {
			fmt.Fprintf(&b, " %s |", text(cell))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// GatesMarkdown is a table of the gates of all tables.
func (r *Report) GatesMarkdown() string {
	var b strings.Builder
	b.WriteString("\n## Gates\n\n| gate | is | at most | |\n|---|---|---|---|\n")
	for _, t := range r.Tables {
		for _, g := range t.Gates {
			verdict := g.Verdict()
			if !g.OK {
				verdict = "**" + verdict + "**"
			}
			fmt.Fprintf(&b, "| %s: %s | %s | %s | %s |\n", t.Part, g.What, text(g.Is), text(g.Goal), verdict)
		}
	}
	return b.String()
}
