// Package report adds up what SDKs say that they have measured: since the process began, for metrics; in windows of time, to
// compare the mesh with the direct path; and until it is passed on. All of it is bounded, whoever reports what.
package report

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

const (
	// MaxPaths bounds the paths of one report.
	MaxPaths = 2000
	// Buckets of latency: the last one has all that is longer than 2^26 µs, 67 s.
	Buckets = 28
	// maxErrorKinds bounds the codes and origins of one cell.
	maxErrorKinds = 64
)

// Cell counts the calls of one path to one target.
type Cell struct {
	Calls, Saved uint64
	Errors       []ErrorCount // by code and origin
	Latency      [Buckets]uint64
}

// ErrorCount counts calls that ended with a code, as somebody concluded it.
type ErrorCount struct {
	Code, Origin int32
	Count        uint64
}

// Add takes what an SDK has counted.
func (c *Cell) Add(p *directoryv1.PathReport) {
	c.Calls += p.GetCalls()
	c.Saved += p.GetSavedByFallback()
	for _, e := range p.GetErrors() {
		c.failed(ErrorCount{e.GetCode(), e.GetOrigin(), e.GetCount()})
	}
	for i, n := range p.GetLatencyBuckets() {
		c.Latency[min(i, Buckets-1)] += n
	}
}

// failed counts errors. What is of too many kinds is counted together.
func (c *Cell) failed(e ErrorCount) {
	if e.Count == 0 {
		return
	}
	i, found := slices.BinarySearchFunc(c.Errors, e, kindOrder)
	if !found && len(c.Errors) >= maxErrorKinds-1 {
		rest := ErrorCount{Code: int32(wire.Unknown), Count: e.Count}
		at, there := slices.BinarySearchFunc(c.Errors, rest, kindOrder)
		if !there || len(c.Errors) >= maxErrorKinds {
			e, i, found = rest, at, there
		}
	}
	if !found {
		c.Errors = slices.Insert(c.Errors, i, ErrorCount{Code: e.Code, Origin: e.Origin})
	}
	c.Errors[i].Count += e.Count
}

func kindOrder(a, b ErrorCount) int {
	return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Origin, b.Origin))
}

// Failed is how many calls ended with an error.
func (c *Cell) Failed() (n uint64) {
	for _, e := range c.Errors {
		n += e.Count
	}
	return n
}

// Merge adds another cell.
func (c *Cell) Merge(o *Cell) {
	c.Calls += o.Calls
	c.Saved += o.Saved
	for _, e := range o.Errors {
		c.failed(e)
	}
	for i, n := range o.Latency {
		c.Latency[i] += n
	}
}

// Path is the cell as a part of a report.
func (c *Cell) Path(target string, path directoryv1.PathReport_Path) *directoryv1.PathReport {
	p := &directoryv1.PathReport{Target: target, Path: path, Calls: c.Calls, SavedByFallback: c.Saved}
	for _, e := range c.Errors {
		p.Errors = append(p.Errors, &directoryv1.ErrorCount{Code: e.Code, Origin: e.Origin, Count: e.Count})
	}
	n := Buckets
	for n > 0 && c.Latency[n-1] == 0 {
		n--
	}
	p.LatencyBuckets = append(p.LatencyBuckets, c.Latency[:n]...)
	return p
}

// Upper is the longest latency of a bucket. The last one has no such; it counts as the next power of two.
func Upper(bucket int) time.Duration { return time.Duration(uint64(1)<<bucket) * time.Microsecond }

// Quantile is a time that the share q of all calls with a latency did not exceed: the upper end of a bucket, so that the true
// value lies between half of it and it. False: there is no such call.
func (c *Cell) Quantile(q float64) (time.Duration, bool) {
	var all uint64
	for _, n := range c.Latency {
		all = sum(all, n)
	}
	if all == 0 {
		return 0, false
	}
	rank := max(uint64(math.Ceil(q*float64(all))), 1)
	var below uint64
	for i, n := range c.Latency {
		if below = sum(below, n); below >= rank {
			return Upper(i), true
		}
	}
	return Upper(Buckets - 1), true
}

// sum does not overflow: counts are whatever somebody said.
func sum(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}
