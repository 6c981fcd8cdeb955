package route

import (
	"bytes"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// matcher is a compiled octo.resource.v1.Match. The zero matcher holds for every call.
type matcher struct {
	service, method, caller string
	metadata, baggage       []entryMatcher
}

func compileMatch(m *resourcev1.Match) matcher {
	return matcher{
		service: m.GetService(), method: m.GetMethod(), caller: m.GetCaller(),
		metadata: compileEntries(m.GetMetadata()), baggage: compileEntries(m.GetBaggage()),
	}
}

// condition returns the compiled match as policies take it; nil where it holds for every call.
func condition(m *resourcev1.Match) policy.Condition {
	if m == nil {
		return nil
	}
	c := compileMatch(m)
	return &c
}

// Holds implements policy.Condition.
func (m *matcher) Holds(h *wire.RequestHead, caller []byte) bool { return m.holds(h, caller) }

// holds compares strings with bytes in place; the compiler makes no copy for it.
func (m *matcher) holds(h *wire.RequestHead, caller []byte) bool {
	if m.method != "" && string(h.Method) != m.method || m.service != "" && string(h.Service) != m.service {
		return false
	}
	if m.caller != "" && string(caller) != m.caller {
		return false
	}
	for i := range m.metadata {
		if !m.metadata[i].holds(h.Metadata) {
			return false
		}
	}
	for i := range m.baggage {
		if !m.baggage[i].holds(h.Baggage) {
			return false
		}
	}
	return true
}

type entryTest uint8

const (
	isPresent entryTest = iota
	isAbsent
	isExact
	hasPrefix
)

// entryMatcher tests the entries of one key.
type entryMatcher struct {
	key   string
	test  entryTest
	value []byte
}

func compileEntries(entries []*resourcev1.EntryMatch) []entryMatcher {
	out := make([]entryMatcher, 0, len(entries))
	for _, e := range entries {
		m := entryMatcher{key: e.GetKey()}
		switch v := e.GetValue().(type) {
		case *resourcev1.EntryMatch_Exact:
			m.test, m.value = isExact, []byte(v.Exact)
		case *resourcev1.EntryMatch_Prefix:
			m.test, m.value = hasPrefix, []byte(v.Prefix)
		case *resourcev1.EntryMatch_Present:
			if !v.Present {
				m.test = isAbsent
			}
		}
		out = append(out, m)
	}
	return out
}

// holds: some entry of the key passes the test; for absence none has the key.
func (m *entryMatcher) holds(entries []wire.Entry) bool {
	for i := range entries {
		if string(entries[i].Key) == m.key && m.passes(entries[i].Value) {
			return m.test != isAbsent
		}
	}
	return m.test == isAbsent
}

func (m *entryMatcher) passes(value []byte) bool {
	switch m.test {
	case isExact:
		return bytes.Equal(value, m.value)
	case hasPrefix:
		return bytes.HasPrefix(value, m.value)
	}
	return true
}
