package reference

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// expect takes the next frame and compares it.
func (c *conversation) expect(e *conformancev1.RawExpected) error {
	f, err := c.next()
	if err != nil {
		return err
	}
	if err := c.judge(e, f); err != nil {
		return fmt.Errorf("%w; came: %v", err, f)
	}
	return nil
}

func (c *conversation) judge(e *conformancev1.RawExpected, f *Frame) error {
	if !slices.Contains(e.Types, f.Type) {
		return fmt.Errorf("expected one of %v", e.Types)
	}
	for _, flag := range e.Flags {
		if !f.Has(flag) {
			return fmt.Errorf("expected the flag %v", flag)
		}
	}
	if f.Type == conformancev1.FrameType_FRAME_TYPE_REQUEST {
		c.stream, c.requested = f.Stream, time.Now()
	}
	want := uint32(0)
	if f.Type > lastConnectionType {
		want = c.stream
	}
	if e.Stream != nil {
		want = *e.Stream
	}
	if f.Stream != want {
		return fmt.Errorf("expected stream %d", want)
	}
	if after := time.Duration(e.AfterMs) * time.Millisecond; time.Since(c.requested) < after {
		return fmt.Errorf("it came %v after the request, expected no less than %v", time.Since(c.requested), after)
	}
	if e.Message != nil {
		if b, err := message(e.Message); err != nil || !bytes.Equal(b, f.Body) {
			return errors.Join(err, fmt.Errorf("expected the message %x", b))
		}
	}
	if b, err := hex.DecodeString(e.HeadHex); err != nil || !bytes.Contains(f.Head, b) {
		return errors.Join(err, fmt.Errorf("expected %s in the head %x", e.HeadHex, f.Head))
	}
	return c.judgeHead(e, f)
}

func (c *conversation) judgeHead(e *conformancev1.RawExpected, f *Frame) error {
	switch f.Type {
	case conformancev1.FrameType_FRAME_TYPE_REQUEST:
		r, err := parsed(f, &wirev1.RequestHead{})
		if err == nil && e.Deadline != nil && *e.Deadline != (r.TimeoutUs != 0) {
			err = fmt.Errorf("it has a deadline: %v, expected %v", r.TimeoutUs != 0, *e.Deadline)
		}
		return err
	case conformancev1.FrameType_FRAME_TYPE_WELCOME:
		w, err := parsed(f, &wirev1.Welcome{})
		if err == nil && e.Version != 0 && w.Version != e.Version {
			err = fmt.Errorf("expected version %d", e.Version)
		}
		return err
	case conformancev1.FrameType_FRAME_TYPE_GOAWAY:
		return c.judgeGoAway(e, f)
	case conformancev1.FrameType_FRAME_TYPE_RESET:
		r, err := parsed(f, &wirev1.Reset{})
		if err != nil {
			return err
		}
		return c.judgeStatus(e, r.Status)
	case conformancev1.FrameType_FRAME_TYPE_RESPONSE:
		r, err := parsed(f, &wirev1.ResponseHead{})
		if err != nil || !f.Has(conformancev1.FrameFlag_FRAME_FLAG_END) {
			return err
		}
		if want := e.Status.GetAcceptedEncodings(); len(want) > 0 {
			var got []string
			for _, b := range r.AcceptedEncodings {
				got = append(got, string(b))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("accepted encodings %q, expected %q", got, want)
			}
		}
		return c.judgeStatus(e, r.Status)
	}
	return nil
}

func (c *conversation) judgeGoAway(e *conformancev1.RawExpected, f *Frame) error {
	g, err := parsed(f, &wirev1.GoAway{})
	if err != nil {
		return err
	}
	if g.Code != e.Code {
		return fmt.Errorf("expected code %v", e.Code)
	}
	if g.Code == wirev1.GoAwayCode_GO_AWAY_CODE_PROTOCOL_ERROR {
		c.mu.Lock()
		i := len(c.begun) - 1 - int(e.FramesBack)
		want := uint64(0)
		if i >= 0 {
			want = c.begun[i]
		}
		c.mu.Unlock()
		if g.Offset != want {
			return fmt.Errorf("expected the offset %d, where the frame at fault begins", want)
		}
		if len(g.Message) == 0 {
			return errors.New("it does not say what was wrong")
		}
	}
	return shown(e.Shown, string(g.Message))
}

func (c *conversation) judgeStatus(e *conformancev1.RawExpected, got *wirev1.Status) error {
	want := e.Status
	if got.GetCode() != int32(want.GetCode()) || got.GetReason() != want.GetReason() {
		return fmt.Errorf("expected status %v %v", want.GetCode(), want.GetReason())
	}
	if got.GetCode() == 0 {
		return nil
	}
	origins := want.GetOrigins()
	if len(origins) == 0 {
		origins = []wirev1.Origin{c.peer.Ends.Origin}
	}
	if !slices.Contains(origins, got.Origin) {
		return fmt.Errorf("expected an origin of %v", origins)
	}
	if got.Disposition != want.Disposition {
		return fmt.Errorf("expected the disposition %v", want.Disposition)
	}
	return shown(e.Shown, string(got.Message))
}

func shown(texts []string, message string) error {
	for _, text := range texts {
		if !strings.Contains(message, text) {
			return fmt.Errorf("expected %q in the message %q", text, message)
		}
	}
	return nil
}
