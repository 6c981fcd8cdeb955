package configserver

import (
	"errors"
	"strings"

	"google.golang.org/grpc"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
)

// told is how many versions go into one message at the begin of a watch.
const told = 100

// Watch implements the service. A watch that falls too far behind begins anew, with all that is there: what its reader
// has and is not told by then is gone.
func (s *Service) Watch(r *configv1.WatchRequest, out grpc.ServerStreamingServer[configv1.WatchResponse]) error {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return err
	}
	for {
		at, err := s.tellAll(r.GetEnvironment(), out)
		if err != nil {
			return err
		}
		prefix := currentPrefix + below(r.GetEnvironment(), "")
		err = s.store.Watch(out.Context(), prefix, at, func(b store.Batch) error {
			m := &configv1.WatchResponse{StoreRevision: uint64(b.Revision), Complete: true}
			for _, e := range b.Events {
				k, err := decode(e.Entry)
				if err != nil {
					return err
				}
				m.Versions = append(m.Versions, stamped(k.Version))
			}
			return sending(out.Send(m))
		})
		var failed *sendError
		switch {
		case errors.As(err, &failed):
			return failed.error
		case !errors.Is(err, store.ErrCompacted):
			return storeError(err)
		}
	}
}

// sendError is the stream's own end, which is not the store's fault.
type sendError struct{ error }

func sending(err error) error {
	if err == nil {
		return nil
	}
	return &sendError{err}
}

func (s *Service) tellAll(environment string, out grpc.ServerStreamingServer[configv1.WatchResponse]) (int64, error) {
	versions, at, err := s.all(out.Context(), environment, "")
	if err != nil {
		return 0, err
	}
	m := &configv1.WatchResponse{StoreRevision: uint64(at), Begin: true}
	for _, k := range versions {
		if !k.live() && k.GetCandidate() == nil {
			continue
		}
		if m.Versions = append(m.Versions, stamped(k.Version)); len(m.Versions) == told {
			if err := out.Send(m); err != nil {
				return 0, err
			}
			m = &configv1.WatchResponse{StoreRevision: uint64(at)}
		}
	}
	m.Complete = true
	return at, out.Send(m)
}

// stamped sets what only the store knows: of a switch, the revision by which two are told apart.
func stamped(v *configv1.Version) *configv1.Version {
	if strings.HasPrefix(v.GetName(), KindSwitch+"/") {
		for _, m := range v.GetResource().GetMeshSwitches() {
			m.Revision = v.GetStoreRevision()
		}
		for _, m := range v.GetCandidate().GetResource().GetMeshSwitches() {
			m.Revision = v.GetCandidate().GetStoreRevision()
		}
	}
	return v
}
