package push

import (
	"runtime"
	"sync"
)

// workers send to streams that have something to be told, one after the other. A goroutine for each stream would be simpler, and
// costs twice the time where a change goes to hundreds: most of it to switch between them.
type workers struct {
	mu    sync.Mutex
	queue []*stream
	head  int // of the queue
	run   int // workers that run
}

// add has a worker send to the stream. It does not wait, and locks nothing else.
func (w *workers) add(st *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, st)
	if w.run < runtime.GOMAXPROCS(0) {
		w.run++
		go w.work()
	}
}

func (w *workers) work() {
	for st := w.next(); st != nil; st = w.next() {
		st.send()
	}
}

// next is the stream whose turn it is; nil: there is none, and the worker ends.
func (w *workers) next() *stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
		if cap(w.queue) > 1024 {
			w.queue = nil
		}
		w.run--
		return nil
	}
	st := w.queue[w.head]
	w.queue[w.head] = nil
	if w.head++; w.head > 1024 && w.head > len(w.queue)/2 { // it may never get empty
		w.queue, w.head = append(w.queue[:0], w.queue[w.head:]...), 0
	}
	return st
}
