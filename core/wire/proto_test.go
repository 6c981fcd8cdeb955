package wire

import (
	"bytes"
	"testing"

	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/octomesh/octomesh/gen/go/octo/options/v1"
)

func TestReasonTableEqualsTheProtocols(t *testing.T) {
	values := wirev1.Reason(0).Descriptor().Values()
	for i := range values.Len() {
		v := values.Get(i)
		if v.Number() == 0 {
			continue
		}
		want, _ := proto.GetExtension(v.Options(), optionsv1.E_Reason).(*optionsv1.ReasonRule)
		got := Reason(v.Number()).Rule()
		if string(v.Name()) != "REASON_"+got.Name || int32(got.Code) != want.GetCode() ||
			int32(got.Disposition) != want.GetDisposition() || got.Path != want.GetPath() {
			t.Errorf("%s: table has %+v, proto %v", v.Name(), got, want)
		}
	}
	if values.Len() != len(reasonRules)+1 {
		t.Errorf("%d reasons here, %d in the proto", len(reasonRules), values.Len()-1)
	}
}

func TestNamesAndNumbersEqualTheProtocols(t *testing.T) {
	check := func(d protoreflect.EnumDescriptor, prefix string, name func(n protoreflect.EnumNumber) string) {
		for i := range d.Values().Len() {
			v := d.Values().Get(i)
			if got := prefix + name(v.Number()); got != string(v.Name()) {
				t.Errorf("%d is %s, want %s", v.Number(), got, v.Name())
			}
		}
	}
	check(wirev1.Code(0).Descriptor(), "CODE_", func(n protoreflect.EnumNumber) string { return Code(n).String() })
	check(wirev1.Origin(0).Descriptor(), "ORIGIN_", func(n protoreflect.EnumNumber) string { return Origin(n).String() })
	check(wirev1.Disposition(0).Descriptor(), "DISPOSITION_", func(n protoreflect.EnumNumber) string { return Disposition(n).String() })
	check(wirev1.GoAwayCode(0).Descriptor(), "GO_AWAY_CODE_", func(n protoreflect.EnumNumber) string { return GoAwayCode(n).String() })
}

// fullRequest has every field set.
func fullRequest() (*wirev1.RequestHead, *RequestHead) {
	b := func(s string) []byte { return []byte(s) }
	return &wirev1.RequestHead{
			TimeoutUs: 1 << 40, TotalLength: 1 << 33, Target: b("t"), Service: b("s"), Method: b("m"),
			CallKind:    wirev1.CallKind_CALL_KIND_BIDI_STREAM,
			Metadata:    []*wirev1.Entry{{Key: b("a"), Value: b("1")}, {Key: b("a"), Value: b("2")}, {Key: b("x-bin")}},
			Traceparent: b("tp"), Tracestate: b("ts"), Baggage: []*wirev1.Entry{{Key: b("lane"), Value: b("red")}},
			HashKey: b("h"), Attempt: 3, CallId: b("id"), Idempotent: true, MessageEncoding: b("gzip"),
			AcceptedEncodings: [][]byte{b("gzip"), b("br")}, ContentType: b("ct"), Authority: b("au"), Path: b("/p"),
			HopCaller: b("caller"), HopVerifiedCaller: b("spiffe"), HopLane: b("blue"),
		}, &RequestHead{
			TimeoutUS: 1 << 40, TotalLength: 1 << 33, Target: b("t"), Service: b("s"), Method: b("m"), Kind: KindBidiStream,
			Metadata: []Entry{{b("a"), b("1")}, {b("a"), b("2")}, {b("x-bin"), nil}}, Traceparent: b("tp"), Tracestate: b("ts"),
			Baggage: []Entry{{b("lane"), b("red")}}, HashKey: b("h"), Attempt: 3, CallID: b("id"), Idempotent: true,
			MessageEncoding: b("gzip"), AcceptedEncodings: [][]byte{b("gzip"), b("br")}, ContentType: b("ct"),
			Authority: b("au"), Path: b("/p"), Caller: b("caller"), VerifiedCaller: b("spiffe"), Lane: b("blue"),
			HasVerifiedCaller: true, timeoutFirst: true,
		}
}

func TestRequestHeadEqualsGeneratedCode(t *testing.T) {
	theirs, ours := fullRequest()
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if got := ours.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("got  % x\nwant % x", got, want)
	}
	var parsed RequestHead
	if err := parsed.Parse(want); err != nil {
		t.Fatal(err)
	}
	if parsed.FromSDK {
		t.Fatal("hop fields were not noticed")
	}
	if got := parsed.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("parsed and appended: % x", got)
	}
}

