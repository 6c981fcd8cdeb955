package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/resource"
)

// record is what the agent notes of the processes that it keeps, for the agent after it.
type record struct {
	path string

	mu        sync.Mutex
	processes map[string]*agentv1.Record_Process
}

// openRecord reads what an agent before this one has noted. What cannot be read is said; proxies that run are then found by their admin
// sockets alone.
func openRecord(path string) (*record, error) {
	r := &record{path: path, processes: make(map[string]*agentv1.Record_Process)}
	data, err := resource.ReadBytes(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	read := &agentv1.Record{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, read); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range read.GetProcesses() {
		if read.GetBoot() != pidfd.Boot() {
			p.Pid, p.Start = 0, 0 // what runs now under that number is another one
		}
		r.processes[p.GetProxy()] = p
	}
	return r, nil
}

// of is what is noted of a proxy; never nil.
func (r *record) of(name string) *agentv1.Record_Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.processes[name]; p != nil {
		return proto.CloneOf(p)
	}
	return &agentv1.Record_Process{Proxy: name}
}

// names are the proxies of which something is noted.
func (r *record) names() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.processes {
		all = append(all, name)
	}
	return all
}

// note writes down what is so of a proxy, all of it or nothing; nil: it is none any more.
func (r *record) note(name string, p *agentv1.Record_Process) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p == nil {
		delete(r.processes, name)
	} else {
		r.processes[name] = proto.CloneOf(p)
	}
	all := &agentv1.Record{Boot: pidfd.Boot()}
	for _, p := range r.processes {
		all.Processes = append(all.Processes, p)
	}
	data, err := protojson.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.path), 0o750); err != nil {
		return err
	}
	beside := r.path + ".new"
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(beside, r.path)
}
