package main

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	optionsv1 "github.com/octomesh/octomesh/gen/go/octo/options/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"github.com/octomesh/octomesh/tools/vectorgen/raw"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// statusFile holds the table of reasons as the proto's options have it, and statuses as bytes.
func statusFile() *vector.File {
	return &vector.File{
		Title: "Statuses",
		Notes: []string{
			"kind code, reason, origin, disposition: a number and its name. An unknown number is kept, and shown as in result.name.",
			"result of a reason: the code and disposition with which it originates, and whether it is a path reason.",
			"kind status: bytes of octo.wire.v1.Status and its fields, as in head.json.",
			"kind worst: the disposition of a hop that tried several times. kind again: may another path be taken on this alone?",
		},
		Flags:   map[string]string{"UnknownNumber": "version 1 gives the number no name"},
		Vectors: slices.Concat(numbers(), statuses(), dispositions()),
	}
}

// reasonRule is what a reason's options in the proto say.
func reasonRule(r wirev1.Reason) *optionsv1.ReasonRule {
	value := r.Descriptor().Values().ByNumber(r.Number())
	if value == nil {
		return nil
	}
	rule, _ := proto.GetExtension(value.Options(), optionsv1.E_Reason).(*optionsv1.ReasonRule)
	return rule
}

func reasons() []wirev1.Reason {
	var out []wirev1.Reason
	values := wirev1.Reason(0).Descriptor().Values()
	for i := range values.Len() {
		out = append(out, wirev1.Reason(values.Get(i).Number()))
	}
	return out
}

func number(kind string, n int64, name string, flags []string, extra vector.Map, rules ...string) vector.Vector {
	result := vector.Map{"name": name}
	for k, v := range extra {
		result[k] = v
	}
	return vector.Vector{
		ID: fmt.Sprintf("status/%s/%d", kind, n), Comment: name, Rules: rules, Flags: flags, Kind: kind,
		Input: vector.Map{"number": n}, Result: result,
	}
}

func numbers() []vector.Vector {
	var out []vector.Vector
	unknown := []string{"UnknownNumber"}
	for n := range int32(17) {
		out = append(out, number("code", int64(n), strings.TrimPrefix(wirev1.Code(n).String(), "CODE_"), nil, nil, "E-CODE-1"))
	}
	for _, n := range []int64{17, 99, 1000, -1, 2147483647, -2147483648} {
		out = append(out, number("code", n, fmt.Sprintf("CODE_%d", n), unknown, nil, "E-CODE-1"))
	}
	for _, r := range reasons() {
		rule := reasonRule(r)
		if rule == nil {
			rule = &optionsv1.ReasonRule{Code: int32(wirev1.Code_CODE_UNKNOWN)}
		}
		out = append(out, number("reason", int64(r), strings.TrimPrefix(r.String(), "REASON_"), nil,
			vector.Map{"code": rule.Code, "disposition": rule.Disposition, "path": rule.Path}, "E-TABLE-1", "E-DISP-7"))
	}
	for _, n := range []int64{4, 18, 45, 65535} {
		out = append(out, number("reason", n, fmt.Sprintf("REASON_%d", n), unknown,
			vector.Map{"code": 2, "disposition": 0, "path": false}, "E-REASON-1"))
	}
	for n := range int32(7) {
		out = append(out, number("origin", int64(n), strings.TrimPrefix(wirev1.Origin(n).String(), "ORIGIN_"), nil, nil, "E-ORIGIN-1"))
	}
	out = append(out, number("origin", 9, "ORIGIN_9", unknown, nil, "E-ORIGIN-3"))
	for n := range int32(3) {
		out = append(out, number("disposition", int64(n), strings.TrimPrefix(wirev1.Disposition(n).String(), "DISPOSITION_"), nil, nil, "E-DISP-1"))
	}
	return out
}

func status(id, comment string, s *wirev1.Status, rules ...string) vector.Vector {
	v := canonicalHead(id, comment, s, rules...)
	v.ID, v.Kind = "status/bytes/"+id, "status"
	return v
}

