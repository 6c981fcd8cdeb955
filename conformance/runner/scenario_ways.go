package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// directories are where SDKs ask the control plane, if it has a Directory.
func (s *stage) directories() []string {
	if s.plane == nil || s.plane.directory == "" {
		return nil
	}
	return []string{s.plane.directory}
}

// kill writes the kill switch of an end.
func (s *stage) kill(c *conformancev1.SwitchFile) error {
	a := s.ends[c.End]
	if a == nil || a.Ways.GetSwitchFile() == "" {
		return fmt.Errorf("%q is no end with a kill switch's file", c.End)
	}
	file := filepath.Join(s.dir, a.Ways.SwitchFile)
	if c.Text == nil {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.WriteFile(file+".new", []byte(c.GetText()), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// leaveTime is how long calls that are open may take when a server leaves.
const leaveTime = 5 * time.Second

// leave stops an end's server gracefully.
func (s *stage) leave(end string) error {
	a := s.ends[end]
	if a == nil || a.Target == "" {
		return fmt.Errorf("%q is no end that serves", end)
	}
	r, err := a.do(&conformancev1.Command{Command: &conformancev1.Command_StopServer{
		StopServer: &conformancev1.StopServer{Name: end, DrainMs: uint32(leaveTime.Milliseconds())},
	}})
	if err == nil && r.GetDone().GetCut() {
		err = fmt.Errorf("the server of %s was cut off", end)
	}
	return err
}
