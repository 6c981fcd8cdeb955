package octomesh

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// inbox holds what arrives on a stream: the message that is being assembled and those that wait for the
// application. The connection's lock guards it.
//
// Credit goes back as fragments arrive, so that a message larger than the window does not wait for itself,
// but only while no complete message waits: a slow application stops its own sender, and memory is bounded
// by window and message limit.
type inbox struct {
	limit      int // of a message's uncompressed size, in bytes
	budget     *budget
	assembling bool
	current    arrived
	waiting    []arrived
	taken      int    // waiting[:taken] has been taken
	held       int64  // credit that goes back when nothing waits any more
	spare      []byte // serves the next message that arrives whole
}

// arrived is one message in wire bytes.
type arrived struct {
	data       []byte
	reserved   int64 // of the assembly budget
	compressed bool
}

// keepSpare bounds the memory that a stream keeps for its next message, in each direction.
const keepSpare = 64 << 10

// len is the number of complete messages that wait.
func (b *inbox) len() int { return len(b.waiting) - b.taken }

// add takes a frame's part of a message. complete tells whether a message became complete; a reason other
// than 0 ends the call.
func (b *inbox) add(wc *wire.Conn, s *wire.Stream, f *wire.Frame) (complete bool, reason wire.Reason) {
	if !b.assembling {
		if reason := b.begin(s, f); reason != 0 {
			return false, reason
		}
	} else {
		b.current.data = append(b.current.data, f.Body...)
	}
	more := f.Has(wire.FlagMore)
	if more && b.len() == 0 {
		wc.Consume(s, f.Cost())
	} else {
		b.held += f.Cost()
	}
	b.assembling = more
	if more {
		return false, 0
	}
	b.waiting = append(b.waiting, b.current)
	b.current = arrived{}
	return true, 0
}

// begin takes a message's first frame, and memory for all of it.
func (b *inbox) begin(s *wire.Stream, f *wire.Frame) wire.Reason {
	total := uint64(len(f.Body))
	if f.Has(wire.FlagMore) {
		total = s.MessageTotal()
	}
	limit, compressed := b.limit, f.Has(wire.FlagCompressed)
	if compressed {
		limit = gzipSlack(limit)
	}
	if total > uint64(limit) {
		return wire.ReasonMessageTooLarge
	}
	b.current = arrived{compressed: compressed}
	if f.Has(wire.FlagMore) {
		b.current.reserved = int64(sharedSize(int(total)))
		if !b.budget.take(b.current.reserved) {
			b.current.reserved = 0
			return wire.ReasonOverloaded
		}
		b.current.data = borrow(int(total))
	} else {
		b.current.data, b.spare = b.spare[:0], nil
	}
	b.current.data = append(b.current.data, f.Body...)
	return 0
}

// take returns the oldest message that waits. The caller gives back cost as credit, none before the last one is
// taken, and the message by [inbox.recycle] once it is decoded.
func (b *inbox) take() (m arrived, cost int64) {
	m = b.waiting[b.taken]
	b.waiting[b.taken] = arrived{}
	if b.taken++; b.taken == len(b.waiting) {
		b.waiting, b.taken = b.waiting[:0], 0
		cost, b.held = b.held, 0
	}
	return m, cost
}

// recycle keeps a decoded message's memory for another.
func (b *inbox) recycle(m *arrived) {
	b.budget.give(m.reserved)
	switch n := cap(m.data); {
	case m.reserved > 0:
		giveBack(m.data)
	case n <= keepSpare && n > cap(b.spare):
		b.spare = m.data[:0]
	}
	m.data, m.reserved = nil, 0
}

// fresh is an inbox for a later call, with the memory of this one, which is empty.
func (b *inbox) fresh() inbox {
	return inbox{budget: b.budget, waiting: b.waiting, spare: b.spare}
}

// drop empties the inbox.
func (b *inbox) drop() {
	b.budget.give(b.current.reserved)
	for i := range b.waiting {
		b.budget.give(b.waiting[i].reserved)
		b.waiting[i] = arrived{}
	}
	b.current, b.assembling = arrived{}, false
	b.waiting, b.taken, b.held = b.waiting[:0], 0, 0
}

var errEncoding = errors.New("octomesh: compressed by an encoding that this SDK does not have")

// plain returns a message's uncompressed bytes.
func plain(m *arrived, encoding string, limit int) ([]byte, wire.Reason, error) {
	if !m.compressed {
		return m.data, 0, nil
	}
	switch encoding {
	case encodingGzip:
		b, err := decompressGzip(m.data, limit)
		switch {
		case err == nil:
			return b, 0, nil
		case errors.Is(err, errTooLarge):
			return nil, wire.ReasonMessageTooLarge, err
		}
		return nil, wire.ReasonBadMessage, err
	case "", encodingIdentity:
		return nil, wire.ReasonBadMessage, errors.New("octomesh: a compressed message without an encoding")
	}
	return nil, wire.ReasonUnknownEncoding, errEncoding
}

// decode makes a protobuf message of an arrived one.
func decode(m *arrived, encoding string, limit int, into proto.Message) (wire.Reason, error) {
	b, reason, err := plain(m, encoding, limit)
	if err != nil {
		return reason, err
	}
	if err := proto.Unmarshal(b, into); err != nil {
		return wire.ReasonBadMessage, err
	}
	return 0, nil
}

// encode serializes a message into dst, and compresses it if encoding says so.
func encode(dst []byte, m proto.Message, encoding string) ([]byte, error) {
	if size := (proto.MarshalOptions{}).Size(m); size > keepSpare && size > cap(dst) {
		dst = borrow(size)
	}
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(dst, m)
	if err != nil || encoding != encodingGzip {
		return b, err
	}
	small := compressGzip(nil, b)
	giveBack(b)
	return small, nil
}
