package meshtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Talk is a random but valid conversation of raw ends through whatever lies between them: calls of every
// shape and size, slow readers, half-closes, resets from both sides, servers that leave, lost connections.
// What it checks is true of every such conversation; see Run.
type Talk struct {
	// Dial connects an end that calls or serves.
	Dial func(role wire.Role, limits wire.Limits, on func(*Raw, *wire.Event)) (*Raw, error)
	// Target is what callers call.
	Target string
	// Patience is how long a call may take to end once everything is answered. 0: 20 s.
	Patience time.Duration

	rnd     *rand.Rand
	callers []*talkEnd
	servers []*talkEnd
	leaving []*talkEnd // servers that have asked to move
	retired []*talkEnd
	last    int

	mu   sync.Mutex
	ran  map[string]int // how often a server saw a call
	errs []error
}

// talkEnd is one connection. What follows the Raw is guarded by its lock.
type talkEnd struct {
	*Raw
	talk  *Talk
	calls []*talkCall // that are open
	every []*talkCall
	final bool // answer at once, keep nobody waiting
	cut   bool // by the talk itself
}

// talkCall is a call at one of its ends.
type talkCall struct {
	id      string
	stream  *wire.Stream
	pending *wire.Out // that ran out of credit
	lazy    bool      // credit goes back only when the script says so
	owed    int64     // credit that is kept back
	halved  bool      // this side has half-closed
	begun   bool      // a RESPONSE was sent
	over    bool
	ends    int
	status  wire.Status
}

// Run follows the script, then has everything that is open answered, and returns what went wrong:
//
//   - a call at a connection that stands did not end, or ended twice,
//   - a call was executed twice, or was executed and is said not to be,
//   - an end received what breaks the protocol, or was said to have broken it.
//
// The same script makes the same moves; what they meet depends on the schedule.
func (k *Talk) Run(script []byte) error {
	if k.Patience == 0 {
		k.Patience = 20 * time.Second
	}
	k.ran = make(map[string]int)
	seed := [2]uint64{}
	for i, b := range script {
		seed[i&1] = seed[i&1]*31 + uint64(b)
	}
	k.rnd = rand.New(rand.NewPCG(seed[0], seed[1]))
	for range 2 {
		k.join(wire.RoleServe, &k.servers)
		k.join(wire.RoleCall, &k.callers)
	}
	for _, b := range script {
		if len(k.errs) > 0 {
			break
		}
		k.move(b)
	}
	k.conclude()
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(k.errs...)
}

// Outcomes counts how the calls ended whose connection stood to the end.
func (k *Talk) Outcomes() map[string]int {
	all := make(map[string]int)
	for _, e := range append(k.retired, k.callers...) {
		e.Lock()
		for _, c := range e.every {
			switch {
			case e.cut:
				all["connection cut"]++
			default:
				all[fmt.Sprint(c.status.Code, " ", c.status.Reason, " by ", c.status.Origin)]++
			}
		}
		e.Unlock()
	}
	return all
}

func (k *Talk) fail(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.errs) < 8 {
		k.errs = append(k.errs, fmt.Errorf(format, args...))
	}
}

func (k *Talk) join(role wire.Role, ends *[]*talkEnd) {
	e := &talkEnd{talk: k}
	limits := wire.Limits{MaxStreams: []uint32{0, 1, 3}[k.rnd.IntN(3)], StreamWindow: []uint32{0, 1 << 17, 1 << 20}[k.rnd.IntN(3)]}
	on := e.caller
	if role == wire.RoleServe {
		on = e.server
	}
	r, err := k.Dial(role, limits, on)
	if err != nil {
		k.fail("dial: %w", err)
		return
	}
	r.Lock() // the callback may run already
	e.Raw = r
	r.Unlock()
	*ends = append(*ends, e)
}

// The sizes of messages: none, small, more than a fragment, more than a window.
var talkSizes = []int{0, 1, 300, 5 << 10, 90 << 10, 300 << 10}

func (k *Talk) body() []byte { return make([]byte, talkSizes[k.rnd.IntN(len(talkSizes))]) }

func (k *Talk) any(ends []*talkEnd) *talkEnd {
	if len(ends) == 0 {
		return nil
	}
	return ends[k.rnd.IntN(len(ends))]
}

// move makes one move of the script.
func (k *Talk) move(b byte) {
	caller, server := k.any(k.callers), k.any(k.servers)
	if caller == nil || server == nil {
		return
	}
	switch b & 15 {
	case 0, 1, 2:
		caller.open(wire.FlagMessage | wire.FlagEnd)
	case 3:
		caller.open(wire.FlagMessage)
	case 4:
		caller.open(0)
	case 5:
		caller.with(k, func(c *talkCall) { caller.put(c, wire.TypeMessage, wire.FlagMessage, nil, k.body()) })
	case 6:
		caller.with(k, func(c *talkCall) { caller.put(c, wire.TypeMessage, wire.FlagEnd, nil, nil) })
	case 7:
		caller.with(k, caller.reset)
	case 8:
		server.with(k, func(c *talkCall) { server.put(c, wire.TypeResponse, 0, nil, nil) })
	case 9:
		server.with(k, func(c *talkCall) { server.put(c, wire.TypeMessage, wire.FlagMessage, nil, k.body()) })
	case 10, 11:
		server.with(k, func(c *talkCall) { server.put(c, wire.TypeResponse, wire.FlagMessage|wire.FlagEnd, nil, k.body()) })
	case 12:
		server.with(k, server.reset)
	case 13:
		caller.with(k, caller.pay)
		server.with(k, server.pay)
	case 14:
		caller.ping()
		server.ping()
	case 15:
		k.lose(b>>4, caller, server)
	}
}

