package proxyd

import (
	"context"
	"fmt"

	"github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// schemas are what targets serve: by files, and for the others by the control plane.
type schemas struct {
	files map[string]*resource.Descriptors
	plane grpc.Schemas // nil: there is none
}

// Schema implements grpc.Schemas.
func (s *schemas) Schema(ctx context.Context, target string) (*resource.Descriptors, error) {
	if d := s.files[target]; d != nil || s.plane == nil {
		return d, nil
	}
	return s.plane.Schema(ctx, target)
}

// readSchemas reads files, by target.
func readSchemas(paths map[string]string) (map[string]*resource.Descriptors, error) {
	all := make(map[string]*resource.Descriptors)
	for target, path := range paths {
		raw, err := resource.ReadBytes(path)
		if err != nil {
			return nil, fmt.Errorf("grpc.schemas[%q]: %w", target, err)
		}
		s := &resourcev1.Schema{Target: target, DescriptorSet: raw}
		resource.CompleteSchema(s)
		if all[target], err = resource.Describe(s); err != nil {
			return nil, fmt.Errorf("grpc.schemas[%q]: %s %w", target, path, err)
		}
		if len(all[target].Services) == 0 {
			return nil, fmt.Errorf("grpc.schemas[%q]: %s holds no service", target, path)
		}
	}
	return all, nil
}

// follow has the control plane asked that the proxy follows, if it follows one.
func (b *bridged) follow(source store.Source) {
	if b == nil || b.schemas == nil {
		return
	}
	if plane, ok := source.(grpc.Schemas); ok {
		b.schemas.plane = plane
	}
}
