package reference

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// conversation is one connection with its script.
type conversation struct {
	peer     *Peer
	nc       net.Conn
	dialed   bool
	instance string
	frames   chan *Frame // that came; closed at the end
	readErr  error       // after frames was closed

	mu    sync.Mutex // guards writing and what follows
	log   []string
	sent  uint64
	begun []uint64 // at which byte each frame began that was sent

	nextID, stream uint32
	requested      time.Time // when the last REQUEST passed
	calls          int
	last           *Call
	pings          byte
	over           bool // nothing can be sent any more, or the other side has ended it
}

func newConversation(p *Peer, nc net.Conn, dialed bool, instance string) *conversation {
	c := &conversation{peer: p, nc: nc, dialed: dialed, instance: instance, frames: make(chan *Frame, 4096), nextID: 1, stream: 1}
	go c.read()
	return c
}

// read takes all frames; it answers PINGs and drops WINDOWs, of which no script speaks.
func (c *conversation) read() {
	defer close(c.frames)
	for {
		f, err := Read(c.nc)
		if err != nil {
			c.readErr = err
			c.note("<- the other side's end: %v", err)
			return
		}
		c.note("<- %v", f)
		switch f.Type {
		case conformancev1.FrameType_FRAME_TYPE_PING:
			pong := &Frame{Magic: magic, Version: 1, Type: conformancev1.FrameType_FRAME_TYPE_PONG, BodyLength: 8, Body: f.Body}
			_ = c.write(pong.Append(nil), pong.String(), false)
		case conformancev1.FrameType_FRAME_TYPE_WINDOW:
		default:
			c.frames <- f
		}
	}
}

func (c *conversation) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.log) < 200 {
		c.log = append(c.log, fmt.Sprintf(format, args...))
	}
}

// write sends bytes; counted are frames of the script.
func (c *conversation) write(b []byte, what string, counted bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, "-> "+what)
	if counted {
		c.begun = append(c.begun, c.sent)
	}
	c.sent += uint64(len(b))
	_, err := c.nc.Write(b)
	return err
}

// play goes through the script.
func (c *conversation) play(script *conformancev1.RawConversation, shaken func()) error {
	if !script.Bare {
		if err := c.shake(); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}
	shaken()
	for i, s := range script.Steps {
		if err := c.step(s); err != nil {
			return fmt.Errorf("step %d (%v): %w", i+1, s, err)
		}
	}
	if c.over {
		return nil
	}
	if err := c.quiet(); err != nil {
		return fmt.Errorf("behind the last step: %w", err)
	}
	return nil
}

// shake does the good handshake.
func (c *conversation) shake() error {
	if c.dialed {
		hello := &conformancev1.RawFrame{Type: conformancev1.FrameType_FRAME_TYPE_HELLO, Head: &conformancev1.RawFrame_Hello{Hello: &conformancev1.RawHello{}}}
		if err := c.send(hello); err != nil {
			return err
		}
		return c.expect(&conformancev1.RawExpected{Types: []conformancev1.FrameType{conformancev1.FrameType_FRAME_TYPE_WELCOME}, Version: 1})
	}
	if err := c.expect(&conformancev1.RawExpected{Types: []conformancev1.FrameType{conformancev1.FrameType_FRAME_TYPE_HELLO}}); err != nil {
		return err
	}
	welcome := &wirev1.Welcome{Version: 1, Kind: wirev1.PeerKind_PEER_KIND_SDK, Instance: []byte(c.instance), Incarnation: 1, Limits: &wirev1.Limits{}}
	return c.send(&conformancev1.RawFrame{Type: conformancev1.FrameType_FRAME_TYPE_WELCOME, Head: &conformancev1.RawFrame_Welcome{Welcome: welcome}})
}

func (c *conversation) step(s *conformancev1.RawStep) error {
	switch v := s.Step.(type) {
	case *conformancev1.RawStep_Send:
		return c.send(v.Send)
	case *conformancev1.RawStep_SendHex:
		b, err := hex.DecodeString(v.SendHex)
		if err != nil {
			return err
		}
		return c.write(b, fmt.Sprintf("%d bytes %x", len(b), cut(b)), true)
	case *conformancev1.RawStep_Expect:
		return c.expect(v.Expect)
	case *conformancev1.RawStep_End:
		return c.end()
	case *conformancev1.RawStep_Quiet:
		return c.quiet()
	case *conformancev1.RawStep_HalfClose:
		c.over = true
		c.note("-> end of file")
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
			return h.CloseWrite()
		}
	case *conformancev1.RawStep_Await:
		return c.peer.Ends.Await(c.last.ID, v.Await)
	case *conformancev1.RawStep_Release:
		return c.peer.Ends.Release(c.last.ID)
	}
	return errors.New("a step that says nothing")
}

func (c *conversation) send(r *conformancev1.RawFrame) error {
	f, err := c.build(r)
	if err != nil {
		return err
	}
	if f.Type == conformancev1.FrameType_FRAME_TYPE_REQUEST {
		c.stream, c.requested = f.Stream, time.Now()
		c.nextID = max(c.nextID, f.Stream+2)
	}
	b, what := f.Append(nil), f.String()
	if r.Cut > 0 {
		b = b[:min(int(r.Cut), len(b))]
		what += fmt.Sprintf(", of which %d bytes", len(b))
	}
	return c.write(b, what, true)
}

// next is the next frame that came.
func (c *conversation) next() (*Frame, error) {
	late := time.NewTimer(c.peer.Ends.Patience)
	defer late.Stop()
	select {
	case f, ok := <-c.frames:
		if !ok {
			c.over = true
			return nil, fmt.Errorf("the other side has ended the connection (%w)", c.readErr)
		}
		return f, nil
	case <-late.C:
		return nil, fmt.Errorf("nothing came within %v", c.peer.Ends.Patience)
	}
}

// end waits for the other side's end of the connection.
func (c *conversation) end() error {
	f, err := c.next()
	switch {
	case err == nil:
		return fmt.Errorf("the connection was to end, came: %v", f)
	case !c.over:
		return err
	case !errors.Is(c.readErr, io.EOF):
		return fmt.Errorf("the connection ends with %w, expected an end of file", c.readErr)
	}
	return nil
}

// quiet sees that nothing but PONGs comes.
func (c *conversation) quiet() error {
	for range 2 {
		c.pings++
		body := bytes.Repeat([]byte{c.pings}, 8)
		ping := &Frame{Magic: magic, Version: 1, Type: conformancev1.FrameType_FRAME_TYPE_PING, BodyLength: 8, Body: body}
		if err := c.write(ping.Append(nil), ping.String(), false); err != nil {
			return err
		}
		f, err := c.next()
		if err != nil {
			return err
		}
		if f.Type != conformancev1.FrameType_FRAME_TYPE_PONG || !bytes.Equal(f.Body, body) {
			return fmt.Errorf("nothing was to come, came: %v", f)
		}
	}
	return nil
}

// parsed is a frame's head.
func parsed[T proto.Message](f *Frame, into T) (T, error) {
	if err := proto.Unmarshal(f.Head, into); err != nil {
		return into, fmt.Errorf("the head of %v: %w", f, err)
	}
	return into, nil
}
