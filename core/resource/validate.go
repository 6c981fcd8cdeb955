package resource

import resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

// Validate returns what is wrong with a snapshot.
func Validate(s *resourcev1.Snapshot, environment string) []Problem { return nil }
