package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// maxTimeoutUs is W-TIME-2's greatest timeout.
const maxTimeoutUs = 3_153_600_000_000_000

// judge compares a call's result, and what the ledger has of it, with what the case says and with what
// follows from the handler's orders.
func (a *attempt) judge() {
	a.judgeStatus()
	a.judgeResponses()
	e := a.c.Expect
	if a.byHandler() {
		a.judgeEntries("headers", a.result.Headers, a.c.Response.Headers)
		a.judgeEntries("trailers", a.result.Trailers, a.c.Response.Trailers)
	}
	if n := a.result.Unsent; e.SomeUnsent && n == 0 || !e.SomeUnsent && n > 0 && a.byHandler() {
		a.problem("%d messages unsent by the SDK's word; some expected: %v", n, e.SomeUnsent)
	}
	ms := a.result.ElapsedUs / 1000
	if ms < uint64(e.MinMs) || e.MaxMs > 0 && ms > uint64(e.MaxMs) {
		a.problem("it took %d ms, expected %d to %d", ms, e.MinMs, e.MaxMs)
	}
	a.judgeHandlers()
}

// byHandler tells whether the call is to end as the handler was told.
func (a *attempt) byHandler() bool { return a.c.Expect.Status == nil && len(a.c.Relay) == 0 }

func (a *attempt) judgeStatus() {
	got, want := a.result.Status, a.c.Response.Status
	code, reason := want.GetCode(), wirev1.Reason_REASON_UNSPECIFIED
	origins, disposition := []wirev1.Origin{wirev1.Origin_ORIGIN_APPLICATION}, wirev1.Disposition_DISPOSITION_PROCESSED
	if a.origin != 0 {
		origins = []wirev1.Origin{a.origin}
	}
	details := want.GetDetails()
	e := a.c.Expect.Status
	if e != nil {
		code, reason, details = int32(e.Code), e.Reason, e.Details
		if len(e.Origins) > 0 {
			origins = e.Origins
		}
		if e.Disposition != nil {
			disposition = *e.Disposition
		}
	}
	tells, disposes := a.bridgeTells(origins)
	if got.Code != code || tells && got.Reason != reason {
		a.problem("status %d %v, expected %d %v; its message: %q", got.Code, got.Reason, code, reason, got.Message)
		return
	}
	if code == 0 {
		return
	}
	if tells && !slices.Contains(origins, got.Origin) {
		a.problem("origin %v, expected %v", got.Origin, origins)
	}
	if disposes && (e == nil || e.Disposition != nil || reason == 0) && got.Disposition != disposition {
		a.problem("disposition %v, expected %v", got.Disposition, disposition)
	}
	if e == nil && len(a.c.Relay) == 0 && got.Message != want.GetMessage() {
		a.problem("message %q, expected %q", got.Message, want.GetMessage())
	}
	if !slices.EqualFunc(got.Details, details, func(x, y *conformancev1.Detail) bool {
		return x.TypeUrl == y.TypeUrl && bytes.Equal(x.Value, y.Value)
	}) {
		a.problem("details %v, expected %v", got.Details, details)
	}
	if len(e.GetAcceptedEncodings()) > 0 && !slices.Equal(got.AcceptedEncodings, e.AcceptedEncodings) {
		a.problem("accepted encodings %v, expected %v", got.AcceptedEncodings, e.AcceptedEncodings)
	}
	if native := reason == wirev1.Reason_REASON_CANCELLED || reason == wirev1.Reason_REASON_DEADLINE; native && !got.Native {
		a.problem("the error is not the language's own for %v", reason)
	}
	for _, text := range a.c.Expect.Shown {
		if !strings.Contains(got.Message, text) {
			a.problem("the message does not show %q: %q", text, got.Message)
		}
	}
	for _, text := range a.c.Expect.Hidden {
		if strings.Contains(got.Message, text) {
			a.problem("the message shows %q: %q", text, got.Message)
		}
	}
}

// responses are those that the handler was told to give.
func (a *attempt) responses() [][]byte {
	def, requests := a.c.Response, a.requests()
	var all [][]byte
	if single(a.c.Kind, false) {
		if def.GetStatus().GetCode() != 0 || def.Throw != 0 {
			return nil
		}
		switch {
		case def.Echo:
			return [][]byte{bytes.Join(requests, nil)}
		case len(def.Responses) > 0:
			return [][]byte{data(def.Responses[0])}
		}
		return [][]byte{{}}
	}
	if def.Echo {
		all = requests
		if def.Read != nil {
			all = all[:min(int(*def.Read), len(all))]
		}
	}
	return append(all, repeated(def.Responses, def.Repeat)...)
}

