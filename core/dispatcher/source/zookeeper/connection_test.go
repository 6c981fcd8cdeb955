package zookeeper

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// packet is a request's header.
func packet(op uint32) []byte {
	p := make([]byte, 12)
	binary.BigEndian.PutUint32(p, 8)
	binary.BigEndian.PutUint32(p[8:], op)
	return p
}

// answering is a connection to who answers each packet at once, with the handshake done, and how many answers were read.
func answering(t *testing.T, resumes bool) (*connection, *atomic.Int64) {
	near, far := net.Pipe()
	c := newConnection(near, resumes, time.Minute)
	go func() {
		defer far.Close()
		buffer := make([]byte, 64)
		for {
			if _, err := far.Read(buffer); err != nil {
				return
			}
			if _, err := far.Write([]byte{1}); err != nil {
				return
			}
		}
	}()
	var answers atomic.Int64
	go func() {
		for buffer := make([]byte, 1); ; answers.Add(1) {
			if _, err := c.Read(buffer); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close() })
	write(t, c, 0)
	return c, &answers
}

func write(t *testing.T, c *connection, op uint32) {
	t.Helper()
	if n, err := c.Write(packet(op)); n != 12 || err != nil {
		t.Fatalf("it writes %d, %v", n, err)
	}
	synctest.Wait()
}

const opExists = 3

func TestAnswersOfAResumedSessionComeAfterItsWatchesAreSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, answers := answering(t, true)
		write(t, c, opSetAuth) // the library waits for its answer before it does anything else
		if n := answers.Load(); n != 2 {
			t.Fatalf("%d answers of the handshake and the credentials", n)
		}
		write(t, c, opExists)
		if n := answers.Load(); n != 2 {
			t.Fatal("an answer came before the watches were set")
		}
		write(t, c, opSetWatches)
		write(t, c, opExists)
		if n := answers.Load(); n != 5 {
			t.Fatalf("%d of 5 answers came", n)
		}
	})
}

func TestAnswersOfANewSessionComeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, answers := answering(t, false)
		write(t, c, opExists)
		if n := answers.Load(); n != 2 {
			t.Fatalf("%d of 2 answers came", n)
		}
	})
}

func TestACutConnectionIsNotedByReadingAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := answering(t, true)
		write(t, c, opExists) // its answer is held back
		ended := make(chan struct{})
		go func() {
			<-c.free
			close(ended)
		}()
		_ = c.Conn.Close()
		write(t, c, opExists) // fails below, and tells nobody
		<-ended
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("reading goes on")
		}
	})
}
