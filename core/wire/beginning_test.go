package wire

import (
	"bytes"
	"strings"
	"testing"
)

// splitAnswer answers a call by one message longer than a frame with a head, and returns the heads of the fragments.
func splitAnswer(t testing.TB, p *pair, head []byte) (heads [][]byte) {
	t.Helper()
	s, err := p.dialer.Open("mine")
	if err != nil {
		t.Fatal(err)
	}
	p.dialer.Send(s, &Out{Type: TypeRequest, Flags: FlagMessage | FlagEnd})
	p.feed(p.acceptor, p.dialer.Take(nil), func(ev *Event) {
		p.acceptor.Send(ev.Stream, &Out{Type: TypeResponse, Flags: FlagMessage | FlagEnd, Head: head, Body: make([]byte, 70_000)})
	})
	p.feed(p.dialer, p.acceptor.Take(nil), func(ev *Event) {
		if ev.Kind != EventResponse && ev.Kind != EventMessage {
			t.Fatalf("%v %+v", ev.Kind, ev.Status)
		}
		heads = append(heads, bytes.Clone(ev.Frame.Head))
	})
	return heads
}

// TestABeginningThatHasNoRoomStaysBehind: beside total_length, a head of 65,535 bytes has none for what is nearly as long, nor is there
// anything to copy from a head that does not parse.
func TestABeginningThatHasNoRoomStaysBehind(t *testing.T) {
	for name, head := range map[string][]byte{
		"long":   (&ResponseHead{HeadersPresent: true, Metadata: []Entry{{Key: []byte("k"), Value: []byte(strings.Repeat("v", 65_520))}}}).Append(nil),
		"broken": {0x30, 0x01, 0x3a, 0x05},
	} {
		heads := splitAnswer(t, newPair(t, RoleCall, Limits{}, Limits{}), head)
		if alone := AppendTotalLength(nil, 70_000); !bytes.Equal(heads[0], alone) {
			t.Errorf("%s: the first fragment's head has %d bytes, want total_length alone", name, len(heads[0]))
		}
		if !bytes.Equal(heads[len(heads)-1], head) {
			t.Errorf("%s: the last fragment's head is not the answer's", name)
		}
	}
}

func TestAnIdleConnectionKeepsNoLongHead(t *testing.T) {
	p := newPair(t, RoleCall, Limits{}, Limits{})
	head := (&ResponseHead{HeadersPresent: true, Metadata: []Entry{{Key: []byte("k"), Value: make([]byte, 30_000)}}}).Append(nil)
	if heads := splitAnswer(t, p, head); !bytes.Equal(heads[0], AppendTotalLength(bytes.Clone(head), 70_000)) {
		t.Errorf("the first fragment's head has %d bytes", len(heads[0]))
	}
	if p.acceptor.Trim(); cap(p.acceptor.scratchHead) > keptScratch {
		t.Errorf("an idle connection keeps %d bytes", cap(p.acceptor.scratchHead))
	}
}
