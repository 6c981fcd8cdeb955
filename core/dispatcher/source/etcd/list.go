package etcd

import (
	"context"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

// List implements [source.Lister]. It reads keys alone, and of a large target not all.
func (s *Source) List(ctx context.Context, environment string) ([]source.Key, error) {
	if err := (source.Key{Environment: environment, Target: "any"}).Check(); err != nil {
		return nil, err
	}
	prefix := s.layout.Environment(environment) + "/"
	end := clientv3.GetPrefixRangeEnd(prefix)
	var keys []source.Key
	for from := prefix; ; {
		r, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithKeysOnly())
		if err != nil {
			return nil, s.fail("list", source.Key{Environment: environment}, err)
		}
		for _, kv := range r.Kvs {
			path := string(kv.Key)
			from = path + "\x00"
			key, instance, err := s.layout.Parse(path)
			if err != nil || instance == "" {
				continue
			}
			if len(keys) == 0 || keys[len(keys)-1] != key {
				keys = append(keys, key)
			}
			from = clientv3.GetPrefixRangeEnd(s.layout.Target(key) + "/") // the rest of the target is of no interest
		}
		if !r.More {
			break
		}
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return slices.Compact(keys), nil
}
