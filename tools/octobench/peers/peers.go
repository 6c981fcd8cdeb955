// Package peers holds the settings under which other people's proxies are measured: for each the best that
// its documentation and tries here showed, with the reasons beside them. Templates are filled with the
// paths of Unix sockets.
package peers

import "embed"

// Templates are the configurations, by file name.
//
//go:embed *.tmpl
var Templates embed.FS

// Kitex is the version that tools/octobench/kitex pins.
const Kitex = "v0.16.3"
