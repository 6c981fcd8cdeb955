package octomesh

import (
	"iter"
	"strings"

	"github.com/octomesh/octomesh/core/wire"
)

// Entry is one metadata or baggage entry. Keys are of a-z, 0-9, '-', '_' and '.'. The value of a key that
// ends in "-bin" is any bytes; another's is of the ASCII characters 0x20 to 0x7E.
type Entry struct {
	Key, Value string
}

// Metadata travels beside the messages of a call, one hop far, and baggage down the whole chain of calls.
// Order and duplicates are kept.
type Metadata []Entry

// Get returns the first value of key, or "".
func (m Metadata) Get(key string) string {
	for _, e := range m {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// Values returns all values of key in their order.
func (m Metadata) Values(key string) []string {
	var all []string
	for _, e := range m {
		if e.Key == key {
			all = append(all, e.Value)
		}
	}
	return all
}

// All ranges over keys and values in their order.
func (m Metadata) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, e := range m {
			if !yield(e.Key, e.Value) {
				return
			}
		}
	}
}

// entryOverhead is what each metadata entry counts on top of its key and value.
const entryOverhead = 32

func (m Metadata) size(overhead int) int {
	n := 0
	for _, e := range m {
		n += len(e.Key) + len(e.Value) + overhead
	}
	return n
}

// checkEntry checks an entry that a user sets. An upper-case key is an error and not lowered, so that what
// was set is what [Metadata.Get] finds at the other end.
func checkEntry(key, value string) *Error {
	if !validKey(key) {
		return badCall("metadata key %q: keys are of a-z, 0-9, '-', '_' and '.'", key)
	}
	if strings.HasPrefix(key, reservedPrefix) {
		return badCall("metadata key %q: keys that begin with %q are reserved", key, reservedPrefix)
	}
	if !validValue(key, value) {
		return badCall("metadata value of %q has a character outside 0x20 to 0x7E; use a key that ends in \"-bin\"", key)
	}
	return nil
}

const reservedPrefix = "octo-"

func validKey[K string | []byte](key K) bool {
	for i := range len(key) {
		switch c := key[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return len(key) > 0
}

func validValue(key, value string) bool {
	if strings.HasSuffix(key, "-bin") {
		return true
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7E {
			return false
		}
	}
	return true
}

// fromEntries copies what arrived and leaves out what breaks the rules. The texts are cut from one string.
// Reserved keys are kept only of baggage, which is passed on.
func fromEntries(entries []wire.Entry, keepReserved bool) Metadata {
	if len(entries) == 0 {
		return nil
	}
	n := 0
	for _, e := range entries {
		n += len(e.Key) + len(e.Value)
	}
	var b strings.Builder
	b.Grow(n)
	for _, e := range entries {
		b.Write(e.Key)
		b.Write(e.Value)
	}
	all := b.String()
	m := make(Metadata, 0, len(entries))
	for _, e := range entries {
		key, value := all[:len(e.Key)], all[len(e.Key):len(e.Key)+len(e.Value)]
		all = all[len(e.Key)+len(e.Value):]
		if validKey(key) && validValue(key, value) && (keepReserved || !strings.HasPrefix(key, reservedPrefix)) {
			m = append(m, Entry{key, value})
		}
	}
	return m
}

// toEntries is for heads that are built in full.
func toEntries(m Metadata) []wire.Entry {
	if len(m) == 0 {
		return nil
	}
	entries := make([]wire.Entry, len(m))
	for i, e := range m {
		entries[i] = wire.Entry{Key: []byte(e.Key), Value: []byte(e.Value)}
	}
	return entries
}

// replace returns m with e in place of the entries of its key; m itself stays as it is.
func (m Metadata) replace(e Entry) Metadata {
	next := make(Metadata, 0, len(m)+1)
	for _, old := range m {
		if old.Key != e.Key {
			next = append(next, old)
		}
	}
	return append(next, e)
}

func (m Metadata) withoutReserved() Metadata {
	var next Metadata
	for _, e := range m {
		if !strings.HasPrefix(e.Key, reservedPrefix) {
			next = append(next, e)
		}
	}
	return next
}
