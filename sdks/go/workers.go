package octomesh

import (
	"sync"
	"sync/atomic"
)

// workers run handlers. A goroutine per call would pay for a new stack that has to grow in every call;
// these stay, parked, with the stack that they have grown.
//
// One wake-up is on its way at a time: a worker that begins wakes the next one if calls still wait. So a
// batch of short calls is run by few workers, and a handler that blocks holds up nobody.
//
// Answers gather likewise. A worker leaves its answer unflushed (dirty) while calls wait, because then it
// comes back, or another worker is on its way; whoever begins, and whoever takes the last call, flushes
// first.
type workers struct {
	queued atomic.Int32 // len(queue), to look at without the lock

	mu     sync.Mutex
	queue  []*serverCall
	taken  int // queue[:taken] has been taken
	idle   []*worker
	waking bool // a worker was woken and has not begun
	dirty  []*session
	closed bool
	all    sync.WaitGroup
}

type worker struct {
	wake  chan struct{}
	flush []*session // scratch
	body  []byte     // scratch for the response message
	head  []byte     // scratch for the response head
}

// maxIdle bounds the goroutines that wait for calls.
const maxIdle = 256

// submit queues calls.
func (w *workers) submit(calls []*serverCall) {
	w.mu.Lock()
	if w.taken > 64 && w.taken > len(w.queue)/2 {
		n := copy(w.queue, w.queue[w.taken:])
		clear(w.queue[n:])
		w.queue, w.taken = w.queue[:n], 0
	}
	w.queue = append(w.queue, calls...)
	w.queued.Add(int32(len(calls)))
	w.wakeOne()
	w.mu.Unlock()
}

// wakeOne gets one worker on its way, if calls wait and none is. The lock must be held.
func (w *workers) wakeOne() {
	if w.waking || w.taken == len(w.queue) {
		return
	}
	w.waking = true
	if n := len(w.idle); n > 0 {
		next := w.idle[n-1]
		w.idle = w.idle[:n-1]
		next.wake <- struct{}{}
		return
	}
	w.all.Go((&worker{wake: make(chan struct{}, 1)}).loop(w))
}

// loop returns the body of a worker's goroutine.
func (k *worker) loop(w *workers) func() {
	return func() {
		clean := false
		defer func() {
			if !clean { // a handler ended the goroutine by runtime.Goexit
				w.mu.Lock()
				w.wakeOne()
				w.mu.Unlock()
			}
		}()
		for {
			c, ok := w.begin(k)
			for ; ok; c, ok = w.next(k) {
				c.run(k)
			}
			if !w.park(k) {
				clean = true
				return
			}
		}
	}
}

// begin takes the first call after a wake-up.
func (w *workers) begin(k *worker) (*serverCall, bool) {
	w.mu.Lock()
	w.waking = false
	k.flush = append(k.flush, w.dirty...)
	w.dirty = w.dirty[:0]
	c, ok := w.take()
	w.mu.Unlock()
	k.flushAll()
	return c, ok
}

// next takes a further call.
func (w *workers) next(k *worker) (*serverCall, bool) {
	w.mu.Lock()
	c, ok := w.take()
	if w.taken == len(w.queue) {
		k.flush = append(k.flush, w.dirty...)
		w.dirty = w.dirty[:0]
	}
	w.mu.Unlock()
	k.flushAll()
	return c, ok
}

// take takes the oldest call and sees to the next. The lock must be held.
func (w *workers) take() (*serverCall, bool) {
	if w.taken == len(w.queue) {
		return nil, false
	}
	c := w.queue[w.taken]
	w.queue[w.taken] = nil
	w.taken++
	w.queued.Add(-1)
	if w.taken == len(w.queue) {
		w.queue, w.taken = w.queue[:0], 0
	}
	w.wakeOne()
	return c, true
}

// park waits for the next wake-up. It returns false where the worker is to end.
func (w *workers) park(k *worker) bool {
	w.mu.Lock()
	if w.closed || len(w.idle) >= maxIdle {
		w.mu.Unlock()
		return false
	}
	w.idle = append(w.idle, k)
	w.mu.Unlock()
	_, ok := <-k.wake
	return ok
}

func (k *worker) flushAll() {
	for i, s := range k.flush {
		k.flush[i] = nil
		s.flush()
	}
	k.flush = k.flush[:0]
}

// leave notes that a session's output may wait for the next worker. It returns false if nobody would come.
func (w *workers) leave(s *session) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken == len(w.queue) {
		return false
	}
	for _, d := range w.dirty {
		if d == s {
			return true
		}
	}
	w.dirty = append(w.dirty, s)
	return true
}

// close ends the workers that wait, and those that run once their handlers return.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	for _, k := range w.idle {
		close(k.wake)
	}
	w.idle = nil
	w.mu.Unlock()
}
