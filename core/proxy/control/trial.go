package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// trialTime is for how long a version that the proxy begins to go by is on trial: a crash counts against it.
	trialTime = 10 * time.Second
	// maxCrashes is with how many crashes a version is not taken any more.
	maxCrashes = 2
	// maxSuspects bounds the versions that are remembered for a crash.
	maxSuspects = 1000
	// maxReport bounds what is told of a crash, in bytes.
	maxReport = 200
	// compactFrom is the size of the trial's file from which on it is written anew while versions are on trial.
	compactFrom = 1 << 20
)

// Files of the quarantine in the client's directory.
const (
	trialFile    = "trial"
	suspectsFile = "suspects"
	crashFile    = "crash"
)

// ref is one version of one resource.
type ref struct {
	kind          resource.Kind
	name, version string
}

// quarantine finds versions that crash the proxy. What the proxy begins to go by stands in a file while it is on trial; the
// Go runtime writes how the process crashed to another one (see [Client.CatchCrashes]). Who finds both when it starts
// suspects what was on trial. A process that is killed, or loses its power, leaves no report, and nobody is suspected. It
// has no lock.
type quarantine struct {
	dir      string // empty: nothing outlives the process, and nothing is written
	software string
	suspects map[ref]*resourcev1.Tried
	file     *os.File // of the trial; nil: not open
	size     int64
	tried    []tried
	failed   error // why the last of this could not be written; nil: it could
	unkept   bool  // who is suspected is not on the disk
}

type tried struct {
	at       time.Time
	versions []*resourcev1.Tried
}

// openQuarantine judges what an earlier process left behind. problems are what could not be read or written.
func openQuarantine(dir, software string) (q *quarantine, problems []error) {
	q = &quarantine{dir: dir, software: software, suspects: make(map[ref]*resourcev1.Tried)}
	if dir == "" {
		return q, nil
	}
	saved := &resourcev1.Suspects{}
	err := readFile(q.path(suspectsFile), saved)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, err)
	}
	if err == nil && saved.Software == software {
		for _, t := range saved.Versions {
			if k, ok := resource.KindOf(t.TypeUrl); ok {
				q.suspects[ref{k, t.Name, t.Version}] = t
			}
		}
	}
	if report := q.report(); report != "" {
		for _, t := range blamed(readTrial(q.path(trialFile))) {
			q.blame(t, report)
		}
		q.failed = q.keep()
		problems = append(problems, q.failed)
	}
	_ = os.Remove(q.path(trialFile))
	_ = os.Remove(q.path(crashFile))
	return q, problems
}

func (q *quarantine) path(name string) string { return filepath.Join(q.dir, name) }

