package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

// A word on the socket is a header, then a Word of the protocol's. The header, big-endian: the magic, the header's version, a
// zero, the number of descriptors that come with it (2 bytes), the word's length (4 bytes).
const (
	magic         = 0x0C704F48
	headerVersion = 1
	headerSize    = 12
	// maxWord is the longest word, in bytes. Lists are split below it.
	maxWord = 1 << 20
	// maxDescriptors is how many descriptors the kernel lets one message carry (SCM_MAX_FD).
	maxDescriptors = 253
)

// conn is the control socket. One goroutine reads it; writes are the owner's, one at a time.
type conn struct {
	*net.UnixConn
	words chan incoming // closed behind the last
	over  chan struct{} // closed by end
}

// incoming is a word that has come, or why none comes any more.
type incoming struct {
	word        *handoverv1.Word
	descriptors []int
	err         error
}

func newConn(nc *net.UnixConn) *conn {
	c := &conn{UnixConn: nc, words: make(chan incoming), over: make(chan struct{})}
	go c.read()
	return c
}

// read hands words over until the socket ends.
func (c *conn) read() {
	defer close(c.words)
	for {
		var i incoming
		i.word, i.descriptors, i.err = receive(c.UnixConn)
		select {
		case c.words <- i:
		case <-c.over:
			closeAll(i.descriptors)
			return
		}
		if i.err != nil {
			return
		}
	}
}

// end closes the socket and waits for its reader.
func (c *conn) end() {
	close(c.over)
	_ = c.Close()
	for i := range c.words {
		closeAll(i.descriptors)
	}
}

// send says a word, and gives descriptors along. Their owners may close them afterwards.
func (c *conn) send(w *handoverv1.Word, descriptors []int) error {
	body, err := proto.Marshal(w)
	if err != nil {
		return err
	}
	if len(body) > maxWord || len(descriptors) > maxDescriptors {
		return fmt.Errorf("handover: a word of %d bytes with %d descriptors is too large", len(body), len(descriptors))
	}
	if err := c.SetWriteDeadline(time.Now().Add(wordTimeout)); err != nil {
		return err
	}
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[0:], magic)
	header[4] = headerVersion
	binary.BigEndian.PutUint16(header[6:], uint16(len(descriptors)))
	binary.BigEndian.PutUint32(header[8:], uint32(len(body)))
	var rights []byte
	if len(descriptors) > 0 {
		rights = syscall.UnixRights(descriptors...)
	}
	n, oobn, err := c.WriteMsgUnix(header[:], rights, nil)
	if err != nil {
		return err
	}
	if oobn != len(rights) {
		return errors.New("handover: the kernel took only a part of the descriptors")
	}
	_, err = c.Write(append(header[n:], body...))
	return err
}

// receive reads one word and what descriptors came with it, which are the caller's then.
func receive(nc *net.UnixConn) (w *handoverv1.Word, descriptors []int, err error) {
	defer func() {
		if err != nil {
			closeAll(descriptors)
			w, descriptors = nil, nil
		}
	}()
	var header [headerSize]byte
	if descriptors, err = readHeader(nc, header[:]); err != nil {
		return nil, descriptors, err
	}
	switch count, size := binary.BigEndian.Uint16(header[6:]), binary.BigEndian.Uint32(header[8:]); {
	case binary.BigEndian.Uint32(header[0:]) != magic:
		return nil, descriptors, errors.New("handover: whoever is there does not speak of hand-overs")
	case header[4] != headerVersion:
		return nil, descriptors, fmt.Errorf("handover: version %d of the header, want %d", header[4], headerVersion)
	case size > maxWord:
		return nil, descriptors, fmt.Errorf("handover: a word of %d bytes, at most %d", size, maxWord)
	case int(count) != len(descriptors):
		return nil, descriptors, fmt.Errorf("handover: %d descriptors came, %d were sent", len(descriptors), count)
	default:
		body := make([]byte, size)
		if _, err = io.ReadFull(nc, body); err != nil {
			return nil, descriptors, unexpected(err)
		}
		w = &handoverv1.Word{}
		if err = proto.Unmarshal(body, w); err == nil && w.GetWord() == nil {
			err = errors.New("handover: a word of a later version")
		}
		return w, descriptors, err
	}
}

// readHeader fills header. What descriptors come, come with its bytes.
func readHeader(nc *net.UnixConn, header []byte) (descriptors []int, err error) {
	control := make([]byte, syscall.CmsgSpace(4*maxDescriptors))
	for got := 0; got < len(header); {
		n, oobn, flags, _, err := nc.ReadMsgUnix(header[got:], control)
		if oobn > 0 {
			more, perr := rightsOf(control[:oobn])
			descriptors = append(descriptors, more...)
			err = errors.Join(err, perr)
		}
		switch {
		case err == nil && flags&syscall.MSG_CTRUNC != 0:
			err = errors.New("handover: descriptors were lost on their way: too many are open, or too many were sent")
		case err == nil && n == 0:
			err = io.EOF
		}
		if err != nil {
			if got > 0 {
				err = unexpected(err)
			}
			return descriptors, err
		}
		got += n
	}
	return descriptors, nil
}

// unexpected names the end of the socket inside a word.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rightsOf takes the descriptors out of control messages.
func rightsOf(control []byte) (descriptors []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	for i := range messages {
		if h := messages[i].Header; h.Level != syscall.SOL_SOCKET || h.Type != syscall.SCM_RIGHTS {
			continue
		}
		fds, perr := syscall.ParseUnixRights(&messages[i])
		descriptors = append(descriptors, fds...)
		err = errors.Join(err, perr)
	}
	return descriptors, err
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = syscall.Close(fd)
	}
}

// borrow calls do with the descriptors of listeners. They stay open as long as it runs.
func borrow(listeners []Listener, descriptors []int, do func([]int) error) error {
	if len(listeners) == 0 {
		return do(descriptors)
	}
	sc, ok := listeners[0].Listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("handover: %s %s has no descriptor", listeners[0].Name, listeners[0].Addr())
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = borrow(listeners[1:], append(descriptors, int(fd)), do) })
	return errors.Join(err, inner)
}

var errLate = errors.New("handover: no answer in time")

// next waits for a word of the other side, within 0 for as long as it lives. A refusal is an error, and so are descriptors with any
// other word than Listeners.
func (c *conn) next(ctx context.Context, within time.Duration) (*handoverv1.Word, error) {
	var late <-chan time.Time
	if within > 0 {
		timer := time.NewTimer(within)
		defer timer.Stop()
		late = timer.C
	}
	i, err := c.wait(ctx, late)
	switch {
	case err != nil:
		return nil, err
	case len(i.descriptors) > 0:
		closeAll(i.descriptors)
		return nil, errors.New("handover: descriptors that nobody asked for")
	}
	return i.word, nil
}

func (c *conn) wait(ctx context.Context, late <-chan time.Time) (incoming, error) {
	select {
	case i, ok := <-c.words:
		switch {
		case !ok || i.err != nil && ends(i.err):
			return incoming{}, ErrGone
		case i.err != nil:
			return incoming{}, i.err
		case i.word.GetRefusal() != nil:
			closeAll(i.descriptors)
			return incoming{}, &RefusedError{i.word.GetRefusal().GetReason()}
		}
		return i, nil
	case <-late:
		return incoming{}, errLate
	case <-ctx.Done():
		return incoming{}, context.Cause(ctx)
	}
}

func refusal(err error) *handoverv1.Word {
	return &handoverv1.Word{Word: &handoverv1.Word_Refusal{Refusal: &handoverv1.Refusal{Reason: err.Error()}}}
}
