package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// words passes on what etcd says that an operator should know: errors. It says much more of what is as it should be.
type words struct {
	log    *slog.Logger
	fields []zapcore.Field

	*said // shared with all that With has made
}

type said struct {
	over atomic.Bool // the server is being closed: what breaks now is meant to

	mu   sync.Mutex
	last string
}

func newWords(log *slog.Logger) *words { return &words{log: log, said: &said{}} }

// Enabled implements zapcore.Core.
func (w *words) Enabled(l zapcore.Level) bool { return l >= zapcore.ErrorLevel && !w.over.Load() }

// With implements zapcore.Core.
func (w *words) With(fields []zapcore.Field) zapcore.Core {
	more := *w
	more.fields = append(append([]zapcore.Field(nil), w.fields...), fields...)
	return &more
}

// Check implements zapcore.Core.
func (w *words) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if w.Enabled(e.Level) {
		return c.AddCore(e, w)
	}
	return c
}

// Write implements zapcore.Core.
func (w *words) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), w.fields...), fields...) {
		f.AddTo(all)
	}
	args := make([]any, 0, 2*len(all.Fields)+2)
	args = append(args, "says", e.Message)
	text := e.Message
	for name, value := range all.Fields {
		args = append(args, name, value)
		text += fmt.Sprintf("; %s: %v", name, value)
	}
	w.log.Log(context.Background(), slog.LevelError, "the embedded etcd has an error", args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = text
	return nil
}

// Sync implements zapcore.Core.
func (w *words) Sync() error { return nil }

// because adds to an error what etcd said last.
func (w *words) because(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == "" {
		return err
	}
	return fmt.Errorf("%w (it said: %s)", err, w.last)
}
