// Package resource turns what an operator writes, or a Pilot sends, into resources that are known to be
// sound: strict YAML in, octo.resource.v1 out, and errors that say file, line and field.
package resource
