package main

import (
	"fmt"
	"regexp"
	"strings"
)

// maxStackLines bounds what is shown of a crash's goroutines: a dump can have tens of thousands of lines.
const maxStackLines = 400

// crashes tells whether a line begins what the runtime says when a test binary dies of a panic, of a deadlock or of the
// time that its package may take. All that the package says from then on belongs to it; `go test -json` gives it to
// whichever test spoke last, also one that has passed.
func crashes(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// stack is a goroutine of a dump, or several that stand at the same place.
type stack struct {
	lines []string
	count int
	rank  int
}

// The ranks of stacks, of which the first are shown first and the last not at all.
const (
	rankOurs = iota
	rankOthers
	rankStandard
)

var (
	stackHead = regexp.MustCompile(`^goroutine \d+.*\[([^,\]]*).*\]:$`)
	arguments = regexp.MustCompile(`\((0x|\{|\.\.\.|_).*\)$`)
	numbers   = regexp.MustCompile(` \+0x[0-9a-f]+$| in goroutine \d+$`)
)

// crashReport shortens what a package said when it crashed: first the words, then the goroutine that crashed and those
// that are in our own packages, then those in libraries, goroutines at the same place only once. What the standard
// library and the tests' runner have for themselves is left out.
func crashReport(pkg string, lines []string) []string {
	report, stacks := parseCrash(pkg, lines)
	left, room := 0, maxStackLines
	for rank := rankOurs; rank <= rankStandard; rank++ {
		for _, s := range stacks {
			switch {
			case s.rank != rank:
			case rank == rankStandard || len(s.lines) > room:
				left += s.count
			default:
				room -= len(s.lines)
				report = append(append(report, ""), s.shown()...)
			}
		}
	}
	if left > 0 {
		report = append(report, "", fmt.Sprintf("%d more goroutines are left out", left))
	}
	return report
}

// parseCrash tells the words of a dump from its goroutines.
func parseCrash(pkg string, lines []string) (words []string, stacks []*stack) {
	parts := strings.Split(pkg, "/")
	root := strings.Join(parts[:min(3, len(parts))], "/") // a host, an owner and a repository
	places := map[string]*stack{}
	for len(lines) > 0 {
		if !stackHead.MatchString(lines[0]) {
			if lines[0] != "" {
				words = append(words, lines[0])
			}
			lines = lines[1:]
			continue
		}
		end := 1
		for end < len(lines) && lines[end] != "" {
			end++
		}
		s := &stack{lines: lines[:end], count: 1}
		lines = lines[end:]
		place := s.place()
		if same := places[place]; same != nil {
			same.count++
			continue
		}
		s.rank = s.rankFor(root)
		if len(stacks) == 0 && !strings.Contains(place, "startAlarm") { // of a panic the first one is where it was
			s.rank = rankOurs
		}
		places[place] = s
		stacks = append(stacks, s)
	}
	return words, stacks
}

// place is the same for goroutines that stand at the same place in the same state.
func (s *stack) place() string {
	var place strings.Builder
	place.WriteString(stackHead.FindStringSubmatch(s.lines[0])[1])
	for _, line := range s.lines[1:] {
		place.WriteString("\n" + arguments.ReplaceAllString(numbers.ReplaceAllString(line, ""), ""))
	}
	return place.String()
}

// rankFor is by the best of a stack's functions: one is ours if it is below root, and the standard library's if the
// first part of its path has no dot, as a host has.
func (s *stack) rankFor(root string) int {
	rank := rankStandard
	for _, line := range s.lines[1:] {
		line = strings.TrimPrefix(line, "created by ")
		host, _, path := strings.Cut(line, "/")
		switch {
		case strings.HasPrefix(line, "\t"):
		case strings.HasPrefix(line, root):
			return rankOurs
		case path && strings.Contains(host, "."):
			rank = rankOthers
		}
	}
	return rank
}

func (s *stack) shown() []string {
	if s.count == 1 {
		return s.lines
	}
	head := fmt.Sprintf("%s (and %d more at the same place)", s.lines[0], s.count-1)
	return append([]string{head}, s.lines[1:]...)
}
