// Command layers checks that packages import downwards only, as layers.yaml says.
//
// It asks `go list` for the imports of every package of every module below a directory, puts each
// package into its layer and prints what goes upwards, sideways where that is closed, or against a
// ban. A package that is in no layer is an error too: otherwise a new folder would escape the check.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "directory with the modules")
	file := flag.String("config", "layers.yaml", "what is allowed")
	flag.Parse()

	violations, packages, err := run(*root, *file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "layers:", err)
		os.Exit(2)
	}
	for _, v := range violations {
		fmt.Println(v)
	}
	fmt.Printf("layers: %d packages, %d violations\n", packages, len(violations))
	if len(violations) > 0 {
		os.Exit(1)
	}
}

func run(root, file string) (violations []string, packages int, err error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, 0, err
	}
	pkgs, err := listPackages(root)
	if err != nil {
		return nil, 0, err
	}
	return check(cfg, pkgs), len(pkgs), nil
}
