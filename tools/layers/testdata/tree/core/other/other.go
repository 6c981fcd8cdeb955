// Package other breaks no rule.
package other

const Name = "other"
