package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/octomesh/octomesh/examples/shop/trace"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// printer writes for people: with colours on a terminal, and without elsewhere.
type printer struct {
	mu     sync.Mutex
	w      *bufio.Writer
	colour bool
}

func newPrinter(f *os.File) *printer {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &printer{w: bufio.NewWriter(f), colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p *printer) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) bad(text string) string   { return p.paint("31", text) }
func (p *printer) bold(text string) string  { return p.paint("1", text) }
func (p *printer) faint(text string) string { return p.paint("2", text) }

// line writes a line at once: people wait for it.
func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
	_ = p.w.Flush()
}

func (p *printer) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.w.Flush()
}

func (p *printer) title(text string) { p.line("\n%s\n", p.bold(text)) }
func (p *printer) note(format string, args ...any) {
	p.line("%s", p.faint("  "+fmt.Sprintf(format, args...)))
}

func (p *printer) step(number int, name string, took time.Duration, said string) {
	if number == 1 {
		p.line("")
	}
	p.line("%2d  %s%s %s  %s", number, p.bold(name), pad(name, 36), took3(took), said)
}

// operator prints what happened to the mesh.
func (p *printer) operator(format string, args ...any) {
	p.line("    %s", p.paint("33", fmt.Sprintf(format, args...)))
}

func (p *printer) paths(lines []string) {
	for _, l := range lines {
		p.line("      %s", p.paint("36", l))
	}
}

// chain prints the calls of one trace as a tree.
func (p *printer) chain(traceID string, spans []*trace.Span) {
	p.line("      one trace %s with baggage tier=%s", traceID, spans[0].Baggage["tier"])
	known := make(map[string]bool)
	for _, s := range spans {
		known[s.Span] = true
	}
	for _, s := range spans {
		if !known[s.Parent] {
			p.branch(s, spans, "      ", "")
		}
	}
}

// timings prints where the time of a call went, if its handler answered: else the caller knows its own part only.
func (p *printer) timings(t *octomesh.Timings) {
	if t.Of(octomesh.StageHandler) == 0 {
		return
	}
	ms := func(kinds ...octomesh.StageKind) string {
		var sum time.Duration
		for _, k := range kinds {
			sum += t.Of(k)
		}
		return fmt.Sprintf("%.2f", float64(sum.Microseconds())/1000)
	}
	p.line("      of %.2f ms: handler %s, proxies %s, sockets and network %s, SDKs %s", float64(t.Total.Microseconds())/1000,
		ms(octomesh.StageHandler), ms(octomesh.StageProxyRequest, octomesh.StageProxyResponse), ms(octomesh.StageLink),
		ms(octomesh.StageSDKQueue, octomesh.StageSDKResponse, octomesh.StageServerQueue, octomesh.StageServerResponse))
}

func (p *printer) branch(s *trace.Span, all []*trace.Span, indent, mark string) {
	name := s.Instance + "  " + s.Method[strings.LastIndexByte(s.Method, '/')+1:]
	text := indent + mark + name
	p.line("%s%s %s  %s", text, pad(text, 40), took3(time.Duration(s.TookUS)*time.Microsecond), p.faint(detail(s)))
	children := slices.DeleteFunc(slices.Clone(all), func(c *trace.Span) bool { return c.Parent != s.Span })
	next := indent
	switch mark {
	case "├─ ":
		next += "│  "
	case "└─ ":
		next += "   "
	}
	for i, c := range children {
		mark := "├─ "
		if i == len(children)-1 {
			mark = "└─ "
		}
		p.branch(c, all, next, mark)
	}
}

func detail(s *trace.Span) string {
	text := fmt.Sprintf("%s, called by %s", s.Code, s.Caller)
	if s.BudgetUS > 0 {
		text += fmt.Sprintf(", %d ms left when it came", s.BudgetUS/1000)
	}
	return text
}

// compare prints both ways' times side by side.
func (p *printer) compare(mesh, direct []result) {
	p.title("Times as the customer saw them")
	p.mu.Lock()
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmesh\tdirect\t")
	for _, m := range mesh {
		i := slices.IndexFunc(direct, func(d result) bool { return d.name == m.name })
		if i >= 0 {
			fmt.Fprintf(t, "%s\t%s\t%s\t\n", m.name, took3(m.took), took3(direct[i].took))
		}
	}
	_ = t.Flush()
	p.mu.Unlock()
	p.line("\nOne call each, the first to each service on a new connection; medians where there are many.")
	p.line("\nEverything was as expected.")
}

// table prints what each proxy has counted since it started.
func (s *shop) table(ctx context.Context, out *printer) error {
	counters, err := s.count(ctx)
	if err != nil {
		return err
	}
	out.title("Calls by proxy, from octo_calls_total")
	out.mu.Lock()
	defer out.mu.Unlock()
	t := tabwriter.NewWriter(out.w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "  proxy of\tdirection\ttarget\tOK\tother")
	for _, p := range s.proxies {
		for _, direction := range []string{outbound, inbound} {
			for _, target := range []string{cart, catalogue, checkout} {
				row(t, counters, p.beside, direction, target)
			}
		}
	}
	return t.Flush()
}

func row(w io.Writer, counters map[counted]int, beside, direction, target string) {
	ok, other := 0, []string{}
	for c, n := range counters {
		switch {
		case c.proxy != beside || c.direction != direction || c.target != target:
		case c.code == "OK":
			ok = n
		default:
			other = append(other, fmt.Sprintf("%d %s", n, c.code))
		}
	}
	if ok == 0 && len(other) == 0 {
		return
	}
	slices.Sort(other)
	fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%s\n", beside, direction, target, ok, strings.Join(other, ", "))
}

// hints says what to try while the mesh keeps running.
func (s *shop) hints(out *printer) {
	out.title("The mesh keeps running. Ctrl-C ends it. To try, in another shell:")
	for _, l := range []string{
		"export PATH=" + s.bin + ":$PATH OCTO_SOCKET=" + s.dir + "/customer.sock",
		"export OCTO_CONTROL=" + s.keptPlane.address + " OCTO_ENVIRONMENT=" + environment,
		"", "# be a customer", "customer list", "customer get --times 100 atlas", "customer order ada atlas=1 compass=2", "customer watch",
		"", "# be the operator", "octo instance list catalogue",
		"octo apply -f " + filepath.Join(s.root, "examples/shop/policies/canary.yaml") + ` -m "try version 2"`,
		"octo explain catalogue --caller customer", `octo delete policy catalogue -m "tried"`,
		"", "# ask a proxy", "curl --unix-socket " + s.dir + "/customer.admin http://proxy/calls",
		"curl -s --unix-socket " + s.dir + "/customer.admin http://proxy/metrics | grep ^octo_",
	} {
		if strings.HasPrefix(l, "#") {
			l = out.faint(l)
		}
		out.line("  %s", l)
	}
}

func pad(text string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// took3 prints a duration in milliseconds, the same width for all that a call takes.
func took3(d time.Duration) string { return fmt.Sprintf("%8.2f ms", float64(d.Microseconds())/1000) }