// lose cuts a connection now and then, and makes another.
func (k *Talk) lose(b byte, caller, server *talkEnd) {
	switch b {
	case 0:
		k.replace(caller, wire.RoleCall, &k.callers)
	case 1:
		k.replace(server, wire.RoleServe, &k.servers)
	case 2: // gracefully: it serves what is open, and what comes before DRAINED
		server.Lock()
		server.Wire.Leave(wire.GoAwayDraining, "")
		server.FlushUnlock()
		k.leaving = append(k.leaving, server)
		k.servers = slices.DeleteFunc(k.servers, func(e *talkEnd) bool { return e == server })
		k.join(wire.RoleServe, &k.servers)
	default:
		time.Sleep(time.Duration(b) * 100 * time.Microsecond) // let some of it arrive
	}
}

func (k *Talk) replace(e *talkEnd, role wire.Role, ends *[]*talkEnd) {
	e.Lock()
	e.cut = true
	e.Unlock()
	e.Close()
	<-e.Done()
	*ends = slices.DeleteFunc(*ends, func(o *talkEnd) bool { return o == e })
	k.retired = append(k.retired, e)
	k.join(role, ends)
}

// with does something with one of the end's open calls, if there is one.
func (e *talkEnd) with(k *Talk, f func(*talkCall)) {
	n := k.rnd.Uint64()
	e.Lock()
	defer e.FlushUnlock()
	if len(e.calls) > 0 {
		f(e.calls[n%uint64(len(e.calls))])
	}
}

// open makes a call, as far as the peer lets it.
func (e *talkEnd) open(flags wire.Flags) {
	k := e.talk
	k.last++
	c := &talkCall{id: fmt.Sprint("call-", k.last), lazy: k.rnd.IntN(4) == 0}
	h := wire.RequestHead{Target: []byte(k.Target), Service: []byte("s"), Method: []byte("m"), CallID: []byte(c.id)}
	if flags&wire.FlagEnd != 0 {
		h.Kind = wire.KindUnary
	}
	switch k.rnd.IntN(8) {
	case 0:
		h.TimeoutUS = 1 + k.rnd.Uint64N(20_000)
	case 1:
		h.TimeoutUS = 60_000_000
	}
	body := k.body()
	e.Lock()
	defer e.FlushUnlock()
	s, err := e.Wire.Open(c)
	if err != nil {
		return // at the limit, or gone
	}
	c.stream = s
	e.calls, e.every = append(e.calls, c), append(e.every, c)
	if flags&wire.FlagMessage == 0 {
		body = nil
	}
	e.put(c, wire.TypeRequest, flags, h.Append(nil), body)
}

// put sends a frame if the call is in a state to. The end is locked.
func (e *talkEnd) put(c *talkCall, t wire.Type, flags wire.Flags, head, body []byte) {
	server := !e.Wire.Opens()
	switch {
	case c.pending != nil || c.halved:
		return
	case t == wire.TypeResponse && flags&wire.FlagEnd == 0 && c.begun:
		return
	}
	if server && t == wire.TypeMessage && !c.begun {
		t = wire.TypeResponse // the first message carries the head
	}
	c.begun = c.begun || t == wire.TypeResponse
	c.halved = flags&wire.FlagEnd != 0
	out := &wire.Out{Type: t, Flags: flags, Head: head, Body: body}
	if !e.Wire.Send(c.stream, out) {
		c.pending = out
		return
	}
	if t == wire.TypeResponse && flags&wire.FlagEnd != 0 {
		e.forget(c)
	}
}

// goOn sends what waited for credit.
func (e *talkEnd) goOn(c *talkCall) {
	if c.pending == nil || !e.Wire.Send(c.stream, c.pending) {
		return
	}
	ended := c.pending.Type == wire.TypeResponse && c.pending.Flags&wire.FlagEnd != 0
	c.pending = nil
	if ended {
		e.forget(c)
	}
}

func (e *talkEnd) forget(c *talkCall) {
	c.over, c.stream, c.pending = true, nil, nil
	e.calls = slices.DeleteFunc(e.calls, func(o *talkCall) bool { return o == c })
}

func (e *talkEnd) reset(c *talkCall) {
	st := wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, "")
	e.Wire.Reset(c.stream, &wire.ResetHead{Status: st})
	if !e.Wire.Opens() {
		e.Wire.Release()
	} else {
		e.end(c, st)
	}
	e.forget(c)
}

func (e *talkEnd) pay(c *talkCall) {
	e.Wire.Consume(c.stream, c.owed)
	c.owed = 0
}

