// Command protoc-gen-octo is the compiler plugin that writes OctoMesh clients and servers from the
// services of proto files. buf and protoc run it: docs/guides/generate.md says how.
//
// A run goes through three steps: plugin.go reads the request and the parameter and picks the back-end,
// package ir turns descriptors into services free of any language, and the language's own package
// (golang) prints them. A new language is one folder beside golang and one line in backendFor.
package main

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"
)

// version is the generator's own. The generated code needs an SDK of at least the version that brought in
// its generation, which RequireGen checks at compile time.
const version = "0.1.0"

const usage = `protoc-gen-octo writes OctoMesh clients and servers from proto services.
It is run by buf or protoc, with a request on standard input. In buf.gen.yaml:

    plugins:
      - local: protoc-gen-octo
        out: gen
        opt: [lang=go, paths=source_relative]

  --version   print the version
  --help      print this text
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run returns the exit code. What is wrong with the input of a compiler's request goes into the response,
// as the plugin protocol wants; exit codes are for being called in a wrong way.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		return runByHand(args, stdout, stderr)
	}
	encoded, err := io.ReadAll(stdin)
	if err != nil {
		fmt.Fprintf(stderr, "protoc-gen-octo: reading the request: %v\n", err)
		return 1
	}
	if len(encoded) == 0 {
		fmt.Fprintf(stderr, "protoc-gen-octo: no request on standard input\n\n%s", usage)
		return 2
	}
	response, err := proto.Marshal(respond(encoded))
	if err == nil {
		_, err = stdout.Write(response)
	}
	if err != nil {
		fmt.Fprintf(stderr, "protoc-gen-octo: writing the response: %v\n", err)
		return 1
	}
	return 0
}

func runByHand(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 {
		switch args[0] {
		case "--version":
			fmt.Fprintf(stdout, "protoc-gen-octo %s\n", version)
			return 0
		case "--help", "-h":
			fmt.Fprint(stdout, usage)
			return 0
		}
	}
	fmt.Fprintf(stderr, "protoc-gen-octo: unknown arguments %q\n\n%s", args, usage)
	return 2
}
