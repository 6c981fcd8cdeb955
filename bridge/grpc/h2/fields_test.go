package h2_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
)

func TestFieldsReadAsTheyWereWritten(t *testing.T) {
	for _, one := range []struct {
		name, value string
		size        int
	}{
		{":method", "POST", 1},
		{":method", "GET", 5},
		{":scheme", "http", 1},
		{":scheme", "https", 1},
		{":scheme", "ftp", 5},
		{":status", "200", 1},
		{":status", "431", 5},
		{":path", "/octo.test.v1.Thing/Do", 24},
		{":path", "/", 3},
		{":authority", "thing", 7},
		{"content-type", "application/grpc", 19},
		{"user-agent", "grpc-go", 10},
		{"grpc-status", "0", 15},
		{"x", "", 4},
		{"x", strings.Repeat("y", 126), 130},
		{"x", strings.Repeat("y", 127), 132},
		{"x", strings.Repeat("y", 5000), 5006},
	} {
		block := h2.AppendField([]byte(nil), one.name, one.value)
		if len(block) != one.size {
			t.Errorf("%s takes %d bytes, not %d", one.name, len(block), one.size)
		}
		var got []hpack.HeaderField
		d := hpack.NewDecoder(0, func(f hpack.HeaderField) { got = append(got, f) })
		if _, err := d.Write(block); err != nil || d.Close() != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		if len(got) != 1 || got[0].Name != one.name || got[0].Value != one.value {
			t.Errorf("%s: %s is read as %v", one.name, one.value, got)
		}
		if bytes := h2.AppendField(nil, []byte(one.name), []byte(one.value)); string(bytes) != string(block) {
			t.Errorf("%s: bytes are written otherwise than strings", one.name)
		}
	}
}