func TestResponseAndResetHeadsEqualGeneratedCode(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	status := &wirev1.Status{Code: -7, Reason: 9999, Message: bytes.Repeat(b("x"), 300), DetailsBin: b("d"), Origin: 4, Disposition: 1, RetryAfterMs: 50}
	response := &wirev1.ResponseHead{
		Status: status, TotalLength: 9, MessageEncoding: b("gzip"), AcceptedEncodings: [][]byte{b("")}, ContentType: b("c"),
		HeadersPresent: true, Metadata: []*wirev1.Entry{{Key: b("k"), Value: b("v")}}, Trailers: []*wirev1.Entry{{Key: b("t")}}, HopTimings: b("tm"),
	}
	want, _ := proto.MarshalOptions{Deterministic: true}.Marshal(response)
	var r ResponseHead
	if err := r.Parse(want); err != nil {
		t.Fatal(err)
	}
	if got := r.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("response: got % x\nwant % x", got, want)
	}
	if s := ScanStatus(want); s.Code != -7 || s.Reason != 9999 || s.RetryAfterMS != 50 {
		t.Fatalf("scanned %+v", s)
	}
	want, _ = proto.Marshal(&wirev1.Reset{Status: status, Http2Code: 8})
	var reset ResetHead
	if err := reset.Parse(want); err != nil {
		t.Fatal(err)
	}
	if got := reset.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("reset: got % x\nwant % x", got, want)
	}
}

func TestConnectionHeadsEqualGeneratedCode(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	limits := &wirev1.Limits{MaxStreams: 5, StreamWindow: 1 << 20, MaxFrameBody: 1 << 17}
	hello := &wirev1.Hello{
		LowestVersion: 1, HighestVersion: 3, Role: 2, Kind: 1, Sdk: b("go"), SdkVersion: b("0.1"), Environment: b("e"),
		Application: b("a"), Instance: b("i"), Incarnation: 1 << 60, Targets: [][]byte{b("x"), b("y")}, Limits: limits,
		Features: [][]byte{b("f")}, Credentials: b("c"),
	}
	want, _ := proto.Marshal(hello)
	var h Hello
	if err := h.Parse(want); err != nil || !bytes.Equal(h.Append(nil), want) {
		t.Fatalf("hello: %v % x\nwant % x", err, h.Append(nil), want)
	}
	welcome := &wirev1.Welcome{Version: 1, Kind: 2, Instance: b("i"), Incarnation: 7, Limits: limits, Features: [][]byte{b("f")}, SoftwareVersion: b("v")}
	want, _ = proto.Marshal(welcome)
	var w Welcome
	if err := w.Parse(want); err != nil || !bytes.Equal(w.Append(nil), want) {
		t.Fatalf("welcome: %v", err)
	}
	goaway := &wirev1.GoAway{Code: 3, Last: 1<<32 - 1, Final: true, Message: b("m"), Offset: 1 << 40, RetryAfterMs: 9}
	want, _ = proto.Marshal(goaway)
	var g GoAway
	if err := g.Parse(want); err != nil || !bytes.Equal(g.Append(nil), want) {
		t.Fatalf("goaway: %v", err)
	}
}

func TestTimeoutIsPatchedWithoutMovingTheHead(t *testing.T) {
	var h RequestHead
	first := (&RequestHead{TimeoutUS: 1000, Target: []byte("t")}).Append(nil)
	absent := (&RequestHead{Target: []byte("t")}).Append(nil)
	last := AppendTimeout((&RequestHead{Target: []byte("t")}).Append(nil), 1000)
	for name, head := range map[string][]byte{"first": first, "absent": absent, "last": last} {
		if err := h.Parse(head); err != nil {
			t.Fatal(err)
		}
		pre, post := h.PatchTimeout(head, 77, nil, nil)
		all := append(append(pre, head...), post...)
		if err := h.Parse(all); err != nil || h.TimeoutUS != 77 || string(h.Target) != "t" {
			t.Errorf("%s: %v %+v", name, err, h)
		}
		if name == "first" && len(pre)+len(post) > 0 {
			t.Error("a leading timeout was not patched in place")
		}
	}
}

func FuzzHeads(f *testing.F) {
	theirs, _ := fullRequest()
	b, _ := proto.Marshal(theirs)
	f.Add(b)
	for _, pattern := range []string{"head.json", "patch.json", "status.json"} {
		for _, b := range vectorBytes(f, pattern) {
			f.Add(b)
		}
	}
	f.Add([]byte{0x09, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r RequestHead
		if r.Parse(b) == nil {
			again := r.Append(nil)
			var r2 RequestHead
			if err := r2.Parse(again); err != nil || !bytes.Equal(r2.Append(nil), again) {
				t.Fatalf("not stable: % x", again)
			}
			if proto.Unmarshal(b, &wirev1.RequestHead{}) != nil {
				t.Fatalf("generated code refuses what we take: % x", b)
			}
			head := bytes.Clone(b)
			pre, post := r.PatchTimeout(head, 5, nil, nil)
			if r2.Parse(append(append(pre, head...), post...)) != nil || r2.TimeoutUS != 5 {
				t.Fatal("the patched timeout is not what counts")
			}
		}
		var resp ResponseHead
		if resp.Parse(b) == nil {
			if proto.Unmarshal(b, &wirev1.ResponseHead{}) != nil {
				t.Fatalf("generated code refuses what we take: % x", b)
			}
			if _, ok := scanTotal(b); !ok {
				t.Fatal("scanTotal refuses what Parse takes")
			}
		}
		_ = ScanStatus(b)
		_ = new(Hello).Parse(b)
		_ = new(Welcome).Parse(b)
		_ = new(GoAway).Parse(b)
		_ = new(ResetHead).Parse(b)
	})
}
