package route

import (
	"hash/maphash"
	"maps"
)

// parts is into how many maps an index is split: a change copies those that it touches.
const parts = 64

// seed spreads names over the parts of an index.
var seed = maphash.MakeSeed()

// index finds units by their targets' names. It is immutable; an editing makes the next one.
type index [parts]map[string]*unit

func (x *index) find(name []byte) *unit { return x[maphash.Bytes(seed, name)%parts][string(name)] }

func (x *index) get(name string) *unit { return x[maphash.String(seed, name)%parts][name] }

func (x *index) all(yield func(*unit) bool) {
	for _, m := range x {
		for _, u := range m {
			if !yield(u) {
				return
			}
		}
	}
}

// editing is an index in the making. What it has not touched it shares with the index that it began with.
type editing struct {
	index
	copied [parts]bool
	own    map[string]*unit // made here, and so to be written to
}

func edit(x *index) *editing { return &editing{index: *x, own: make(map[string]*unit)} }

func (ed *editing) part(name string) map[string]*unit {
	at := maphash.String(seed, name) % parts
	if !ed.copied[at] {
		ed.copied[at] = true
		if ed.index[at] = maps.Clone(ed.index[at]); ed.index[at] == nil {
			ed.index[at] = make(map[string]*unit)
		}
	}
	return ed.index[at]
}

// edit returns the target's unit to write to, a copy of what there was; new ones are empty.
func (ed *editing) edit(name string) *unit {
	if u := ed.own[name]; u != nil {
		return u
	}
	u := &unit{name: name}
	if old := ed.get(name); old != nil {
		*u = *old
	}
	ed.own[name] = u
	ed.part(name)[name] = u
	return u
}

func (ed *editing) remove(name string) {
	delete(ed.own, name)
	delete(ed.part(name), name)
}
