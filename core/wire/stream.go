package wire

// Stream is one call on a connection. It belongs to its Conn: whoever keeps a pointer to it compares
// Call with what it put there, under the Conn's lock, before each use: a closed stream is used again for
// another call.
type Stream struct {
	ID uint32
	// Call is the owner's, whatever it keeps for a call. A closed stream's is nil.
	Call any

	sendCredit  int64 // what the peer still lets us send
	recvWindow  int64 // what we still let the peer send
	recvPending int64 // consumed and not granted yet

	msgTotal, msgGot uint64 // the message that is arriving in fragments

	inMessage    bool // a message arrives in fragments
	outMessage   bool // a message leaves in fragments
	remoteEnd    bool // the peer has half-closed
	localEnd     bool // we have half-closed
	gotResponse  bool
	sentResponse bool
	started      bool // handed to a handler, or a byte of it written upstream
	blocked      bool // a Send waits for credit
}

// RemoteEnded tells whether the peer has half-closed.
func (s *Stream) RemoteEnded() bool { return s.remoteEnd }

// LocalEnded tells whether our side has half-closed.
func (s *Stream) LocalEnded() bool { return s.localEnd }

// Credit is what the peer still lets us send, in bytes of frame cost.
func (s *Stream) Credit() int64 { return s.sendCredit }

// Receiving tells whether a message is arriving in fragments, and how many of its wire bytes are still
// to come.
func (s *Stream) Receiving() (left uint64, ok bool) { return s.msgTotal - s.msgGot, s.inMessage }

// MessageTotal is the announced wire length of the message that is arriving in fragments.
func (s *Stream) MessageTotal() uint64 { return s.msgTotal }

// table finds streams by id. Ids rise by two, so a ring indexed by id/2 holds them without hashing; what
// outlives a turn of the ring spills into a map.
type table struct {
	slots []*Stream
	spill map[uint32]*Stream
	n     int
}

const (
	minSlots = 64
	maxSlots = 4096
)

func (t *table) get(id uint32) *Stream {
	if len(t.slots) == 0 {
		return nil
	}
	if s := t.slots[int(id>>1)&(len(t.slots)-1)]; s != nil && s.ID == id {
		return s
	}
	if len(t.spill) == 0 {
		return nil
	}
	return t.spill[id]
}

func (t *table) put(s *Stream) {
	if t.n >= len(t.slots)/2 && len(t.slots) < maxSlots {
		t.grow()
	}
	t.n++
	t.place(s)
}

func (t *table) place(s *Stream) {
	slot := &t.slots[int(s.ID>>1)&(len(t.slots)-1)]
	if *slot == nil {
		*slot = s
		return
	}
	if t.spill == nil {
		t.spill = make(map[uint32]*Stream)
	}
	t.spill[s.ID] = s
}

func (t *table) grow() {
	old := *t
	t.slots = make([]*Stream, max(minSlots, 2*len(old.slots)))
	t.spill = nil
	old.each(t.place)
}

func (t *table) remove(s *Stream) {
	t.n--
	if slot := &t.slots[int(s.ID>>1)&(len(t.slots)-1)]; *slot == s {
		*slot = nil
		return
	}
	delete(t.spill, s.ID)
}

// each calls f for every stream, in no order. f must not change the table.
func (t *table) each(f func(*Stream)) {
	for _, s := range t.slots {
		if s != nil {
			f(s)
		}
	}
	for _, s := range t.spill {
		f(s)
	}
}
