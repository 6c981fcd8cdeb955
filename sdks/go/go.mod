module github.com/octomesh/octomesh/sdks/go

go 1.26

require (
	github.com/octomesh/octomesh/core/transport v0.0.0
	github.com/octomesh/octomesh/core/wire v0.0.0
	github.com/octomesh/octomesh/gen/go v0.0.0
	google.golang.org/protobuf v1.36.12
)

replace (
	github.com/octomesh/octomesh/core/transport => ../../core/transport
	github.com/octomesh/octomesh/core/wire => ../../core/wire
	github.com/octomesh/octomesh/gen/go => ../../gen/go
)