// report is how the last process crashed; empty: it did not.
func (q *quarantine) report() string {
	b, err := os.ReadFile(q.path(crashFile))
	text := strings.TrimSpace(string(b[:min(len(b), 4096)]))
	if err != nil || strings.HasPrefix(text, "SIGQUIT") { // somebody asked for the goroutines
		return ""
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.ToValidUTF8(line[:min(len(line), maxReport)], "")
}

// blamed are those of a trial's records that are to blame for a crash: what was being compiled; else policies, if there are
// any; else endpoints.
func blamed(records []*resourcev1.Trial) []*resourcev1.Tried {
	if n := len(records); n > 0 && !records[n-1].Compiled {
		return records[n-1].Versions
	}
	var policies, endpoints []*resourcev1.Tried
	for _, r := range records {
		for _, t := range r.Versions {
			if t.TypeUrl == resource.KindEndpoint.TypeURL() {
				endpoints = append(endpoints, t)
			} else {
				policies = append(policies, t)
			}
		}
	}
	if len(policies) > 0 {
		return policies
	}
	return endpoints
}

func (q *quarantine) blame(t *resourcev1.Tried, report string) {
	k, ok := resource.KindOf(t.TypeUrl)
	if !ok || t.Version == "" {
		return
	}
	at := ref{k, t.Name, t.Version}
	s := q.suspects[at]
	if s == nil {
		if len(q.suspects) >= maxSuspects {
			return
		}
		s = t
		s.Crashes = 0
		q.suspects[at] = s
	}
	s.Crashes++
	s.Crash = report
}

// vet says why a version is not taken.
func (q *quarantine) vet(k resource.Kind, name, version string) error {
	s := q.suspects[ref{k, name, version}]
	if s == nil || s.Crashes < maxCrashes {
		return nil
	}
	return fmt.Errorf("version %s is in quarantine: the proxy crashed %d times when it began to go by it (%s); push another version",
		version, s.Crashes, s.Crash)
}

// instead is what stands for a version that is in quarantine.
func (q *quarantine) instead(k resource.Kind, name, version string) (v string, value []byte, ok bool) {
	if q.vet(k, name, version) == nil {
		return "", nil, false
	}
	s := q.suspects[ref{k, name, version}]
	if q.vet(k, name, s.BeforeVersion) != nil {
		return "", nil, true
	}
	return s.BeforeVersion, s.BeforeValue, true
}

// suspected are the resources of a change whose versions a crash counts against.
func (q *quarantine) suspected(s *state, c *change) map[string]bool {
	if len(q.suspects) == 0 {
		return nil
	}
	out := make(map[string]bool)
	for name := range c.topics {
		if q.suspects[ref{c.kind, name, s.resources[c.kind][name].version}] != nil {
			out[name] = true
		}
	}
	return out
}

// versions are what a change begins to go by.
func (s *state) versions(c *change) (out []*resourcev1.Tried) {
	for name := range c.topics {
		if it := s.resources[c.kind][name]; it.message != nil && !it.held {
			before := c.before[name]
			out = append(out, &resourcev1.Tried{
				TypeUrl: c.kind.TypeURL(), Name: name, Version: it.version, BeforeVersion: before.version, BeforeValue: before.value,
			})
		}
	}
	return out
}

// begin puts versions on trial, before anything is done with them.
func (q *quarantine) begin(versions []*resourcev1.Tried, now time.Time) {
	if q.dir == "" || len(versions) == 0 {
		return
	}
	q.tried = append(q.tried, tried{now, versions})
	q.append(&resourcev1.Trial{Versions: versions})
}

// compiled notes that what is on trial is gone by.
func (q *quarantine) compiled() {
	if q.dir != "" && len(q.tried) > 0 {
		q.append(&resourcev1.Trial{Compiled: true})
	}
}

// settle ends the trials of what has served for long enough, and writes again what could not be written.
func (q *quarantine) settle(now time.Time) error {
	n := 0
	for n < len(q.tried) && now.Sub(q.tried[n].at) >= trialTime {
		for _, t := range q.tried[n].versions {
			if k, ok := resource.KindOf(t.TypeUrl); ok {
				q.acquit(ref{k, t.Name, t.Version})
			}
		}
		n++
	}
	q.tried = q.tried[n:]
	if q.failed != nil || n > 0 && (len(q.tried) == 0 || q.size >= compactFrom) {
		q.write()
	}
	return q.failed
}

// write writes the trial anew, and who is suspected if that is not on the disk.
func (q *quarantine) write() {
	q.failed = nil
	if q.unkept {
		q.failed = q.keep()
	}
	q.clear()
	for _, t := range q.tried {
		if q.failed == nil {
			q.append(&resourcev1.Trial{Versions: t.versions})
		}
	}
	if q.failed == nil {
		q.compiled()
	}
}

// acquit forgets that a version was suspected.
func (q *quarantine) acquit(r ref) {
	if s := q.suspects[r]; s != nil && s.Crashes < maxCrashes {
		delete(q.suspects, r)
		if err := q.keep(); err != nil {
			q.failed = err
		}
	}
}

// end is a graceful end: it speaks against nobody.
func (q *quarantine) end() {
	if q.dir == "" {
		return
	}
	q.clear() // and not removed: by now a successor's may have its name
	_ = q.file.Close()
	q.file = nil
}

// keep writes who is suspected.
func (q *quarantine) keep() error {
	saved := &resourcev1.Suspects{Software: q.software}
	for _, t := range q.suspects {
		saved.Versions = append(saved.Versions, t)
	}
	err := writeFile(q.path(suspectsFile), saved)
	q.unkept = err != nil
	return err
}

// A record of a trial's file is its length, its checksum and a Trial. It is not synced: a crash of the process leaves it,
// and one of the host says nothing.
func (q *quarantine) append(r *resourcev1.Trial) {
	b, err := proto.Marshal(r)
	if err == nil && q.file == nil {
		err = os.MkdirAll(q.dir, 0o750)
		if err == nil {
			q.file, err = os.OpenFile(q.path(trialFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
		}
	}
	if err == nil {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
		head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(b))
		var n int
		n, err = q.file.Write(append(head, b...))
		q.size += int64(n)
	}
	q.failed = err
}

func (q *quarantine) clear() {
	if q.file != nil {
		q.failed = errors.Join(q.failed, q.file.Truncate(0))
		q.size = 0
	}
}

// readTrial reads records up to the first that is not whole.
func readTrial(path string) (out []*resourcev1.Trial) {
	b, err := os.ReadFile(path)
	for err == nil && len(b) >= 8 {
		n, sum := int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		b = b[8:]
		r := &resourcev1.Trial{}
		if n > len(b) || crc32.ChecksumIEEE(b[:n]) != sum || proto.Unmarshal(b[:n], r) != nil {
			break
		}
		out, b = append(out, r), b[n:]
	}
	return out
}

// CatchCrashes has the Go runtime write how this process crashes, if it does, to the client's directory. It holds for the
// whole process, and is for a main to call, once, after [New]. Without it nothing is ever put into quarantine.
func (c *Client) CatchCrashes() error {
	if c.cfg.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.cfg.Dir, 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(c.cfg.Dir, crashFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
