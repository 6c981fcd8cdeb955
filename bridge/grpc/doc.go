// Package grpc brings gRPC into the mesh and out of it: a connection that speaks it is a session of the proxy like any other.
//
// [Conn] is a machine of core/proxy/session: on one side HTTP/2, by package h2, on the other the events and frames of
// core/wire. So a call of a stock client goes the way of every call: route, policies, balancer, retries, telemetry, leaving.
//
// Payloads pass as they came. A gRPC message is a flag, a length and bytes; the flag becomes COMPRESSED, the length
// total_length, and the bytes become fragments as they arrive. No message is ever held whole, decompressed or limited here.
// A peer's credit is returned as its bytes leave this proxy, so what one stream makes us hold is bounded by its window.
package grpc
