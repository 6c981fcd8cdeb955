package reference

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

const service = "octo.conformance.v1.Conformance"

var kinds = map[string]wirev1.CallKind{
	"ServerStream": wirev1.CallKind_CALL_KIND_SERVER_STREAM, "ClientStream": wirev1.CallKind_CALL_KIND_CLIENT_STREAM,
	"Bidi": wirev1.CallKind_CALL_KIND_BIDI_STREAM,
}

// build makes the frame that a script says.
func (c *conversation) build(r *conformancev1.RawFrame) (*Frame, error) {
	f := &Frame{Magic: magic, Version: 1, Type: r.Type, Reserved: uint8(r.GetReserved())}
	if r.OtherType != 0 {
		f.Type = conformancev1.FrameType(r.OtherType)
	}
	if r.Magic != nil {
		f.Magic = uint16(*r.Magic)
	}
	if r.Version != nil {
		f.Version = uint8(*r.Version)
	}
	for _, flag := range r.Flags {
		f.Flags |= uint8(flag)
	}
	switch {
	case r.Stream != nil:
		f.Stream = *r.Stream
	case f.Type == conformancev1.FrameType_FRAME_TYPE_REQUEST:
		f.Stream = c.nextID
	case f.Type > lastConnectionType:
		f.Stream = c.stream
	}
	var err error
	if f.Head, err = c.buildHead(r); err != nil {
		return nil, err
	}
	if f.Body, err = buildBody(r.Body); err != nil {
		return nil, err
	}
	f.HeadLength, f.BodyLength = uint16(len(f.Head)), uint32(len(f.Body))
	if r.HeadLength != nil {
		f.HeadLength, f.headLonger = uint16(*r.HeadLength), true
	}
	if r.BodyLength != nil {
		f.BodyLength, f.bodyMore = *r.BodyLength, true
	}
	return f, nil
}

func (c *conversation) buildHead(r *conformancev1.RawFrame) ([]byte, error) {
	var m proto.Message
	switch h := r.Head.(type) {
	case *conformancev1.RawFrame_Call:
		m = c.request(h.Call)
	case *conformancev1.RawFrame_Hello:
		m = c.hello(h.Hello)
	case *conformancev1.RawFrame_Welcome:
		m = h.Welcome
	case *conformancev1.RawFrame_GoAway:
		m = h.GoAway
	case *conformancev1.RawFrame_Response:
		m = h.Response
	case *conformancev1.RawFrame_Message:
		m = h.Message
	case *conformancev1.RawFrame_Reset_:
		m = h.Reset_
	}
	more, err := hex.DecodeString(r.HeadHex)
	if err != nil || m == nil {
		return more, err
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return append(b, more...), err
}

// hello is a good one, but for what the script says.
func (c *conversation) hello(r *conformancev1.RawHello) *wirev1.Hello {
	e := c.peer.Ends
	h := &wirev1.Hello{
		LowestVersion: 1, HighestVersion: 1, Role: wirev1.Role_ROLE_CALL, Kind: e.Kind, Sdk: []byte("reference"),
		Environment: []byte(e.Environment), Application: []byte(e.Application), Instance: []byte(c.instance), Incarnation: 1,
		Limits: &wirev1.Limits{},
	}
	if e.Serves != "" {
		h.Role, h.Targets = wirev1.Role_ROLE_SERVE, [][]byte{[]byte(e.Serves)}
	}
	if r.GetHighestVersion() != 0 {
		h.LowestVersion, h.HighestVersion = r.LowestVersion, r.HighestVersion
	}
	if r.GetRole() != 0 {
		h.Role = r.Role
	}
	if r.GetEnvironment() != "" {
		h.Environment = []byte(r.Environment)
	}
	return h
}

// request is the head of a call that a testee's handler answers.
func (c *conversation) request(r *conformancev1.RawCall) *wirev1.RequestHead {
	c.calls++
	id := fmt.Sprintf("%s.%d", c.instance, c.calls)
	h := &wirev1.RequestHead{
		TimeoutUs: r.TimeoutUs, TotalLength: r.TotalLength, Target: []byte(c.peer.Ends.Calls), Service: []byte(r.Service),
		Method: []byte(r.Method), CallKind: r.Kind, MessageEncoding: []byte(r.MessageEncoding), ContentType: []byte(r.ContentType),
	}
	if r.Service == "" {
		h.Service = []byte(service)
	}
	if r.Method == "" {
		h.Method = []byte("Unary")
	}
	if r.Kind == 0 {
		h.CallKind = wirev1.CallKind_CALL_KIND_UNARY
		if k := kinds[r.Method]; k != 0 {
			h.CallKind = k
		}
	}
	add := func(key string, value []byte) {
		h.Metadata = append(h.Metadata, &wirev1.Entry{Key: []byte(key), Value: value})
	}
	def, _ := proto.Marshal(r.Response) // of a message that was read: it fits
	add("conformance-call-id", []byte(id))
	add("conformance-response-bin", def)
	for _, e := range r.Metadata {
		add(e.Key, append(e.Value, e.Text...))
	}
	c.last = &Call{ID: id, Refused: r.Refused}
	c.peer.called(c.last)
	return h
}

func buildBody(r *conformancev1.RawBody) (b []byte, err error) {
	switch {
	case r == nil:
		return nil, nil
	case r.Zeros > 0:
		b = make([]byte, r.Zeros)
	case r.Message != nil:
		b, err = message(r.Message)
	default:
		b, err = hex.DecodeString(r.Hex)
	}
	if err != nil || !r.Gzip {
		return b, err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(b); err == nil {
		err = w.Close()
	}
	return packed.Bytes(), err
}

// message serializes a CallRequest or CallResponse, which look alike.
func message(p *conformancev1.Payload) ([]byte, error) {
	data := append(p.Data, p.Text...)
	if p.Size > 0 {
		data = make([]byte, p.Size)
		for i := range data {
			data[i] = byte(i % 251)
		}
	}
	return proto.Marshal(&conformancev1.CallRequest{Data: data})
}
