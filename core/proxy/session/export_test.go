package session

// Refs is how many references to the call there are: none once it has ended, unless its memory serves
// another call.
func Refs(c *Call) int32 { return c.refs.Load() }
