package hub

import (
	"errors"
	"log/slog"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

// Config is what a hub needs. What is 0 takes its default.
type Config struct {
	// Registries are watched; each has its own limits, so that a sick one slows nothing but itself. At least one.
	Registries []Registry
	// Pick says in which of them a key is, by its index in Registries; negative: in none, and Follow refuses the key.
	// It must always say the same of a key. Nil: all keys are in the first.
	Pick func(source.Key) int
	// Linger is how long a watch goes on after its last subscriber left, so that one who comes back costs the registry
	// nothing. 0: 1 min.
	Linger time.Duration
	// Degraded is how long a registry may not be heard until what is known of a key counts as old. 0: 1 min.
	Degraded time.Duration
	// GuardWindow is the time over which removals without a reason add up for the shrink guard. 0: 30 s.
	GuardWindow time.Duration
	// Log gets what an operator should know. Nil: nothing.
	Log *slog.Logger
}

// Registry is a source and what the hub may ask of it.
type Registry struct {
	Source source.Source
	// StartsPerSecond bounds how many watches begin, so that thousands that were lost at once are read again in a
	// spread. 0: 1000. Keys that nobody knows yet go before those that are read again.
	StartsPerSecond float64
	// MaxStarting bounds how many watches wait for their first full set at once. 0: 64.
	MaxStarting int
	// StartTimeout is how long a first full set may take; then the watch failed. 0: 15 s.
	StartTimeout time.Duration
	// Backoff is how long a key waits after a watch failed, ±50 %; it doubles with each failure. 0: 1 s.
	Backoff time.Duration
	// MaxBackoff is where doubling ends. 0: 30 s.
	MaxBackoff time.Duration
	// BreakAfter is how many watches in a row must fail to begin until the breaker opens: then none begins for a
	// backoff, and after it a single one, to see. Watches that stand are left alone. 0: 5.
	BreakAfter int
}

func or[T int | float64 | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Registries) == 0 {
		return c, errors.New("hub: there is no registry: give at least one")
	}
	if c.Pick == nil {
		c.Pick = func(source.Key) int { return 0 }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Linger, c.Degraded, c.GuardWindow = or(c.Linger, time.Minute), or(c.Degraded, time.Minute), or(c.GuardWindow, 30*time.Second)
	registries := make([]Registry, len(c.Registries))
	for i, r := range c.Registries {
		if r.Source == nil {
			return c, errors.New("hub: a registry has no source")
		}
		r.StartsPerSecond, r.MaxStarting = or(r.StartsPerSecond, 1000), or(r.MaxStarting, 64)
		r.StartTimeout, r.Backoff = or(r.StartTimeout, 15*time.Second), or(r.Backoff, time.Second)
		r.MaxBackoff, r.BreakAfter = or(r.MaxBackoff, 30*time.Second), or(r.BreakAfter, 5)
		if r.StartsPerSecond < 0 || r.MaxStarting < 0 || r.StartTimeout < 0 || r.Backoff < 0 || r.MaxBackoff < r.Backoff || r.BreakAfter < 0 {
			return c, errors.New("hub: registry " + r.Source.Name() + ": a limit is negative, or MaxBackoff is less than Backoff")
		}
		registries[i] = r
	}
	c.Registries = registries
	if c.Linger < 0 || c.Degraded < 0 || c.GuardWindow < 0 {
		return c, errors.New("hub: a time is negative")
	}
	return c, nil
}
