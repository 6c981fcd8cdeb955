// Package stocktest has gRPC's own xDS client and Envoy, both as their makers ship them, follow a control plane. It is a module of
// its own, since gRPC's client brings more modules along than all the rest of the control plane's tests.
package stocktest
