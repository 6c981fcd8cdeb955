package control_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/conformance/control"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

func TestMessagesComeAsTheyWereWritten(t *testing.T) {
	var b bytes.Buffer
	for _, text := range []string{"", "one", strings.Repeat("x", 100_000)} {
		if err := control.Write(&b, &conformancev1.Report{Report: &conformancev1.Report_Failure{Failure: text}}); err != nil {
			t.Fatal(err)
		}
		got := &conformancev1.Report{}
		if err := control.Read(&b, got); err != nil || got.GetFailure() != text {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
	}
	if err := control.Read(&b, &conformancev1.Report{}); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"cut in its length": "\x00\x00",
		"cut":               "\x00\x00\x00\x05ab",
		"text":              "Exception in thread main",
		"no protobuf":       "\x00\x00\x00\x02\xff\xff",
	} {
		if err := control.Read(strings.NewReader(text), &conformancev1.Report{}); err == nil || errors.Is(err, io.EOF) && err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}
