package grpc_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// TestALongAnswerBeginsWithItsMetadata: an SDK's answer that is one message, too long for a frame, has its initial metadata and the
// name of its encoding ahead of the message, where gRPC wants them (W-MSG-13).
func TestALongAnswerBeginsWithItsMetadata(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{do: func(ctx context.Context, in *msg) (*msg, error) {
		if err := octomesh.SetHeader(ctx, "first", "word"); err != nil {
			return nil, err
		}
		return in, octomesh.SetTrailer(ctx, "last", "word")
	}})
	body := make([]byte, 300<<10) // which gzip makes no shorter
	seed := rand.NewChaCha8([32]byte{})
	_, _ = seed.Read(body)
	cc := dial(t, m.tcp, nil)
	for name, opts := range map[string][]grpc.CallOption{"plain": nil, "gzip": {grpc.UseCompressor(gzip.Name)}} {
		var header, trailer metadata.MD
		got, err := do(within(t), cc, body, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s: %d bytes, %v", name, len(got), err)
		}
		same(t, name+": initial metadata", header.Get("first"), []string{"word"})
		same(t, name+": trailers", trailer.Get("last"), []string{"word"})
		same(t, name+": metadata that is said twice", trailer.Get("first"), []string(nil))
	}
}
