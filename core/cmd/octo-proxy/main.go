// Command octo-proxy is the sidecar: it carries the calls of the applications beside it.
//
//	octo-proxy --config proxy.yaml [--takeover]
//
// The file is an octo.resource.v1.Bootstrap in YAML; docs/guides/proxy.md says what is in it.
package main

import (
	"github.com/octomesh/octomesh/core/cmd/internal/proxyd"
	"github.com/octomesh/octomesh/core/resource"
)

func main() { proxyd.Main("octo-proxy", resource.Sidecar) }
