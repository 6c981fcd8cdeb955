// Package reference is the one peer of the conformance suite that may break the protocol: a client's SDK, a
// client's proxy or a server, by whatever its script says (octo/conformance/v1/raw.proto). It reads and
// writes frames with code of its own, after proto/spec/wire.md, and shares none with what it tests.
package reference
