// Package wire breaks two rules: it imports upwards and does I/O.
package wire

import (
	"net/netip"

	"example.com/tree/core/route"
)

var _ = netip.Addr{}
var _ = route.Name
