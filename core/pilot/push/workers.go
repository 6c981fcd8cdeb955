package push

import (
	"context"
	"net"
	"runtime"
	"sync"

	"google.golang.org/grpc/peer"
)

// link is a connection with the streams on it that wait for a worker. They are sent to one after the other: what goes
// to the same connection at about the same time leaves it with one system call.
type link struct {
	address     *net.TCPAddr // nil: nobody shares it
	streams     int
	first, last *stream // the workers' lock guards them
}

// links are those of a server that may be shared, by the address of the other side. Each connection has one of its own.
type links map[*net.TCPAddr]*link

// join returns the link of a stream.
func (all links) join(ctx context.Context) *link {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return &link{}
	}
	address, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return &link{}
	}
	l := all[address]
	if l == nil {
		l = &link{address: address}
		all[address] = l
	}
	l.streams++
	return l
}

// part says that one stream less is on the link.
func (all links) part(l *link) {
	if l.streams--; l.streams == 0 {
		delete(all, l.address)
	}
}

// workers send to streams that have something to be told, link by link. A goroutine for each stream would be simpler, and
// costs twice the time where a change goes to hundreds: most of it to switch between them.
type workers struct {
	mu    sync.Mutex
	queue []*link
	head  int // of the queue
	run   int // workers that run
}

// add has a worker send to the stream, which waits for none yet. It does not wait, and locks nothing else.
func (w *workers) add(st *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := st.link
	if l.last != nil {
		l.last.after, l.last = st, st
		return
	}
	l.first, l.last = st, st
	w.queue = append(w.queue, l)
	if w.run < runtime.GOMAXPROCS(0) {
		w.run++
		go w.work()
	}
}

func (w *workers) work() {
	for st := w.next(); st != nil; st = w.next() {
		for st != nil {
			after := st.after
			st.after = nil // before it is sent to: from then on it may wait again
			st.send()
			st = after
		}
	}
}

// next are the streams whose turn it is, the first of a list; nil: there are none, and the worker ends.
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
	l := w.queue[w.head]
	w.queue[w.head] = nil
	if w.head++; w.head > 1024 && w.head > len(w.queue)/2 { // it may never get empty
		w.queue, w.head = append(w.queue[:0], w.queue[w.head:]...), 0
	}
	st := l.first
	l.first, l.last = nil, nil
	return st
}
