package proxyd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/tap"
)

// Spans and lines that wait at the end may take what is left of the drain's time, within these bounds.
const (
	lastWords      = 5 * time.Second
	leastLastWords = 500 * time.Millisecond
)

// ended is a context without time.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// loadTelemetry starts what tells of calls. On SIGHUP it reads the section again and opens the access log anew.
func loadTelemetry(ops *lifecycle.Group, of program, b *resourcev1.Bootstrap, log *slog.Logger) (*tap.Tap, error) {
	t := tap.New(tap.Config{Service: of.name, Environment: b.GetEnvironment(), Instance: b.GetInstance(), Version: proxy.Version, Log: log})
	if err := t.Apply(context.Background(), b.GetTelemetry()); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	ops.Go(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
			}
			if err := reloadTelemetry(ctx, t, of); err != nil {
				log.Error("telemetry was not changed; it goes on as before", "error", err)
				continue
			}
			log.Info("telemetry read again")
		}
	})
	return t, nil
}

func reloadTelemetry(ctx context.Context, t *tap.Tap, of program) error {
	b, err := of.read()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	return t.Apply(ctx, b.GetTelemetry())
}

// endTelemetry tells what waits, within what is left of the drain's time. The end of ctx cuts it short.
func endTelemetry(ctx context.Context, t *tap.Tap, left time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, min(max(left, leastLastWords), lastWords))
	defer cancel()
	t.Close(ctx)
}
