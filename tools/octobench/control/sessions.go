package control

import (
	"fmt"
	"time"
)

const (
	memoryGoal  = 2.5 * 1024 // MiB that sessions of one Pilot may take
	syncGoal    = 60         // seconds until all are synced after a full reconnect
	doublesGoal = 2          // times that memory may grow meanwhile
	holders     = 3          // processes that hold sessions
)

func shared(o *options) ([]Table, error) {
	return o.sessions(o.streams, o.connections, fmt.Sprintf("%d sessions in one Pilot, over %d connections", o.streams, o.connections))
}

func own(o *options) ([]Table, error) {
	return o.sessions(o.real, o.real, fmt.Sprintf("%d sessions in one Pilot, each with its connection", o.real))
}

// world is a Pilot and its sessions, in several processes.
type world struct {
	*options
	pilot   *child
	holders []*child
	address string // the Pilot's, which stays when it starts again
	table   Table
}

// sessions measures all that happens to sessions of one Pilot.
func (o *options) sessions(streams, connections int, title string) ([]Table, error) {
	w := &world{options: o, table: Table{
		Title: title,
		Notes: []string{
			fmt.Sprintf("each follows endpoints (%d), service policy and authorization policy (none) of %d of %d targets, and one endpoint more", targetInstances, sessionFollows, sessionTargets),
			"a session is synced when it has heard of all of it; a returning one says what it has, but for the one endpoint, and is told the difference",
			"memory is the Pilot's process's, resident; the peak is since the row's beginning; collected: after the collector has run and given back what it can",
			"the Pilot's limits are as shipped: 2,000 streams a second begin, 4,000 after a pause, others are told when to come again",
			"clients share the machine: they cost as much CPU as the Pilot",
		},
		Heads: []string{"what", "sessions", "all synced after s", "p50 s", "Pilot MiB", "peak MiB", "collected MiB", "KiB a session", "CPU s", "turned away"},
	}}
	defer w.stop()
	if err := w.begin(streams, connections); err != nil {
		return nil, err
	}
	first, err := w.row("first connect", false, time.Now(), w.startHolders(streams, connections))
	if err != nil {
		return nil, err
	}
	w.say("  a cut of all connections")
	at := time.Now()
	cut, err := w.row("all connections cut", true, at, w.cut)
	if err != nil {
		return nil, err
	}
	w.say("  the Pilot is killed and starts again")
	at = time.Now()
	restart, err := w.row("Pilot killed, started again", false, at, w.restart)
	if err != nil {
		return nil, err
	}
	t := &w.table
	peak := max(mb(first.Memory.Peak), mb(cut.Memory.Peak), mb(restart.Memory.Peak))
	t.gate(peak, memoryGoal, "MiB at the peak, %d sessions over %d connections", streams, connections)
	t.gate(max(cut.Max, restart.Max).Seconds(), syncGoal, "s until all are synced again, %d sessions over %d connections", streams, connections)
	t.gate(mb(cut.Memory.Peak)/mb(first.Memory.Resident), doublesGoal, "times memory grows at the peak of a reconnect, %d sessions over %d connections", streams, connections)
	return []Table{*t}, nil
}

func (w *world) begin(streams, connections int) (err error) {
	w.say("  %d sessions over %d connections", streams, connections)
	var first report
	w.pilot, first, err = w.started(setup{Kind: "session-pilot"}, "session-pilot")
	w.address = first.Address
	return err
}

func (w *world) startHolders(streams, connections int) func() error {
	return func() error {
		n := min(holders, streams, connections)
		first := 0
		for i := range n {
			s := setup{Kind: "sessions", Address: w.address, First: first, Streams: streams / n, Connections: connections / n}
			if i == 0 {
				s.Streams, s.Connections = s.Streams+streams%n, s.Connections+connections%n
			}
			first += s.Streams
			h, _, err := w.started(s, fmt.Sprint("holder-", i))
			if err != nil {
				return err
			}
			w.holders = append(w.holders, h)
		}
		return nil
	}
}

// expect has the holders forget who was synced.
func (w *world) expect() error {
	for _, h := range w.holders {
		if _, err := h.do(order{Do: "expect"}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) cut() error {
	if err := w.expect(); err != nil {
		return err
	}
	_, err := w.pilot.do(order{Do: "cut"})
	return err
}

func (w *world) restart() error {
	if err := w.expect(); err != nil {
		return err
	}
	w.pilot.kill()
	var err error
	w.pilot, _, err = w.started(setup{Kind: "session-pilot", Address: w.address}, "session-pilot")
	return err
}

// row does something that all sessions must hear of, waits until they have, and notes what it cost.
func (w *world) row(what string, same bool, at time.Time, do func() error) (report, error) {
	var begun report
	var err error
	if same { // the Pilot is the one of before
		if begun, err = w.pilot.do(order{Do: "look"}); err != nil {
			return report{}, err
		}
	}
	if err := do(); err != nil {
		return report{}, err
	}
	for _, h := range w.holders {
		if err := h.tell(order{Do: "await", At: at.UnixNano()}); err != nil {
			return report{}, err
		}
	}
	var all report
	for _, h := range w.holders {
		r, err := h.read()
		if err != nil {
			return report{}, err
		}
		all.Times += r.Times
		all.P50, all.Max = max(all.P50, r.P50), max(all.Max, r.Max)
	}
	r, err := w.pilot.do(order{Do: "look"})
	if err != nil {
		return report{}, err
	}
	collected, err := w.pilot.do(order{Do: "collected"})
	if err != nil {
		return report{}, err
	}
	all.Memory = r.Memory
	w.table.Rows = append(w.table.Rows, []any{
		what, all.Times, all.Max.Seconds(), all.P50.Seconds(), mb(r.Memory.Resident), mb(r.Memory.Peak), mb(collected.Memory.Resident),
		float64(collected.Memory.Resident) / 1024 / float64(all.Times), (r.CPU - begun.CPU).Seconds(), r.Counts["turned away"] - begun.Counts["turned away"],
	})
	w.say("  %s: all synced after %.1f s; %.0f MiB, %.0f at the peak, %.0f collected, of which heap %.0f, stacks %.0f; %d goroutines, %d followings", what, all.Max.Seconds(), mb(r.Memory.Resident),
		mb(r.Memory.Peak), mb(collected.Memory.Resident), mb(collected.Memory.Heap), mb(collected.Memory.Stacks), collected.Memory.Goroutines, collected.Counts["followings"])
	return all, nil
}

func (w *world) stop() {
	for _, h := range w.holders {
		h.stop()
	}
	if w.pilot != nil {
		w.pilot.stop()
	}
}
