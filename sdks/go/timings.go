package octomesh

import (
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Timings says where the time of a call went. Stages do not overlap and add up to Total, to the microsecond
// below it. No two processes' clocks are compared for it.
type Timings struct {
	// Total is what the caller waited.
	Total time.Duration
	// Stages of the server first, the client's last. Those of less than a microsecond are left out. An
	// error that a hop concluded has only the client's, with all beyond it in one StageLink.
	Stages []Stage
}

// Stage is one part of a call's time.
type Stage struct {
	Kind     StageKind
	Duration time.Duration // whole microseconds
	// Instance is the process that measured.
	Instance string
}

// StageKind names a part of a call's way.
type StageKind uint8

// The stages.
const (
	StageSDKQueue       = StageKind(wire.StageSDKQueue)       // in the client SDK: encoding, finding a connection, earlier attempts
	StageProxyRequest   = StageKind(wire.StageProxyRequest)   // in a proxy, with the request: policies, parking, earlier attempts
	StageProxyResponse  = StageKind(wire.StageProxyResponse)  // in a proxy, with the response
	StageServerQueue    = StageKind(wire.StageServerQueue)    // in the server SDK, until the handler began
	StageHandler        = StageKind(wire.StageHandler)        // in the handler and the server's interceptors
	StageLink           = StageKind(wire.StageLink)           // between a process and the next one, both ways
	StageServerResponse = StageKind(wire.StageServerResponse) // in the server SDK, behind the handler
	StageSDKResponse    = StageKind(wire.StageSDKResponse)    // in the client SDK: waking the caller, decoding
)

// String returns the stage's name, such as "HANDLER".
func (k StageKind) String() string { return wire.StageKind(k).String() }

// Of returns the time of all stages of a kind.
func (t *Timings) Of(kind StageKind) (sum time.Duration) {
	for _, s := range t.Stages {
		if s.Kind == kind {
			sum += s.Duration
		}
	}
	return sum
}

// CaptureTimings asks every process on the way of a call for where the time went, and stores the answer in t
// once the call has ended, however it did: of a stream, when its end was received or it was closed. It costs
// a clock reading at each step and some hundred bytes in the response: ask for a sample of calls, not for all.
func CaptureTimings(t *Timings) CallOption {
	return func(o *callOptions) { o.timings, o.began = t, time.Now() }
}

// clientTimes is when a call that captures timings came where.
type clientTimes struct {
	sent, answered time.Time
	received       []byte
}

// markSent notes that the request is enqueued; of several attempts the last counts.
func (c *clientCall) markSent() {
	if c.opt.timings != nil {
		c.times.sent = time.Now()
	}
}

// markAnswered notes that the final response is here.
func (c *clientCall) markAnswered(timings []byte) {
	if c.opt.timings != nil {
		c.times.answered, c.times.received = time.Now(), append([]byte(nil), timings...)
	}
}

// captureTimings hands over what is known once the call has ended.
func (c *clientCall) captureTimings() {
	if c.opt.timings == nil {
		return
	}
	now, began, t := time.Now(), c.opt.began, &c.times
	if t.sent.IsZero() {
		t.sent = now
	}
	if t.answered.IsZero() {
		t.answered = now
	}
	times := wire.HopTimes{Received: t.received, Instance: c.ch.cfg.instance, Client: true,
		Total: int64(now.Sub(began)), Request: int64(t.sent.Sub(began)), Response: int64(now.Sub(t.answered))}
	*c.opt.timings = Timings{Total: now.Sub(began), Stages: readStages(times.AppendStages(nil))}
}

func readStages(b []byte) (out []Stage) {
	for {
		s, rest, ok, err := wire.NextStage(b)
		if err != nil || !ok {
			return out
		}
		out = append(out, Stage{StageKind(s.Kind), time.Duration(min(s.DurationUS, maxStageUS)) * time.Microsecond, string(s.Instance)})
		b = rest
	}
}

// maxStageUS is a hundred years, more than which no stage takes.
const maxStageUS = uint64(maxTimeout / int64(time.Microsecond))

// serverTimes is when a call whose caller wants timings came where.
type serverTimes struct {
	wanted                bool
	arrived, began, ended time.Time // the latter two of the handler; zero: none saw the call
}

// appendTimings says where the time went until now, when the final response is enqueued.
func (c *serverCall) appendTimings(b []byte) []byte {
	t, instance := &c.times, c.ses.srv.cfg.instance
	if t.began.IsZero() {
		return wire.AppendStage(b, wire.StageServerQueue, int64(time.Since(t.arrived)), instance)
	}
	b = wire.AppendStage(b, wire.StageServerQueue, int64(t.began.Sub(t.arrived)), instance)
	b = wire.AppendStage(b, wire.StageHandler, int64(t.ended.Sub(t.began)), instance)
	return wire.AppendStage(b, wire.StageServerResponse, int64(time.Since(t.ended)), instance)
}
