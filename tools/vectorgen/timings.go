package main

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"strconv"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// timingsFile holds what processes make of the Timings that they receive.
func timingsFile() *vector.File {
	return &vector.File{
		Title: "Timings",
		Notes: []string{
			"A process got the final response with the hop_timings input.received (hex; empty: none) and measured total_ns, request_ns and response_ns.",
			"role hop: what it appends as hop_timings; role client: what the client SDK shows its user. Numbers are decimal strings.",
			"result.timings is the value that it makes (hex), and result.sum_us what its stages add up to.",
		},
		Flags:   map[string]string{"Replaced": "what was received does not count"},
		Vectors: timingsVectors(),
	}
}

const (
	stageSDKQueue      = wirev1.Timings_Stage_KIND_SDK_QUEUE
	stageProxyRequest  = wirev1.Timings_Stage_KIND_PROXY_REQUEST
	stageProxyResponse = wirev1.Timings_Stage_KIND_PROXY_RESPONSE
	stageServerQueue   = wirev1.Timings_Stage_KIND_SERVER_QUEUE
	stageHandler       = wirev1.Timings_Stage_KIND_HANDLER
	stageLink          = wirev1.Timings_Stage_KIND_LINK
	stageSDKResponse   = wirev1.Timings_Stage_KIND_SDK_RESPONSE
)

func stage(kind wirev1.Timings_Stage_Kind, us uint64, instance string) *wirev1.Timings_Stage {
	return &wirev1.Timings_Stage{Kind: kind, DurationUs: us, Instance: []byte(instance)}
}

func timingsOf(stages ...*wirev1.Timings_Stage) []byte {
	return mustMarshal(&wirev1.Timings{Stages: stages})
}

// measured is what one process has.
type measured struct {
	role, instance           string
	total, request, response int64
}

func timingsVector(id, comment string, received []byte, m measured, want []*wirev1.Timings_Stage, flags []string, rules ...string) vector.Vector {
	sum := new(big.Int)
	for _, s := range want {
		sum.Add(sum, new(big.Int).SetUint64(s.DurationUs))
	}
	dec := func(n int64) string { return strconv.FormatInt(n, 10) }
	return vector.Vector{
		ID: "timings/" + id, Comment: comment, Rules: append(rules, "W-HOP-5"), Flags: flags,
		Input: vector.Map{
			"received": hex.EncodeToString(received), "role": m.role, "instance": hex.EncodeToString([]byte(m.instance)),
			"total_ns": dec(m.total), "request_ns": dec(m.request), "response_ns": dec(m.response),
		},
		Result: vector.Map{"timings": hex.EncodeToString(timingsOf(want...)), "sum_us": sum.String()},
	}
}

func timingsVectors() []vector.Vector {
	type stages = []*wirev1.Timings_Stage
	server := stages{stage(stageServerQueue, 40, "s-1"), stage(stageHandler, 5000, "s-1")}
	after := func(own ...*wirev1.Timings_Stage) stages { return append(append(stages{}, server...), own...) }
	hop := measured{"hop", "p-2", 5_100_000, 20_000, 10_000}
	own := stages{stage(stageLink, 5070, "p-2"), stage(stageProxyRequest, 20, "p-2"), stage(stageProxyResponse, 10, "p-2")}
	many := stages{}
	for range 40 {
		many = append(many, stage(stageLink, 1, "some-longer-name"))
	}
	long := "i" + string(bytes.Repeat([]byte("x"), 63))
	return []vector.Vector{
		timingsVector("hop", "a hop behind a server", timingsOf(server...), hop,
			after(stage(stageLink, 30, "p-2"), stage(stageProxyRequest, 20, "p-2"), stage(stageProxyResponse, 10, "p-2")), nil, "W-TIMINGS-3", "W-TIMINGS-4"),
		timingsVector("client", "the client's SDK ends the sum", timingsOf(server...), measured{"client", "c-1", 5_200_000, 50_000, 7_000},
			after(stage(stageLink, 103, "c-1"), stage(stageSDKQueue, 50, "c-1"), stage(stageSDKResponse, 7, "c-1")), nil, "W-TIMINGS-4"),
		timingsVector("rounding", "each time is rounded down, and LINK takes what is left", timingsOf(server...), measured{"hop", "p-2", 5_100_999, 20_999, 10_999},
			after(stage(stageLink, 30, "p-2"), stage(stageProxyRequest, 20, "p-2"), stage(stageProxyResponse, 10, "p-2")), nil, "W-TIMINGS-5"),
		timingsVector("rounding-link", "two halves of a microsecond are one", nil, measured{"hop", "p-2", 2_000, 500, 1_500},
			stages{stage(stageLink, 1, "p-2"), stage(stageProxyResponse, 1, "p-2")}, nil, "W-TIMINGS-5"),
		timingsVector("zeros", "stages of 0 are left out", timingsOf(server...), measured{"hop", "p-2", 5_040_000, 0, 999}, server, nil, "W-TIMINGS-5"),
		timingsVector("nothing-received", "all beyond is LINK", nil, hop, own, nil, "W-TIMINGS-3"),
		timingsVector("more-than-total", "LINK is never negative", timingsOf(stage(stageHandler, 9000, "s-1")), hop,
			stages{stage(stageHandler, 9000, "s-1"), stage(stageProxyRequest, 20, "p-2"), stage(stageProxyResponse, 10, "p-2")}, nil, "W-TIMINGS-3"),
		timingsVector("malformed", "what does not parse counts as absent", []byte{0x0a, 0x05, 0x01}, hop, own, []string{"Replaced"}, "W-TIMINGS-6"),
		timingsVector("malformed-stage", "so does what holds a stage that does not parse", append(timingsOf(server...), 0x0a, 0x01, 0x08), hop, own, []string{"Replaced"}, "W-TIMINGS-6"),
		timingsVector("too-long", "and what is over 768 bytes", timingsOf(many...), hop, own, []string{"Replaced"}, "W-TIMINGS-6"),
		timingsVector("unknown-kind", "a stage of a later version counts like any other", timingsOf(stage(99, 5000, "s-1")), hop,
			stages{stage(99, 5000, "s-1"), stage(stageLink, 70, "p-2"), stage(stageProxyRequest, 20, "p-2"), stage(stageProxyResponse, 10, "p-2")}, nil, "W-TIMINGS-3"),
		timingsVector("long-instance", "64 bytes of a name", nil, measured{"hop", long + "yz", 2_000, 0, 0}, stages{stage(stageLink, 2, long)}, nil, "W-TIMINGS-5"),
	}
}
