package reference

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

func TestATapPassesAllOnAndTellsOfTheFrames(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() { // the other end sends back what it gets
		nc, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(nc, nc)
		_ = nc.Close()
	}()
	var mu sync.Mutex
	var lines []string
	tap, err := NewTap("tcp", "127.0.0.1:0", l.Addr().String(), "a to b", func(line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", tap.Address())
	if err != nil {
		t.Fatal(err)
	}
	want := frame(t, conformancev1.FrameType_FRAME_TYPE_RESET, 7, &wirev1.Reset{Http2Code: 8}, "").Append(nil)
	want = append(want, "no frame at all, which is passed on as well"...)
	if _, err := nc.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(nc)
	if err != nil || string(got) != string(want) {
		t.Fatalf("%q came back: %v", got, err)
	}
	tap.Close()
	text := strings.Join(lines, "\n")
	for _, part := range []string{"[a to b #1] -> RESET stream 7 {http2_code:8}", "[a to b #1] <- RESET stream 7", "no frames from here on"} {
		if !strings.Contains(strings.ReplaceAll(text, "  ", " "), part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}
