//go:build !octofault

package proxyd

import (
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
)

// followed is the source that a client is.
func followed(c *control.Client) store.Source { return c }

// beforeReady runs in a successor that is about to say that it is ready.
func beforeReady() {}
