package wire

import (
	"fmt"
	"math"
)

// StageKind is a part of a call's way that takes time.
type StageKind uint8

// The stages. The numbers are the wire's.
const (
	StageUnspecified    StageKind = iota
	StageSDKQueue                 // in the client SDK, before the request was enqueued
	StageProxyRequest             // in a proxy, with the request
	StageProxyResponse            // in a proxy, with the final response
	StageServerQueue              // in the server SDK, before the handler
	StageHandler                  // in the handler
	StageLink                     // between a process and the next one, both ways together
	StageServerResponse           // in the server SDK, behind the handler
	StageSDKResponse              // in the client SDK, with the final response
)

var stageNames = [...]string{
	"UNSPECIFIED", "SDK_QUEUE", "PROXY_REQUEST", "PROXY_RESPONSE", "SERVER_QUEUE", "HANDLER", "LINK", "SERVER_RESPONSE", "SDK_RESPONSE",
}

// String returns the stage's name, or its number.
func (k StageKind) String() string {
	if int(k) < len(stageNames) {
		return stageNames[k]
	}
	return fmt.Sprintf("STAGE_%d", uint8(k))
}

// Stage is one part of where a call spent its time. Parsed, its instance borrows the value's buffer.
type Stage struct {
	Kind       StageKind
	DurationUS uint64
	Instance   []byte // the process that measured
}

// Bounds of W-TIMINGS-5 and W-TIMINGS-6.
const (
	maxStageInstance = 64
	maxTimings       = 768
)

// AppendStage appends a stage to a serialized octo.wire.v1.Timings, unless it took no time. duration is in
// nanoseconds; a negative one counts as 0.
func AppendStage(dst []byte, kind StageKind, duration int64, instance string) []byte {
	return appendStage(dst, kind, uint64(max(duration, 0))/1000, instance)
}

func appendStage(dst []byte, kind StageKind, us uint64, instance string) []byte {
	if us == 0 {
		return dst
	}
	instance = instance[:min(len(instance), maxStageInstance)]
	at := len(dst) + 1
	dst = appendUint(append(dst, 1<<3|wireBytes, 0), 1, uint64(kind))
	dst = appendText(appendUint(dst, 2, us), 3, instance)
	return closeMessage(dst, at)
}

// NextStage reads the first stage of a serialized octo.wire.v1.Timings and returns what comes behind it; ok
// is false at the end, and err is set if the value does not parse.
func NextStage(b []byte) (s Stage, rest []byte, ok bool, err error) {
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return Stage{}, nil, false, errHead
		}
		if f.num != 1 {
			continue
		}
		if f.kind != wireBytes || !s.parse(f.raw) {
			return Stage{}, nil, false, errHead
		}
		return s, b[f.end:], true, nil
	}
	return Stage{}, nil, false, nil
}

func (s *Stage) parse(b []byte) bool {
	var f field
	for at := 0; at < len(b); at = f.end {
		if !next(b, at, &f) {
			return false
		}
		switch f.num {
		case 1, 2:
			if f.kind != wireVarint {
				return false
			}
			if f.num == 1 {
				s.Kind = StageKind(min(f.val, math.MaxUint8))
			} else {
				s.DurationUS = f.val
			}
		case 3:
			if f.kind != wireBytes {
				return false
			}
			s.Instance = f.raw
		}
	}
	return true
}

// SumStages returns what the stages of a serialized octo.wire.v1.Timings add up to, in microseconds, at most
// a hundred years; ok is false if the value does not parse.
func SumStages(b []byte) (us uint64, ok bool) {
	for {
		s, rest, more, err := NextStage(b)
		if err != nil {
			return 0, false
		}
		if !more {
			return us, true
		}
		us = min(us+min(s.DurationUS, maxTimeoutUS), maxTimeoutUS)
		b = rest
	}
}

// ScanTimings finds the last hop_timings of a response head; ok is false if the head does not parse or has
// none.
func ScanTimings(head []byte) (timings []byte, ok bool) {
	var f field
	for at := 0; at < len(head); at = f.end {
		if !next(head, at, &f) {
			return nil, false
		}
		if f.num == HopTimings && f.kind == wireBytes {
			timings, ok = f.raw, true
		}
	}
	return timings, ok
}

// HopTimes is what a process knows of a call that it handed on. Times are nanoseconds of its own clock.
type HopTimes struct {
	Received []byte // the Timings that the final response came with; nil: none
	Instance string // this process
	Total    int64  // from the request's arrival to the final response's enqueueing
	Request  int64  // of it, up to the request's enqueueing upstream
	Response int64  // of it, from the final response's arrival on
	// Client: the process is the client's SDK, where the call begins and ends.
	Client bool
}

// AppendStages appends what was received followed by the process' own stages: a serialized
// octo.wire.v1.Timings whose stages add up to Total.
func (t *HopTimes) AppendStages(dst []byte) []byte {
	received, ok := SumStages(t.Received)
	if !ok || len(t.Received) > maxTimings {
		received, t.Received = 0, nil
	}
	request, response := uint64(max(t.Request, 0))/1000, uint64(max(t.Response, 0))/1000
	link := uint64(max(int64(uint64(max(t.Total, 0))/1000)-int64(request+response+received), 0))
	kinds := [2]StageKind{StageProxyRequest, StageProxyResponse}
	if t.Client {
		kinds = [2]StageKind{StageSDKQueue, StageSDKResponse}
	}
	dst = append(dst, t.Received...)
	dst = appendStage(dst, StageLink, link, t.Instance)
	dst = appendStage(dst, kinds[0], request, t.Instance)
	return appendStage(dst, kinds[1], response, t.Instance)
}

// AppendHopTimings appends the hop field that a hop puts behind the head of a final response.
func AppendHopTimings(dst []byte, t HopTimes) []byte {
	at := len(dst) + 2
	dst = appendUvarint(dst, HopTimings<<3|wireBytes)
	return closeMessage(t.AppendStages(append(dst, 0)), at)
}

// AppendWantTimings appends the field of a request head that asks for timings.
func AppendWantTimings(dst []byte) []byte { return appendBool(dst, 20, true) }