func (e *talkEnd) ping() {
	e.Lock()
	e.Wire.Ping(7)
	e.FlushUnlock()
}

// end books the end of a call at its caller.
func (e *talkEnd) end(c *talkCall, st wire.Status) {
	c.ends++
	c.status = st.Clone()
}

// caller is the callback of an end that calls.
func (e *talkEnd) caller(_ *Raw, ev *wire.Event) {
	e.trouble(ev)
	c, ok := ev.Call.(*talkCall)
	if !ok {
		return
	}
	switch ev.Kind {
	case wire.EventResponse, wire.EventMessage:
		if ev.Frame.Type == wire.TypeResponse && ev.Frame.Has(wire.FlagEnd) {
			e.end(c, wire.ScanStatus(ev.Frame.Head))
			e.forget(c)
			return
		}
		e.took(c, ev)
	case wire.EventReset, wire.EventFailed:
		e.end(c, ev.Status)
		e.forget(c)
	case wire.EventCredit:
		e.goOn(c)
	}
}

// server is the callback of an end that serves.
func (e *talkEnd) server(r *Raw, ev *wire.Event) {
	e.trouble(ev)
	if ev.Kind == wire.EventRequest {
		var h wire.RequestHead
		if err := h.Parse(ev.Frame.Head); err != nil {
			e.talk.fail("a request's head does not parse: %w", err)
		}
		c := &talkCall{id: string(h.CallID), stream: ev.Stream, lazy: len(h.CallID)%4 == 0}
		e.talk.mu.Lock()
		e.talk.ran[c.id]++
		e.talk.mu.Unlock()
		if e.Raw == nil {
			e.Raw = r
		}
		ev.Stream.Call = c
		e.calls = append(e.calls, c)
		ev.Call = c
	}
	c, ok := ev.Call.(*talkCall)
	if !ok {
		return
	}
	switch ev.Kind {
	case wire.EventRequest, wire.EventMessage:
		e.took(c, ev)
		if e.final && ev.Kind == wire.EventRequest {
			e.finish(c)
		}
	case wire.EventReset, wire.EventFailed:
		r.Wire.Release()
		e.forget(c)
	case wire.EventCredit:
		e.goOn(c)
	}
}

// took gives credit back for a frame, or keeps it.
func (e *talkEnd) took(c *talkCall, ev *wire.Event) {
	c.owed += ev.Frame.Cost()
	if !c.lazy || e.final {
		e.pay(c)
	}
}

// trouble notes what no valid conversation brings.
func (e *talkEnd) trouble(ev *wire.Event) {
	switch {
	case ev.Kind == wire.EventFailed:
		e.talk.fail("an end was sent what breaks a stream: %s", ev.Status.Message)
	case ev.Kind == wire.EventGoAway && !ev.GoAway.Code.Graceful():
		e.talk.fail("an end was told %v: %s", ev.GoAway.Code, ev.GoAway.Message)
	}
}

// finish ends a call at its server, in whatever state it is. The end is locked.
func (e *talkEnd) finish(c *talkCall) {
	h := wire.ResponseHead{Status: wire.Status{Code: wire.Aborted, Origin: wire.OriginApplication, Disposition: wire.DispositionProcessed}}
	e.Wire.Send(c.stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: h.Append(nil)})
	e.forget(c)
}

// conclude answers everything, waits for the calls to end, and checks them.
func (k *Talk) conclude() {
	all := slices.Concat(k.leaving, k.servers, k.callers)
	for _, e := range all {
		e.Lock()
		e.final = true
		for _, c := range slices.Clone(e.calls) {
			if e.Wire.Opens() {
				e.pay(c)
			} else {
				e.finish(c)
			}
		}
		e.FlushUnlock()
	}
	for _, e := range k.callers {
		until := time.Now().Add(k.Patience)
		for e.openCalls() > 0 && time.Now().Before(until) {
			time.Sleep(time.Millisecond)
		}
	}
	for _, e := range k.callers {
		k.check(e)
	}
	for _, e := range all {
		e.Close()
		<-e.Done()
		if err := (*wire.ConnError)(nil); errors.As(e.Err(), &err) {
			k.fail("an end was sent what breaks the protocol: %w", err)
		}
	}
}

func (e *talkEnd) openCalls() int {
	e.Lock()
	defer e.Unlock()
	return len(e.calls)
}

func (k *Talk) check(e *talkEnd) {
	e.Lock()
	defer e.Unlock()
	for _, c := range e.every {
		k.mu.Lock()
		ran := k.ran[c.id]
		k.mu.Unlock()
		switch {
		case c.ends != 1:
			k.fail("%s ended %d times (sent whole: %v, waits for credit: %v), %d executions", c.id, c.ends, c.halved, c.pending != nil, ran)
		case ran > 1:
			k.fail("%s was executed %d times", c.id, ran)
		case ran > 0 && c.status.Disposition == wire.DispositionNotProcessed && c.status.Code != wire.OK:
			k.fail("%s was executed, and is said not to be: %v %v by %v", c.id, c.status.Code, c.status.Reason, c.status.Origin)
		}
	}
}
