package h2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// ConnError ends a connection: what the peer did wrong, or why this side gives up.
type ConnError struct {
	Code    http2.ErrCode
	Message string
	Offset  uint64 // of the frame at fault, in bytes since the connection began
}

// Error says what was wrong, and where.
func (e *ConnError) Error() string {
	return fmt.Sprintf("http2: %v at byte %d: %s", e.Code, e.Offset, e.Message)
}

// streamFault is a broken rule that ends one stream.
type streamFault struct {
	code http2.ErrCode
	why  string
}
