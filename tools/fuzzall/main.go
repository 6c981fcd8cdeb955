// Command fuzzall finds the Go fuzz targets below a directory and runs each in turn.
//
// With -each every target gets that time; with -total the time is split evenly over them. It prints
// what `go test` says of a failure, and at the end a table with the executions of each target.
// -report writes that table as Markdown.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	root := flag.String("root", ".", "where to look for targets")
	each := flag.Duration("each", 0, "time for each target")
	total := flag.Duration("total", 0, "time for all targets together")
	report := flag.String("report", "", "file for the table in Markdown")
	flag.Parse()

	ok, err := run(*root, *each, *total, *report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(root string, each, total time.Duration, report string) (bool, error) {
	if (each > 0) == (total > 0) {
		return false, fmt.Errorf("one of -each and -total is needed")
	}
	targets, err := findTargets(root)
	if err != nil {
		return false, err
	}
	if len(targets) == 0 {
		fmt.Println("fuzzall: no fuzz target exists yet")
		return true, nil
	}
	if total > 0 {
		each = (total / time.Duration(len(targets))).Truncate(time.Second)
	}
	if each < time.Second {
		return false, fmt.Errorf("%v for each of %d targets is too short", each, len(targets))
	}
	results := make([]result, 0, len(targets))
	ok := true
	for i, t := range targets {
		fmt.Printf("fuzz %d/%d %s for %v\n", i+1, len(targets), t, each)
		r := fuzz(t, each)
		if r.failed {
			ok = false
			fmt.Print(r.output)
		}
		fmt.Printf("     %d executions, %d new inputs\n", r.executions, r.interesting)
		results = append(results, r)
	}
	text := table(results)
	fmt.Print(text)
	if report != "" {
		err = os.WriteFile(report, []byte(text), 0o644)
	}
	return ok, err
}