func statuses() []vector.Vector {
	long := strings.Repeat("ä%\r\n\x00", 1200)
	out := []vector.Vector{
		status("ok", "success says nothing", &wirev1.Status{}, "W-STREAM-8"),
		status("code-verbatim", "a code outside the list", &wirev1.Status{Code: 4242, Message: []byte("custom")}, "E-CODE-1"),
		status("code-negative", "a negative code", &wirev1.Status{Code: -7}, "E-CODE-1"),
		status("code-min", "the smallest int32", &wirev1.Status{Code: -2147483648}, "E-CODE-1"),
		status("reason-unknown", "an unknown reason is kept", &wirev1.Status{Code: 14, Reason: 999}, "E-REASON-1"),
		status("message-odd", "percent, CR, LF, NUL and an astral character", &wirev1.Status{Code: 2, Message: []byte("100%\r\n\x00\U0001F419")}, "E-TEXT-1"),
		status("message-not-utf8", "no UTF-8", &wirev1.Status{Code: 2, Message: []byte{0xff, 0x00, 0xc0}}, "E-TEXT-1"),
		status("message-8k", "more than 8 KiB", &wirev1.Status{Code: 2, Message: []byte(long)}, "E-TEXT-1"),
		status("details", "details are not looked at", &wirev1.Status{Code: 9, DetailsBin: []byte{0xff, 0xff, 0xff}}, "E-DETAIL-1"),
		status("retry-after", "the greatest retry-after", &wirev1.Status{Code: 8, Reason: 11, Origin: 4, Disposition: 1, RetryAfterMs: 4294967295}, "E-RETRY-1"),
		status("application", "what leaves a handler", &wirev1.Status{Code: 5, Message: []byte("none"), Origin: 1, Disposition: 2}, "E-ORIGIN-2"),
		status("reason-fault-injected-code", "an injected fault has the code that its rule names", &wirev1.Status{Code: 8, Reason: 17, Origin: 4, Disposition: 1}, "E-TABLE-1"),
		status("reason-auth-denied-unauthenticated", "denied for want of an identity", &wirev1.Status{Code: 16, Reason: 10, Origin: 3, Disposition: 1}, "E-TABLE-1"),
		status("origin-unknown", "an unknown origin", &wirev1.Status{Code: 5, Origin: 9}, "E-ORIGIN-3"),
	}
	odd := oddHead("x", "an unknown disposition counts as UNKNOWN", slices.Concat(raw.Num(1, 14), raw.Num(6, 9)), &wirev1.Status{Code: 14}, []string{"UnknownNumber"}, "E-DISP-1")
	odd.ID, odd.Kind = "status/bytes/disposition-unknown", "status"
	for _, r := range reasons() {
		if rule := reasonRule(r); rule != nil {
			name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(r.String(), "REASON_"), "_", "-"))
			out = append(out, status("reason-"+name, "the reason as its originator sends it", &wirev1.Status{
				Code: rule.Code, Reason: r, Origin: wirev1.Origin_ORIGIN_SERVER_PROXY, Disposition: wirev1.Disposition(rule.Disposition),
			}, "E-TABLE-1"))
		}
	}
	return append(out, odd)
}

func dispositions() []vector.Vector {
	const unknown, not, processed = 0, 1, 2
	var out []vector.Vector
	for _, c := range []struct {
		id   string
		in   []int
		want int
	}{
		{"not", []int{not}, not}, {"not-not", []int{not, not}, not}, {"not-unknown", []int{not, unknown}, unknown}, {"unknown-not", []int{unknown, not}, unknown},
		{"unknown-processed", []int{unknown, processed}, processed}, {"processed-not", []int{processed, not}, processed}, {"processed-unknown", []int{processed, unknown}, processed},
		{"three", []int{not, unknown, not}, unknown}, {"three-processed", []int{unknown, processed, not}, processed},
	} {
		out = append(out, vector.Vector{
			ID: "status/worst/" + c.id, Comment: "the worst of several attempts", Rules: []string{"E-DISP-4"}, Kind: "worst",
			Input: vector.Map{"dispositions": c.in}, Result: vector.Map{"disposition": c.want},
		})
	}
	for _, r := range append(reasons(), 999) {
		for d := range int32(3) {
			rule := reasonRule(r)
			may := rule != nil && rule.Path && d == not
			out = append(out, vector.Vector{
				ID: fmt.Sprintf("status/again/%d-%d", r, d), Comment: "only NOT_PROCESSED with a path reason permits another path", Rules: []string{"E-DISP-7", "S-AGAIN-1", "S-AGAIN-2"}, Kind: "again",
				Input: vector.Map{"reason": int32(r), "disposition": d}, Result: vector.Map{"other_path": may},
			})
		}
	}
	return out
}
