package configserver

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/transport/identity"
)

// caller is whom TLS has proved the caller to be; proved is false without TLS.
func caller(ctx context.Context) (id identity.ID, proved bool, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return id, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return id, false, nil
	}
	if id, err = identity.PeerOf(info.State); err != nil {
		return id, false, status.Errorf(codes.Unauthenticated, "the certificate names nobody: %v", err)
	}
	return id, true, nil
}

// author is who makes a change: the identity that TLS proved, with whom it says to be behind it, or just the latter.
func (s *Service) author(ctx context.Context, why *configv1.Why) (name string, verified bool, err error) {
	said, reason := strings.TrimSpace(why.GetAuthor()), strings.TrimSpace(why.GetReason())
	switch {
	case reason == "":
		return "", false, invalid("a reason is missing: say why (octo: -m)")
	case len(reason) > maxReason || len(said) > maxAuthor:
		return "", false, invalid("a reason has at most %d bytes, an author %d", maxReason, maxAuthor)
	}
	id, proved, err := caller(ctx)
	if err != nil {
		return "", false, err
	}
	if proved {
		if err := s.may(id); err != nil {
			return "", false, status.Errorf(codes.PermissionDenied, "%s may not change configurations: %v", id, err)
		}
		name = id.String()
		if said != "" {
			name += " (" + said + ")"
		}
		return name, true, nil
	}
	if said == "" {
		return "", false, invalid("an author is missing: without TLS one has to say who one is (octo: $USER)")
	}
	return said, false, nil
}
