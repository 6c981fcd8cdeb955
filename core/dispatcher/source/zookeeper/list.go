package zookeeper

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

// List implements [source.Lister]. It asks for the children of each target.
func (s *Source) List(ctx context.Context, environment string) ([]source.Key, error) {
	if err := (source.Key{Environment: environment, Target: "any"}).Check(); err != nil {
		return nil, err
	}
	if _, err := s.ready(ctx); err != nil {
		return nil, s.fail("list", source.Key{Environment: environment}, err)
	}
	above := s.layout.Environment(environment)
	names, err := s.children(ctx, above)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	var keys []source.Key
	for _, name := range names {
		key, _, bad := s.layout.Parse(above + "/" + name)
		if bad != nil || err != nil {
			continue
		}
		var there []string
		if there, err = s.children(ctx, above+"/"+name); len(there) > 0 {
			keys = append(keys, key)
		}
	}
	if err != nil {
		return nil, s.fail("list", source.Key{Environment: environment}, err)
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return keys, nil
}
