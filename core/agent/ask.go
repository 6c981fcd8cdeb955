package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/proxy/admin"
)

const (
	// askTimeout is how long one answer of an admin socket may take.
	askTimeout = 2 * time.Second
	// maxAnswer bounds one, in bytes.
	maxAnswer = 1 << 20
)

// errOld says that a proxy answers, and is too old to say who it is.
var errOld = errors.New("it does not say which process it is: it is of a version before agents")

// ask asks a proxy how it is.
func ask(ctx context.Context, socket string) (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusNotFound:
		return nil, errOld
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", socket, res.Status)
	}
	s := &admin.Status{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return s, nil
}

// identify finds the process that a proxy says it is, if it is one that this agent may keep.
func identify(s *admin.Status) (*pidfd.Process, error) {
	if s.PID <= 0 || s.Start == 0 {
		return nil, errOld
	}
	p, err := pidfd.Open(s.PID, s.Start)
	if err != nil {
		return nil, fmt.Errorf("it says that it is process %d, which is not seen here (is it in another container?): %w", s.PID, err)
	}
	if err := own(p); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// own refuses a process of another user: the agent could not signal it, and should not.
func own(p *pidfd.Process) error {
	uid, err := p.User()
	if err == nil && uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("process %d is of user %d, the agent of user %d", p.PID, uid, os.Geteuid())
	}
	return err
}
