package octomesh

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"sync"
)

// The encodings that this SDK has, by their names on the wire.
const (
	encodingIdentity = "identity"
	encodingGzip     = "gzip"
)

// gzipSlack bounds what gzip may add to bytes that do not compress, so that a compressed message over the
// limit is refused by its length alone.
func gzipSlack(limit int) int { return limit + limit/1000 + 64 }

var (
	gzipWriters = sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels only
		return w
	}}
	gzipReaders sync.Pool
)

// compressGzip appends plain, compressed, to dst.
func compressGzip(dst, plain []byte) []byte {
	out := bytes.NewBuffer(dst)
	w := gzipWriters.Get().(*gzip.Writer)
	w.Reset(out)
	_, _ = w.Write(plain) // a bytes.Buffer takes all
	_ = w.Close()
	gzipWriters.Put(w)
	return out.Bytes()
}

var errTooLarge = errors.New("octomesh: message over the limit")

// decompressGzip returns the plain bytes. It stops at limit + 1 of them, so a bomb costs no more than that.
func decompressGzip(b []byte, limit int) ([]byte, error) {
	in := bytes.NewReader(b)
	r, _ := gzipReaders.Get().(*gzip.Reader)
	var err error
	if r == nil {
		r, err = gzip.NewReader(in)
	} else {
		err = r.Reset(in)
	}
	if err != nil {
		return nil, err
	}
	defer gzipReaders.Put(r)
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if n > int64(limit) {
		return nil, errTooLarge
	}
	return out.Bytes(), nil
}
