package proxyd

import (
	"bufio"
	be "encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
)

// ttheader is a frame of Kitex's: of a service and method, with a Thrift message of a kind and number.
func ttheader(kind byte, number uint32, rest string) []byte {
	text := func(b []byte, s string) []byte { return append(be.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	head := text([]byte{0, 0, 0x10, 0, 2, 0, 6}, "billing")
	head = text(append(head, 0, 9), "Pay")
	for len(head)%4 != 0 {
		head = append(head, 0)
	}
	body := be.BigEndian.AppendUint32(append([]byte{0x80, 1, 0, kind, 0, 0, 0, 3}, "Pay"...), number)
	body = append(body, rest...)
	out := be.BigEndian.AppendUint32(nil, uint32(10+len(head)+len(body)))
	out = be.BigEndian.AppendUint32(append(out, 0x10, 0, 0, 0), number)
	return append(append(be.BigEndian.AppendUint16(out, uint16(len(head)/4)), head...), body...)
}

func readTTHeader(r io.Reader) (kind byte, number uint32, rest string, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, 0, "", err
	}
	b := make([]byte, be.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, 0, "", err
	}
	p := b[10+4*int(be.BigEndian.Uint16(b[8:])):]
	return p[3], be.BigEndian.Uint32(p[11:]), string(p[15:]), nil
}

// kitexServer answers as one of Kitex's does, by what it was told.
func kitexServer(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = nc.Close() }()
				for r := bufio.NewReader(nc); ; {
					_, number, rest, err := readTTHeader(r)
					if err != nil {
						return
					}
					if _, err := nc.Write(ttheader(2, number, rest)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// pay calls on a connection of its own.
func pay(network, address string) error {
	nc, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := nc.Write(ttheader(1, 77, "\x00ten")); err != nil {
		return err
	}
	kind, number, rest, err := readTTHeader(nc)
	if err == nil && (kind != 2 || number != 77 || rest != "\x00ten") {
		err = errors.New(rest)
	}
	return err
}

func TestKitexClientsAndServersMeetThroughTheirProxiesAndHotRestarts(t *testing.T) {
	const clients = "kitex:\n  application: stock\n  address: "
	server := launchIn(t, t.TempDir(), "{}", "kitex: {servers: [{targets: [billing], instance: billing-1, address: \""+kitexServer(t)+"\"}]}\n")
	at := loopback.Free(t)
	client := launchIn(t, t.TempDir(), endpoint("billing", server.inbound), clients+at+"\n")
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // the server is dialed
		err := pay("tcp", at)
		if err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
	if err := pay("unix", client.socket); err != nil {
		t.Errorf("by the socket: %v", err)
	}
	for range 2 {
		client, server = client.takeover(t), server.takeover(t)
		for range 20 {
			if err := pay("tcp", at); err != nil {
				t.Errorf("after a hot restart: %v", err)
			}
		}
	}
}
