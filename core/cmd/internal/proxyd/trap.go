//go:build octofault

package proxyd

import (
	"context"
	"os"
	"time"

	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
)

// trap is the default timeout of a policy that this build does not survive.
const trap = 13 * time.Second

// trapped follows the control plane with a fault: it stands for all those that nobody has found yet. Only builds with the
// tag octofault have it, for scenarios of the conformance suite.
type trapped struct{ *control.Client }

// Run implements the store's Source.
func (t trapped) Run(ctx context.Context, apply func(store.Update) error) error {
	return t.Client.Run(ctx, func(u store.Update) error {
		if u.Change != nil {
			for _, p := range u.Change.Policies {
				if p.GetDefaultTimeout().AsDuration() == trap {
					var routes []int
					_ = routes[len(u.Change.Policies)]
				}
			}
		}
		return apply(u)
	})
}

// followed is the source that a client is.
func followed(c *control.Client) store.Source { return trapped{c} }

// beforeReady has a successor crash or hang at the worst moment: it has the listeners, and is about to say that it is ready.
func beforeReady() {
	switch os.Getenv("OCTO_FAULT_READY") {
	case "crash":
		panic("told to crash before it is ready")
	case "hang":
		select {}
	}
}
