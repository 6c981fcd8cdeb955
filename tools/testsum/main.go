// Command testsum reads the events of `go test -json` from standard input, prints what a person
// wants to see of them, and ends with one line "N passed, N failed, N skipped".
//
// Of a package that crashed, or whose time was over, it shows where its goroutines stood.
//
// Several runs may follow each other on the input, one for each module. It exits 1 if anything
// failed, a package that does not build included, and also if no test ran at all. With -report it
// writes a short table in Markdown as well.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	report := flag.String("report", "", "file for a short report in Markdown")
	flag.Parse()

	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	s.finish()
	if *report != "" {
		if err := os.WriteFile(*report, []byte(s.markdown()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(2)
		}
	}
	if !s.ok() {
		os.Exit(1)
	}
}
