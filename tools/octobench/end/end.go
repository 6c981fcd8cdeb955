// Package end is the sides of a measurement that this module has: raw ends of the protocol, the Go SDK,
// grpc-go and the byte copy.
package end

import "github.com/octomesh/octomesh/tools/octobench/side"

// Kinds are the sides by name.
func Kinds() side.Kinds {
	return side.Kinds{
		"raw-server":   rawServer,
		"raw-attached": rawAttached,
		"raw-client":   rawClient,
		"copy":         byteCopy,

		"sdk-server":        sdkServer,
		"sdk-client":        sdkMeshClient,
		"sdk-direct-client": sdkDirectClient,
		"grpc-server":       grpcServer,
		"grpc-client":       grpcClient,
		"grpc-relay":        grpcRelay,
	}
}
