package plane

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/octomesh/octomesh/core/transport/identity"
)

// secure reads the process' certificate, if it has one. With TLS both sides prove who they are, for one environment: that
// of the certificate.
func (p *Plane) secure() ([]grpc.ServerOption, error) {
	c := p.cfg
	if c.TLS == (identity.Files{}) {
		if len(c.Writers) > 0 {
			return nil, usage("--writers is for TLS: give --certificate, --key and --authorities too")
		}
		return nil, nil
	}
	if len(c.Writers) == 0 && slices.Contains(c.Roles, RoleConfig) {
		return nil, usage("--writers is missing: with TLS say who may change configurations")
	}
	id, err := identity.Follow(c.TLS, func(err error) {
		c.Log.Error("the certificate was not read again; the last good one stays", "error", err)
	})
	if err != nil {
		return nil, usage("%v", err)
	}
	p.id = id
	for _, role := range c.Roles {
		if err := identity.MayBe(id.ID(), role); err != nil {
			return nil, usage("%v", err)
		}
	}
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(id.Server(id.SameEnvironment, "h2"))), // stock clients know no other word
		grpc.ChainUnaryInterceptor(p.guardUnary), grpc.ChainStreamInterceptor(p.guardStream),
	}, nil
}

// mayWrite tells whether somebody may change configurations.
func (p *Plane) mayWrite(peer identity.ID) error {
	for _, w := range p.cfg.Writers {
		if begin, any := strings.CutSuffix(w, "*"); w == peer.String() || any && strings.HasPrefix(peer.String(), begin) {
			return nil
		}
	}
	return errors.New("it is none of --writers")
}
