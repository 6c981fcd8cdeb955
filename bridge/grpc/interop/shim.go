package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Messages of connectrpc.conformance.v1, of which a program under test changes where the server is, and by which certificate it is known:
// fields of ServerCompatRequest, ServerCompatResponse, ClientCompatRequest and TLSCreds. The rest goes on as it came.
const (
	serverCredentials                               = 7
	responseHost, responsePort, responseCertificate = 1, 2, 3
	requestHost, requestPort, requestCertificate    = 6, 7, 8
	credentialsCertificate, credentialsKey          = 1, 2
)

// maxMessage bounds what the runner and the programs under test may say at once.
const maxMessage = 16 << 20

// serverUnderTest stands in for a server that connectrpc's runner starts: it starts the stock one, and says that it is where gRPC comes
// into a mesh that ends at it.
func serverUnderTest(ctx context.Context, command []string) error {
	request, err := readMessage(os.Stdin)
	if err != nil {
		return fmt.Errorf("the runner's request: %w", err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	server, err := start(cmd)
	if err != nil {
		return err
	}
	defer server.Close()
	said, err := readMessage(out)
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	address, err := addressIn(said, responseHost, responsePort)
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	by, err := serverTLS(request, said)
	if err != nil {
		return err
	}
	m, err := startMeshBy(ctx, address, by)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Ready(ctx); err != nil {
		return err
	}
	if err := writeMessage(os.Stdout, withAddress(said, responseHost, responsePort, m.Address)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// serverTLS is TLS around a mesh for a server that speaks it; nil: it does not. Clients see the certificate that the runner offers, which the
// server has, too.
func serverTLS(request, said []byte) (*secured, error) {
	server, err := bytesIn(said, responseCertificate)
	if err != nil || len(server) == 0 {
		return nil, err
	}
	offered, err := bytesIn(request, serverCredentials)
	if err != nil {
		return nil, err
	}
	certificate, err := bytesIn(offered, credentialsCertificate)
	if err != nil {
		return nil, err
	}
	key, err := bytesIn(offered, credentialsKey)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(certificate, server) {
		return nil, errors.New("the server has another certificate than the runner's, which clients are told to trust")
	}
	return secure(certificate, key, server)
}

// clientUnderTest stands in for a client that connectrpc's runner starts: it gives the stock one its requests, but sends each to where
// gRPC comes into a mesh that ends at the server that is meant.
func clientUnderTest(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = os.Stdout, os.Stderr, 5*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	bad := forward(ctx, os.Stdin, in)
	return errors.Join(bad, in.Close(), cmd.Wait())
}

// forward passes requests on, and ends the meshes when the last is through.
func forward(ctx context.Context, from io.Reader, to io.Writer) error {
	meshes := map[string]*mesh{}
	own, key, err := selfSigned()
	if err != nil {
		return err
	}
	// Calls are still open when the last request has been passed on: meshes stay until the process ends, as their servers do.
	for {
		request, err := readMessage(from)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the runner's request: %w", err)
		}
		address, err := addressIn(request, requestHost, requestPort)
		if err != nil {
			return fmt.Errorf("the runner's request: %w", err)
		}
		m := meshes[address]
		if m == nil {
			var by *secured
			server, err := bytesIn(request, requestCertificate)
			if err == nil && len(server) > 0 {
				by, err = secure(own, key, server)
			}
			if err != nil {
				return fmt.Errorf("the runner's request: %w", err)
			}
			if m, err = startMeshBy(ctx, address, by); err != nil {
				return err
			}
			if err := m.Ready(ctx); err != nil {
				return err
			}
			meshes[address] = m
		}
		request = withAddress(request, requestHost, requestPort, m.Address)
		if m.tls != nil { // the last value of a field holds
			request = protowire.AppendBytes(protowire.AppendTag(request, requestCertificate, protowire.BytesType), own)
		}
		if err := writeMessage(to, request); err != nil {
			return err
		}
	}
}

// readMessage reads a message behind its size. io.EOF: there is no further one.
func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes: %d are the most", n, maxMessage)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return message, nil
}

func writeMessage(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	return err
}

// fields calls what to do with each field of a message.
func fields(message []byte, each func(number protowire.Number, kind protowire.Type, field, value []byte)) error {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		each(number, kind, message[:tag+size], message[tag:tag+size])
		message = message[tag+size:]
	}
	return nil
}

// bytesIn finds the value of a field; nil: it is not there.
func bytesIn(message []byte, number protowire.Number) (found []byte, err error) {
	err = fields(message, func(n protowire.Number, kind protowire.Type, _, value []byte) {
		if n == number && kind == protowire.BytesType {
			found, _ = protowire.ConsumeBytes(value)
		}
	})
	return found, err
}

// addressIn finds host and port in a message.
func addressIn(message []byte, host, port protowire.Number) (string, error) {
	var name string
	var number uint64
	err := fields(message, func(n protowire.Number, kind protowire.Type, _, value []byte) {
		switch {
		case n == host && kind == protowire.BytesType:
			s, _ := protowire.ConsumeBytes(value)
			name = string(s)
		case n == port && kind == protowire.VarintType:
			number, _ = protowire.ConsumeVarint(value)
		}
	})
	if err != nil {
		return "", err
	}
	if number == 0 || number > 65535 {
		return "", fmt.Errorf("the port %d of the server is none", number)
	}
	if name == "" {
		name = "127.0.0.1"
	}
	return net.JoinHostPort(name, strconv.FormatUint(number, 10)), nil
}

// withAddress is a message with another host and port.
func withAddress(message []byte, host, port protowire.Number, address string) []byte {
	var out []byte
	_ = fields(message, func(n protowire.Number, _ protowire.Type, field, _ []byte) { // addressIn has read all of it
		if n != host && n != port {
			out = append(out, field...)
		}
	})
	name, number, _ := net.SplitHostPort(address)
	value, _ := strconv.ParseUint(number, 10, 16)
	out = protowire.AppendString(protowire.AppendTag(out, host, protowire.BytesType), name)
	return protowire.AppendVarint(protowire.AppendTag(out, port, protowire.VarintType), value)
}
