// Package route breaks one rule: its layer is closed.
package route

import "example.com/tree/core/other"

const Name = other.Name
