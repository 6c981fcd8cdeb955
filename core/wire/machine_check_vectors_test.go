package wire_test

import (
	"fmt"
	"reflect"
	"testing"
)

// observation is what happened, or what should have: the values compare as they print.
type observation map[string]any

// holds tells whether the observation has all that is expected.
func (o observation) holds(want observation) bool {
	for k, v := range want {
		if k != "place" && plain(o[k]) != plain(v) {
			return false
		}
	}
	return true
}

// plain makes numbers of any type, and JSON's, alike.
func plain(v any) any {
	switch n := reflect.ValueOf(v); {
	case !n.IsValid():
		return nil
	case n.CanInt():
		return n.Int()
	case n.CanUint():
		return int64(n.Uint())
	case n.CanFloat():
		return int64(n.Float())
	}
	return v
}

// stream is the id that an observation is about.
func (o observation) stream() int64 { return plain(o["stream"]).(int64) }

// expected is one action of a script.
type expected struct {
	Write, Deliver, Sends, Ended, Close, Blocked observation
	Refused                                      string
	Optional                                     bool
}

// observed is all that one step brought about.
type observed struct {
	writes, delivers, ended []observation
	blocked                 []uint32
	refused                 string
	close                   bool
}

func (d *observed) check(t *testing.T, at string, want []expected) {
	t.Helper()
	var delivers []expected
	writes := map[int64][]expected{}
	ended, blocked, closes, refused := 0, 0, false, ""
	for _, w := range want {
		switch {
		case w.Write != nil:
			d.checkPlace(t, at, w)
			writes[w.Write.stream()] = append(writes[w.Write.stream()], w)
		case w.Sends != nil:
			writes[w.Sends.stream()] = append(writes[w.Sends.stream()], w)
		case w.Deliver != nil:
			delivers = append(delivers, w)
		case w.Ended != nil:
			ended++
			d.checkEnded(t, at, w.Ended)
		case w.Blocked != nil:
			blocked++
		case w.Close != nil:
			closes = true
		default:
			refused = w.Refused
		}
	}
	d.checkWrites(t, at, writes)
	rest := match(d.delivers, delivers, func(e expected) observation { return e.Deliver })
	if rest != "" {
		t.Errorf("%s: deliveries: %s\nall: %v", at, rest, d.delivers)
	}
	if len(d.ended) != ended || len(d.blocked) != blocked || d.close != closes || d.refused != refused {
		t.Errorf("%s: ended %v, want %d; blocked %v, want %d; close %v, want %v; refused %q, want %q",
			at, d.ended, ended, d.blocked, blocked, d.close, closes, d.refused, refused)
	}
}

func (d *observed) checkPlace(t *testing.T, at string, w expected) {
	t.Helper()
	n := len(d.writes)
	if place := w.Write["place"]; n > 0 && (place == "first" && !d.writes[0].holds(w.Write) || place == "last" && !d.writes[n-1].holds(w.Write)) {
		t.Errorf("%s: %v is not the %s of %v", at, w.Write["type"], place, d.writes)
	}
}

func (d *observed) checkEnded(t *testing.T, at string, want observation) {
	t.Helper()
	for _, o := range d.ended {
		if o.holds(want) {
			return
		}
	}
	t.Errorf("%s: not ended: %v", at, want)
}

// checkWrites compares the frames of each stream, in their order.
func (d *observed) checkWrites(t *testing.T, at string, want map[int64][]expected) {
	t.Helper()
	got := map[int64][]observation{}
	for _, o := range d.writes {
		id := o.stream()
		got[id] = append(got[id], o)
		if _, ok := want[id]; !ok {
			want[id] = nil // frames of a stream nobody expects are looked at too
		}
	}
	for id, w := range want {
		var whole []observation
		for _, o := range got[id] {
			whole = joinFragments(whole, o)
		}
		rest := match(whole, w, func(e expected) observation {
			if e.Sends != nil {
				return e.Sends
			}
			return e.Write
		})
		if rest != "" {
			t.Errorf("%s: writes: %s\nall: %v", at, rest, d.writes)
		}
	}
}

const flagEnd, flagMore = 1, 2

// joinFragments adds what `sends` asks of a message to its frames: a later fragment goes into its first.
func joinFragments(whole []observation, o observation) []observation {
	flags := o["flags"].(uint8)
	if n := len(whole); n > 0 && whole[n-1]["more"] == true {
		m := whole[n-1]
		m["bytes"] = m["bytes"].(int) + o["body_len"].(int)
		m["last_type"], m["last_head"], m["end"], m["more"] = o["type"], o["head"], flags&flagEnd != 0, flags&flagMore != 0
		if m["more"] == false && fmt.Sprint(m["bytes"]) != fmt.Sprint(m["total_length"]) {
			m["type"] = fmt.Sprintf("a message whose total_length is %v", m["total_length"])
		}
		return whole
	}
	o["bytes"], o["last_type"], o["end"], o["more"] = o["body_len"], o["type"], flags&flagEnd != 0, flags&flagMore != 0
	return append(whole, o)
}

// match compares in order; optional expectations may be missing. It says what does not fit.
func match(got []observation, want []expected, of func(expected) observation) string {
	for _, w := range want {
		switch {
		case len(got) > 0 && got[0].holds(of(w)):
			got = got[1:]
		case !w.Optional:
			return fmt.Sprintf("missing %v, there is %v", of(w), got)
		}
	}
	if len(got) > 0 {
		return fmt.Sprintf("unexpected %v", got)
	}
	return ""
}
