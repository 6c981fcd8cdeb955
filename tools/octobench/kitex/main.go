// Command kitex is Kitex' sides of octobench: a server and clients that share one connection each by its
// multiplexing transport. It is a module of its own, so that nobody else needs what Kitex brings.
package main

import (
	"fmt"
	"os"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != side.Command {
		fmt.Fprintln(os.Stderr, "kitex: octobench starts this program")
		os.Exit(2)
	}
	kinds := side.Kinds{"kitex-server": server, "kitex-client": client, "kitex-named-client": named}
	if err := kinds.Run(os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kitex:", err)
		os.Exit(1)
	}
}
