package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/meshtest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// peerCases are what a client of each language tries, in the order in which it says how they went.
var peerCases = []string{
	"unary", "empty", "large", "server_stream", "client_stream", "bidi_stream", "metadata", "error_details", "unimplemented",
	"compression", "deadline", "cancel",
}

// sdkClient makes the calls of all cases with the Go SDK, through the caller's proxy.
func sdkClient(ctx context.Context, m *mesh) (outcome, error) {
	ch, err := octomesh.Dial(target, octomesh.WithApplication("interop-client"), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(m.caller.Socket))
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = ch.Close() }()
	c := sdkCalls{ch}
	cases := map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error { return c.echo(ctx, []byte("hello")) },
		"empty": func(ctx context.Context) error { return c.echo(ctx, nil) },
		"large": func(ctx context.Context) error { return c.echo(ctx, bytes.Repeat([]byte("0123456789abcdef"), 3<<16)) },
		"compression": func(ctx context.Context) error {
			return c.echo(ctx, bytes.Repeat([]byte("again "), 10_000), octomesh.Compress("gzip"))
		},
		"server_stream": c.watch, "client_stream": c.collect, "bidi_stream": c.chat, "metadata": c.metadata, "error_details": c.fail,
		"unimplemented": c.unimplemented, "deadline": c.deadline, "cancel": c.cancel,
	}
	o := outcome{cases: len(peerCases), failed: map[string]string{}}
	for _, name := range peerCases {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		if err := cases[name](ctx); err != nil {
			o.failed[name] = err.Error()
		}
		cancel()
	}
	return o, nil
}

type sdkCalls struct{ ch *octomesh.Channel }

func (c sdkCalls) unary(ctx context.Context, method string, body []byte, opts ...octomesh.CallOption) ([]byte, error) {
	res, err := octomesh.CallUnary[message, message](ctx, c.ch, peerMethod(method, octomesh.Unary), wrapperspb.Bytes(body), opts)
	return res.GetValue(), err
}

func (c sdkCalls) echo(ctx context.Context, body []byte, opts ...octomesh.CallOption) error {
	got, err := c.unary(ctx, "Echo", body, opts...)
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("%d bytes came back as %d", len(body), len(got))
	}
	return err
}

var countUp = []byte(strings.Repeat("0123456789", 10))

func (c sdkCalls) watch(ctx context.Context) error {
	s, err := octomesh.CallServerStream[message, message](ctx, c.ch, peerMethod("Watch", octomesh.ServerStreaming), wrapperspb.Bytes(countUp), nil)
	if err != nil {
		return err
	}
	var got []byte
	n := 0
	for m, err := range s.All() {
		if err != nil {
			return err
		}
		got = append(got, m.Value...)
		n++
	}
	if n != len(countUp) || !bytes.Equal(got, countUp) {
		return fmt.Errorf("%d messages: %q", n, got)
	}
	return nil
}

func (c sdkCalls) collect(ctx context.Context) error {
	s, err := octomesh.CallClientStream[message, message](ctx, c.ch, peerMethod("Collect", octomesh.ClientStreaming), nil)
	if err != nil {
		return err
	}
	for i := range countUp {
		if err := s.Send(wrapperspb.Bytes(countUp[i : i+1])); err != nil {
			return err
		}
	}
	all, err := s.CloseAndReceive()
	if err == nil && !bytes.Equal(all.Value, countUp) {
		err = fmt.Errorf("the server collected %q", all.Value)
	}
	return err
}

func (c sdkCalls) chat(ctx context.Context) error {
	s, err := octomesh.CallBidiStream[message, message](ctx, c.ch, peerMethod("Chat", octomesh.BidiStreaming), nil)
	if err != nil {
		return err
	}
	for i := range 20 {
		if err := s.Send(wrapperspb.Bytes(countUp[:i])); err != nil {
			return err
		}
		m, err := s.Receive()
		if err != nil {
			return err
		}
		if !bytes.Equal(m.Value, countUp[:i]) {
			return fmt.Errorf("%q came back as %q", countUp[:i], m.Value)
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ended: %w", err)
	}
	return nil
}

func (c sdkCalls) metadata(ctx context.Context) error {
	var header, trailer octomesh.Metadata
	_, err := c.unary(ctx, "Echo", nil, octomesh.CaptureHeader(&header), octomesh.CaptureTrailer(&trailer),
		octomesh.Header("x-ascii", "one"), octomesh.Header("x-ascii", "two"), octomesh.Header("x-octets-bin", "\x00\xff\x80"))
	if err != nil {
		return err
	}
	for name, md := range map[string]octomesh.Metadata{"initial metadata": header, "trailers": trailer} {
		// gRPC lets everybody join a key's values by commas, and grpc-js does so.
		if got := strings.Join(md.Values("x-ascii"), ","); strings.ReplaceAll(got, " ", "") != "one,two" {
			return fmt.Errorf("%s: x-ascii is %q", name, got)
		}
		if got := md.Values("x-octets-bin"); !slices.Equal(got, []string{"\x00\xff\x80"}) {
			return fmt.Errorf("%s: x-octets-bin is %q", name, got)
		}
	}
	return nil
}

func (c sdkCalls) fail(ctx context.Context) error {
	_, err := c.unary(ctx, "Fail", []byte("why"))
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.FailedPrecondition || e.Message != failText {
		return fmt.Errorf("it failed by %w", err)
	}
	detail := &message{}
	if all := e.Details(); len(all) != 1 || all[0].UnmarshalTo(detail) != nil || string(detail.Value) != "why" {
		return fmt.Errorf("details %v", all)
	}
	return nil
}

func (c sdkCalls) unimplemented(ctx context.Context) error {
	return wantCode(octomesh.Unimplemented)(c.unary(ctx, "Nothing", nil))
}

func wantCode(code octomesh.Code) func([]byte, error) error {
	return func(_ []byte, err error) error {
		if octomesh.CodeOf(err) != code {
			return fmt.Errorf("it ended by %w, not %v", err, code)
		}
		return nil
	}
}

func (c sdkCalls) hang(ctx context.Context, name string, opts ...octomesh.CallOption) (*octomesh.ReceiveStream[message], error) {
	s, err := octomesh.CallServerStream[message, message](ctx, c.ch, peerMethod("Hang", octomesh.ServerStreaming), wrapperspb.Bytes([]byte(name)), opts)
	if err != nil {
		return nil, err
	}
	_, err = s.Receive()
	return s, err
}

// ended waits until a Hang has ended at the server.
func (c sdkCalls) ended(ctx context.Context, name string) error {
	_, err := c.unary(ctx, "Ended", []byte(name))
	if err != nil {
		return fmt.Errorf("the server does not see the end: %w", err)
	}
	return nil
}

func (c sdkCalls) deadline(ctx context.Context) error {
	const name = "go-deadline"
	s, err := c.hang(ctx, name, octomesh.Timeout(time.Second))
	if err == nil {
		_, err = s.Receive()
	}
	if octomesh.CodeOf(err) != octomesh.DeadlineExceeded {
		return fmt.Errorf("it ended by %w", err)
	}
	return c.ended(ctx, name)
}

func (c sdkCalls) cancel(ctx context.Context) error {
	const name = "go-cancel"
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.hang(calling, name)
	if err != nil {
		return err
	}
	cancel()
	if _, err := s.Receive(); octomesh.CodeOf(err) != octomesh.Cancelled {
		return fmt.Errorf("it ended by %w", err)
	}
	return c.ended(ctx, name)
}
