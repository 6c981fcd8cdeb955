package admin

import (
	"context"
	"net"
	"net/http"
	"time"
)

// shutdown is how long Serve lets requests finish.
const shutdown = time.Second

// Serve answers on the listener until ctx is done; then it lets requests finish for a second. The socket's
// file stays, since a successor may have put its own there. It answers, too, when the process has run out of descriptors.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- s.Serve(newReserve(l, openSpare)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), shutdown)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		s.Close()
	}
	<-served
	return nil
}
