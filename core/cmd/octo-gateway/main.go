// Command octo-gateway is a proxy without applications beside it: it carries the calls of clients of foreign protocols that
// cannot run one.
//
//	octo-gateway --config gateway.yaml [--takeover]
//
// The file is an octo.resource.v1.Bootstrap in YAML; docs/guides/grpc.md says what is in it.
package main

import (
	"github.com/octomesh/octomesh/core/cmd/internal/proxyd"
	"github.com/octomesh/octomesh/core/resource"
)

func main() { proxyd.Main("octo-gateway", resource.Gateway) }
