package octomesh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	echov1 "github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// The README shows what stands between "README" and "end"; a test below holds the two together.

// README server
type service struct{ echov1.UnimplementedEcho }

func (service) Say(ctx context.Context, req *echov1.Message) (*echov1.Message, error) {
	if req.Text == "" {
		return nil, octomesh.Errorf(octomesh.InvalidArgument, "nothing to say")
	}
	return &echov1.Message{Text: req.Text}, nil
}

func serveEcho() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := octomesh.NewServer("echo", octomesh.WithListen("127.0.0.1:7000"))
	echov1.RegisterEcho(s, service{})
	if err := s.Serve(ctx); err != nil {
		log.Fatal(err)
	}
}

// end

func callEcho() {
	// README client
	ch, err := octomesh.Dial("echo", octomesh.WithDirect("127.0.0.1:7000"))
	if err != nil {
		log.Fatal(err)
	}
	defer ch.Close()
	client := echov1.NewEchoClient(ch)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	res, err := client.Say(ctx, &echov1.Message{Text: "hello"}, octomesh.Header("x-user", "7"))
	if octomesh.CodeOf(err) == octomesh.InvalidArgument {
		log.Fatal("say something")
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Text)
	// end
}

func errorsOfACall(err error) {
	// README errors
	var e *octomesh.Error
	if errors.As(err, &e) {
		fmt.Println(e.Code, e.Reason, e.Origin, e.Disposition, e.Message, e.RetryAfter, e.Details())
	}
	// end
}

func readStream(ctx context.Context, client echov1.EchoClient) error {
	// README streaming
	stream, err := client.Watch(ctx, &echov1.Message{Number: 10})
	if err != nil {
		return err
	}
	for event, err := range stream.All() {
		if err != nil {
			return err
		}
		fmt.Println(event.Number)
	}
	// end
	return nil
}

// README interceptor
func logging(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
	begin := time.Now()
	call.OnEnd(func(err error) {
		log.Println(call.Method.FullName(), octomesh.CodeOf(err), time.Since(begin))
	})
	return next(ctx, call)
}

// end

// README testing
func TestSay(t *testing.T) {
	s := octomesh.NewServer("echo")
	echov1.RegisterEcho(s, service{})
	ch, err := octomesh.NewInProcess(s)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	defer ch.Close()
	res, err := echov1.NewEchoClient(ch).Say(context.Background(), &echov1.Message{Text: "hello"})
	if err != nil || res.Text != "hello" {
		t.Fatal(res, err)
	}
}

// end

func TestReadmeShowsWhatCompiles(t *testing.T) {
	_, _, _, _, _ = serveEcho, callEcho, errorsOfACall, readStream, logging
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var snippet []string
	inside := false
	for line := range strings.Lines(string(source)) {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "// README "):
			inside, snippet = true, nil
		case text == "// end" && inside:
			inside = false
			if want := unindent(snippet); !strings.Contains(string(readme), "```go\n"+want+"```") {
				t.Errorf("README.md lacks, or shows otherwise:\n%s", want)
			}
		case inside:
			snippet = append(snippet, line)
		}
	}
	for _, title := range titles {
		if !strings.Contains(string(readme), "\n## "+title+"\n") {
			t.Errorf("README.md has no part %q", title)
		}
	}
}

// titles are those of the READMEs of all SDKs.
var titles = []string{"Status and versions", "Install", "A server and a client", "Run it", "Generate your own proto",
	"Errors", "Deadline and cancel", "Metadata", "Streaming", "Interceptors", "Mesh switches", "Testing without a proxy",
	"Troubleshooting", "Compatibility"}

// unindent takes the first line's indentation off all lines, and empty lines off the ends.
func unindent(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	indent := lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], "\t"))]
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimPrefix(l, indent))
	}
	return strings.Trim(b.String(), "\n") + "\n"
}