// requests are the data of all requests that the client sends.
func (a *attempt) requests() [][]byte { return repeated(a.c.Requests, a.c.Options.Repeat) }

// repeated are the data of payloads, the last so many times more.
func repeated(payloads []*conformancev1.Payload, more uint32) [][]byte {
	var all [][]byte
	for i, p := range payloads {
		b := data(p)
		all = append(all, b)
		for ; i == len(payloads)-1 && more > 0; more-- {
			all = append(all, b)
		}
	}
	return all
}

func data(p *conformancev1.Payload) []byte {
	if p.Size == 0 {
		return p.Data
	}
	b := make([]byte, p.Size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// judgeResponses compares them. Where not the handler ends the call, any first part of a stream may have come.
func (a *attempt) judgeResponses() {
	want, got := a.responses(), a.result.Responses
	switch n := a.c.Expect.Responses; {
	case n != nil:
		want = want[:min(int(*n), len(want))]
	case a.c.Expect.Status != nil && single(a.c.Kind, false) && a.c.Expect.Status.Code != 0:
		want = nil
	case a.c.Expect.Status != nil:
		want = want[:min(len(got), len(want))]
	}
	if len(got) != len(want) {
		a.problem("%d responses, expected %d", len(got), len(want))
		return
	}
	for i, r := range got {
		same := bytes.Equal(r.Data, want[i])
		if len(r.Sha256) > 0 {
			sum := sha256.Sum256(want[i])
			same = bytes.Equal(r.Sha256, sum[:])
		}
		if int(r.Size) != len(want[i]) || !same {
			a.problem("response %d: %d bytes %q, expected %d %q", i, r.Size, shorten(r.Data), len(want[i]), shorten(want[i]))
			return
		}
	}
}

func shorten(b []byte) []byte { return b[:min(len(b), 40)] }

// judgeEntries compares metadata: order counts for each key.
func (a *attempt) judgeEntries(what string, got, want []*conformancev1.Entry) {
	byKey := func(x, y *conformancev1.Entry) int { return strings.Compare(x.Key, y.Key) }
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortStableFunc(got, byKey)
	slices.SortStableFunc(want, byKey)
	if !slices.EqualFunc(got, want, func(x, y *conformancev1.Entry) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }) {
		a.problem("%s %v, expected %v", what, got, want)
	}
}

// judgeHandlers compares what the ledger says.
func (a *attempt) judgeHandlers() {
	e, l, runs := a.c.Expect, a.world.ledger, a.executions()
	if err := l.Await(a.id, conformancev1.LedgerEntry_EVENT_ENDED, runs.low, a.world.patience); err != nil {
		a.problem("%v", err)
		return
	}
	began := l.Of(a.id, conformancev1.LedgerEntry_EVENT_BEGAN)
	slices.SortStableFunc(began, func(x, y *conformancev1.LedgerEntry) int { // two processes wrote them
		return int(y.Info.HopsLeft) - int(x.Info.HopsLeft)
	})
	if len(began) < runs.low || len(began) > runs.high {
		a.problem("%d handlers ran, expected %v", len(began), runs)
		return
	}
	if e.Cancelled != nil { // those that have ended were told before that
		ended := len(l.Of(a.id, conformancev1.LedgerEntry_EVENT_ENDED))
		if got := len(l.Of(a.id, conformancev1.LedgerEntry_EVENT_CANCELLED)); *e.Cancelled && got < ended || !*e.Cancelled && got > 0 {
			a.problem("%d of %d handlers were cancelled; all expected: %v", got, ended, *e.Cancelled)
		}
	}
	for i, entry := range began {
		a.judgeInfo(i, entry)
	}
	if e.DeadlineShrinks {
		a.judgeShrinking(began)
	}
	if a.byHandler() && runs.low == 1 {
		want := len(a.requests())
		if a.c.Response.Read != nil {
			want = int(*a.c.Response.Read)
		}
		if ended := l.Of(a.id, conformancev1.LedgerEntry_EVENT_ENDED); int(ended[0].Count) != want {
			a.problem("the handler read %d requests, expected %d", ended[0].Count, want)
		}
	}
}

// judgeInfo compares what one handler saw. Metadata goes one hop; trace and baggage go down the whole chain.
func (a *attempt) judgeInfo(hop int, entry *conformancev1.LedgerEntry) {
	info, o := entry.Info, a.c.Options
	if want := a.hopOf(hop); entry.Server != want {
		a.problem("handler %d ran at %q, expected %q", hop+1, entry.Server, want)
	}
	if metadata := a.withoutBridge(entry); hop == 0 {
		a.judgeEntries("request metadata", metadata, o.Metadata)
	} else if len(metadata) > 0 {
		a.problem("hop %d sees metadata of an earlier one: %v", hop+1, metadata)
	}
	a.judgeEntries(fmt.Sprintf("baggage at hop %d", hop+1), info.Baggage, o.Baggage)
	if !sameTrace(info.Traceparent, o.Traceparent) || info.Tracestate != o.Tracestate {
		a.problem("hop %d sees trace %q %q, expected %q %q", hop+1, info.Traceparent, info.Tracestate, o.Traceparent, o.Tracestate)
	}
	caller := "app-" + callerOf(entry.Server)
	if stock(a.world.topology, callee(entry.Server)) {
		caller = "" // nothing of gRPC's says who calls
	}
	if info.Application != caller {
		a.problem("the caller at hop %d is %q, expected %q", hop+1, info.Application, caller)
	}
	if want := a.world.verified(callerOf(entry.Server)); info.Verified != want {
		a.problem("the verified caller at hop %d is %q, expected %q", hop+1, info.Verified, want)
	}
	switch left := info.RemainingUs; {
	case a.c.Expect.DeadlineOfAHop:
		if left == nil {
			a.problem("hop %d has no deadline, a proxy was to set one", hop+1)
		}
	case o.TimeoutUs == nil && left != nil:
		a.problem("hop %d has %d µs left; there is no deadline", hop+1, *left)
	case o.TimeoutUs != nil && left == nil:
		a.problem("hop %d has no deadline", hop+1)
	case left != nil && *left > min(*o.TimeoutUs, maxTimeoutUs):
		a.problem("hop %d has %d µs left of %d", hop+1, *left, *o.TimeoutUs)
	case a.c.Expect.Clamped && *left < maxTimeoutUs-time.Minute.Microseconds():
		a.problem("hop %d has %d µs left, expected nearly %d", hop+1, *left, int64(maxTimeoutUs))
	}
	if a.c.Response.LedgerRequest {
		if got := unknownFields(info.Request); !bytes.Equal(got, a.c.UnknownFields) {
			a.problem("hop %d sees unknown fields %x, expected %x", hop+1, got, a.c.UnknownFields)
		}
	}
}

// hopOf is the instance where the i-th handler of the call runs.
func (a *attempt) hopOf(i int) string {
	caller := a.caller
	if i > 0 {
		caller = a.endOf(a.c.Relay[i-1])
	}
	return a.world.server(caller, laneOf(a.c))
}

// callerOf is the end that calls an instance.
func callerOf(server string) string { return other(callee(server)) }

// callee is the end of which an instance is.
func callee(server string) string { return strings.TrimSuffix(server, inLane) }

// sameTrace compares trace id and flags: each hop may begin a span of its own.
func sameTrace(got, want string) bool {
	const id, flags = 35, 52 // "00-<32>" and after the parent id
	if len(got) != len(want) {
		return false
	}
	return want == "" || got[:id] == want[:id] && got[flags:] == want[flags:]
}

func (a *attempt) judgeShrinking(began []*conformancev1.LedgerEntry) {
	last := a.c.Options.GetTimeoutUs()
	for i, e := range began {
		left := e.Info.GetRemainingUs()
		if left <= 0 || left >= last {
			a.problem("hop %d has %d µs left, the one before had %d", i+1, left, last)
		}
		last = left
	}
}

// unknownFields are the fields of a serialized CallRequest that the proto does not have.
func unknownFields(request []byte) []byte {
	known := (&conformancev1.CallRequest{}).ProtoReflect().Descriptor().Fields()
	var unknown []byte
	for len(request) > 0 {
		num, kind, n := protowire.ConsumeTag(request)
		if n < 0 {
			return nil
		}
		m := protowire.ConsumeFieldValue(num, kind, request[n:])
		if m < 0 {
			return nil
		}
		if known.ByNumber(num) == nil {
			unknown = append(unknown, request[:n+m]...)
		}
		request = request[n+m:]
	}
	return unknown
}
