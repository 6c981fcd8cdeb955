package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/conformance/testees/go/gen/octo/conformance/v1"
)

// valueKey is the metadata that WHAT_METADATA gives.
const valueKey = "conformance-value"

// batch is one that runs.
type batch struct {
	testee   *testee
	do       *conformancev1.RunBatch
	finished chan struct{} // closed by finish
	once     sync.Once
	next     atomic.Int64

	mu      sync.Mutex // guards what follows
	elapsed []uint64   // of the calls that ended OK
	went    map[conformancev1.Path]uint32
	meshed  []uint32                               // of each thousand calls, by the mesh
	values  map[conformancev1.Path]map[uint32]bool // that went so
	failed  map[string]*conformancev1.BatchOutcome
	err     error
}

func (b *batch) finish() { b.once.Do(func() { close(b.finished) }) }

// batch makes all calls of a batch, so many at a time, with the code that makes a single one.
func (t *testee) batch(do *conformancev1.RunBatch) (*conformancev1.BatchResult, error) {
	b := &batch{testee: t, do: do, finished: make(chan struct{}), failed: make(map[string]*conformancev1.BatchOutcome), went: make(map[conformancev1.Path]uint32),
		values: map[conformancev1.Path]map[uint32]bool{conformancev1.Path_PATH_MESH: {}, conformancev1.Path_PATH_DIRECT: {}}}
	t.mu.Lock()
	t.batches[do.Call.CallId] = b
	t.mu.Unlock()
	var wg sync.WaitGroup
	for range max(do.InFlight, 1) {
		wg.Go(b.run)
	}
	wg.Wait()
	t.mu.Lock()
	delete(t.batches, do.Call.CallId)
	t.mu.Unlock()
	return b.result(), b.err
}

func (b *batch) run() {
	for {
		select {
		case <-b.finished:
			return
		default:
		}
		n := b.next.Add(1) - 1
		if b.do.Calls > 0 && n >= int64(b.do.Calls) {
			b.next.Add(-1)
			return
		}
		r, err := b.testee.call(b.call(uint32(n)))
		b.mu.Lock()
		if err != nil { // the testee's own fault
			b.err = err
			b.finish()
		} else {
			b.add(uint32(n), r)
		}
		b.mu.Unlock()
	}
}

// call is the call of a number.
func (b *batch) call(n uint32) *conformancev1.RunCall {
	c := proto.CloneOf(b.do.Call)
	c.CallId = fmt.Sprintf("%s-%d", c.CallId, n)
	if v := b.do.Vary; v != nil {
		value := fmt.Sprintf("v%d", n%max(v.Values, 1))
		if c.Options == nil {
			c.Options = &conformancev1.CallOptions{}
		}
		if v.What == conformancev1.Vary_WHAT_HASH_KEY {
			c.Options.HashKey = value
		} else {
			c.Options.Metadata = append(c.Options.Metadata, &conformancev1.Entry{Key: valueKey, Value: []byte(value)})
		}
	}
	return c
}

// add takes the end of a call.
func (b *batch) add(n uint32, r *conformancev1.CallResult) {
	s := r.Status
	if s.Code == 0 && b.asOrdered(r) {
		b.elapsed = append(b.elapsed, r.ElapsedUs)
		b.wentBy(n, r.Path)
		return
	}
	key := fmt.Sprint(s.Code, s.Reason, s.Origin, s.Disposition)
	if b.failed[key] == nil {
		b.failed[key] = &conformancev1.BatchOutcome{Status: s}
	}
	b.failed[key].Calls = append(b.failed[key].Calls, n)
}

// wentBy notes which way a call took that ended OK.
func (b *batch) wentBy(n uint32, path conformancev1.Path) {
	b.went[path]++
	for thousand := int(n / 1000); len(b.meshed) <= thousand; {
		b.meshed = append(b.meshed, 0)
	}
	if path == conformancev1.Path_PATH_MESH {
		b.meshed[n/1000]++
	}
	if v := b.do.Vary; v != nil && b.values[path] != nil {
		b.values[path][n%max(v.Values, 1)] = true
	}
}

// asOrdered tells whether the responses are those of the definition. Those of a server that has a definition of
// its own are not known here, but for their number.
func (b *batch) asOrdered(r *conformancev1.CallResult) bool {
	def := b.do.Call.Response
	if def == nil {
		def = &conformancev1.ResponseDefinition{}
	}
	var want [][]byte
	if def.Echo {
		for _, p := range b.do.Call.Requests {
			want = append(want, data(p))
		}
	}
	for i, p := range def.Responses {
		for range 1 + int(def.Repeat)*max(0, i+2-len(def.Responses)) {
			want = append(want, data(p))
		}
	}
	if single(b.do.Call.Kind) {
		if def.Echo {
			want = [][]byte{bytes.Join(want[:len(b.do.Call.Requests)], nil)}
		} else if want = want[:min(1, len(want))]; len(want) == 0 {
			want = [][]byte{nil}
		}
	}
	return len(def.At) > 0 && len(r.Responses) == len(want) ||
		slices.EqualFunc(r.Responses, want, func(got *conformancev1.Received, want []byte) bool {
			return int(got.Size) == len(want) && (len(want) > inline || bytes.Equal(got.Data, want))
		})
}

func (b *batch) result() *conformancev1.BatchResult {
	r := &conformancev1.BatchResult{Calls: uint32(b.next.Load()), Mesh: b.went[conformancev1.Path_PATH_MESH], Direct: b.went[conformancev1.Path_PATH_DIRECT], MeshByThousand: b.meshed,
		MeshValues:   slices.Sorted(maps.Keys(b.values[conformancev1.Path_PATH_MESH])),
		DirectValues: slices.Sorted(maps.Keys(b.values[conformancev1.Path_PATH_DIRECT])),
	}
	for _, group := range b.failed {
		slices.Sort(group.Calls)
		r.Failed = append(r.Failed, group)
	}
	slices.SortFunc(r.Failed, func(x, y *conformancev1.BatchOutcome) int { return int(x.Calls[0]) - int(y.Calls[0]) })
	if n := len(b.elapsed); n > 0 {
		slices.Sort(b.elapsed)
		r.MinUs, r.P50Us, r.P99Us = b.elapsed[0], b.elapsed[n/2], b.elapsed[n*99/100]
	}
	return r
}
