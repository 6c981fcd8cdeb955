package h2

import "iter"

// table finds open streams by id. Ids rise by two, so nearly all stand at their ids' places in a ring, and nobody hashes: a unary call
// looks for its stream some ten times. Those whose place was taken when they were opened are in the map.
type table struct {
	ring  [ringSize]*Stream
	spill map[uint32]*Stream
	n     int
}

const ringSize = 64

func (t *table) place(id uint32) **Stream { return &t.ring[id>>1%ringSize] }

func (t *table) get(id uint32) *Stream {
	if s := *t.place(id); s != nil && s.ID == id {
		return s
	}
	return t.spill[id]
}

func (t *table) put(s *Stream) {
	t.n++
	if at := t.place(s.ID); *at == nil {
		*at = s
		return
	}
	if t.spill == nil {
		t.spill = make(map[uint32]*Stream)
	}
	t.spill[s.ID] = s
}

func (t *table) remove(s *Stream) {
	switch at := t.place(s.ID); {
	case *at == s:
		*at = nil
	case t.spill[s.ID] == s:
		delete(t.spill, s.ID)
	default:
		return // it has gone before
	}
	t.n--
}

// all lists the streams, in no order. None may be put or removed meanwhile.
func (t *table) all() iter.Seq[*Stream] {
	return func(yield func(*Stream) bool) {
		for _, s := range t.ring {
			if s != nil && !yield(s) {
				return
			}
		}
		for _, s := range t.spill {
			if !yield(s) {
				return
			}
		}
	}
}
