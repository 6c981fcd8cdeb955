package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
)

// lines tells when a line with some text has been written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	seen chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.want != "" && strings.Contains(l.text.String(), l.want) {
		l.want = ""
		close(l.seen)
	}
	return len(p), nil
}

// operator is somebody at a terminal, beside a control plane.
type operator struct {
	t   *testing.T
	dir string
	env map[string]string
}

// start runs `octo control` on a socket until the test ends.
func start(t *testing.T, flags ...string) *operator {
	t.Helper()
	dir, err := os.MkdirTemp("", "octo") // short: a socket's path has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &operator{t, dir, map[string]string{"OCTO_CONTROL": "unix:" + dir + "/s", "OCTO_ENVIRONMENT": "prod", "USER": "alice"}}
	ctx, cancel := context.WithCancel(t.Context())
	log := &lines{want: "octo control runs", seen: make(chan struct{})}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &terminal{nil, log, log, o.getenv}, append([]string{"control", "--data", dir + "/data", "--listen", "unix:" + dir + "/s"}, flags...))
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("octo control ended with %d:\n%s", code, log.text.String())
		}
	})
	select {
	case <-log.seen:
	case code := <-ended:
		ended <- code
		t.Fatalf("octo control ended with %d", code)
	}
	return o
}

func (o *operator) getenv(name string) string { return o.env[name] }

// octo runs a command and returns its exit code, and what it wrote.
func (o *operator) octo(input string, args ...string) (code int, out, err string) {
	var stdout, stderr bytes.Buffer
	code = run(o.t.Context(), &terminal{strings.NewReader(input), &stdout, &stderr, o.getenv}, args)
	return code, stdout.String(), stderr.String()
}

// expect runs a command that must end with a code and write some texts, to either output.
func (o *operator) expect(code int, input string, args []string, texts ...string) string {
	o.t.Helper()
	got, out, err := o.octo(input, args...)
	if got != code {
		o.t.Errorf("octo %v ended with %d, want %d:\n%s%s", args, got, code, out, err)
	}
	for _, text := range texts {
		if !strings.Contains(out+err, text) {
			o.t.Errorf("octo %v does not say %q:\n%s%s", args, text, out, err)
		}
	}
	return out
}

const shop = `policies:
- target: shop.cart
  max_timeout: 2s
  limits: {max_open_calls: 100}
mesh_switches:
- {application: web, target: shop.cart, permille: 50}
`

func args(line string, more ...string) []string { return append(strings.Fields(line), more...) }

func TestAnOperatorsDay(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("day", func(t *testing.T) { day(t, start(t)) })
}

func day(t *testing.T, o *operator) {
	file := filepath.Join(o.dir, "shop.yaml")
	if err := os.WriteFile(file, []byte(shop), 0o600); err != nil {
		t.Fatal(err)
	}
	o.expect(exitUsage, "", args("apply -f "+file), "a reason is missing")
	o.expect(exitDiffers, "", args("diff -f "+file), "policy/shop.cart would be created", "+ limits.max_open_calls: 100")
	o.expect(exitDone, "", args("apply --dry-run -f "+file), "not written")
	o.expect(exitNotFound, "", args("get policy shop.cart"), "is not in environment prod")
	o.expect(exitDone, "", args("apply -f "+o.dir+" -m", "first"), "policy/shop.cart created (revision 1)", "switch/web,shop.cart created")
	o.expect(exitDone, "", args("diff -f "+file))
	edited := o.expect(exitDone, "", args("get policy shop.cart -o yaml"), "policy/shop.cart: 1", "max_open_calls: 100")
	edited = strings.Replace(edited, "100", "200", 1)
	o.expect(exitDone, edited, args("apply -f - -m", "the sale"), "updated (revision 2)", "~ limits.max_open_calls: 100 -> 200")
	o.expect(exitConflict, edited, args("apply -f - -m", "again"), "revision 1 was expected, but it is revision 2, by alice", "~ limits.max_open_calls: 100 -> 200")
	o.expect(exitInvalid, "policies:\n- target: shop.cart\n  max_timout: 2s\n", args("apply -f - -m typo"),
		"standard input:3: policies[0].max_timout: is not a field of ServicePolicy; did you mean max_timeout?", "nothing was written")
	o.expect(exitDone, "", args("history policy/shop.cart"), "the sale", "alice (unproved)")
	o.expect(exitDiffers, "", args("diff policy shop.cart"), "revision 1 -> 2 (alice: the sale)")
	o.expect(exitDone, "", args("explain shop.cart --caller web"), "revision 2, alice: the sale", "50 of 1000", "every caller is let in")
	o.expect(exitConflict, "", args("rollback policy shop.cart --if 1 -m", "wrong"), "revision 1 was expected")
	o.expect(exitDone, "", args("rollback policy shop.cart -m", "wrong"), "updated (revision 3)", "200 -> 100")
	o.expect(exitDone, "", args("delete policy/shop.cart switch/web,shop.cart -m", "closing down"), "switch/web,shop.cart deleted (revision 2)")
	o.expect(exitDone, "", args("get -o json"), "{}")
	o.expect(exitDone, "", args("rollback policy shop.cart --to 2 -m", "after all"), "created (revision 5)")
}

func TestWithTLSOnlyWritersWriteAndTheHistorySaysWhoTheyAre(t *testing.T) {
	authority := identitytest.New(t)
	flags := func(id string) []string {
		f := authority.Files(t.TempDir(), id)
		return []string{"--certificate", f.Certificate, "--key", f.Key, "--authorities", f.Authorities}
	}
	o := start(t, append(flags("spiffe://example.org/prod/control/config-1"), "--roles", "config", "--writers", "spiffe://example.org/prod/operator/*")...)
	alice, proxy := flags("spiffe://example.org/prod/operator/alice"), flags("spiffe://example.org/prod/proxy/web-1")
	o.expect(exitFailed, shop, append(args("apply -f - -m", "try"), proxy...), "spiffe://example.org/prod/proxy/web-1 may not change configurations")
	o.expect(exitDone, shop, append(args("apply -f - -m", "first"), alice...), "policy/shop.cart created")
	out := o.expect(exitDone, "", append(args("history policy shop.cart"), proxy...), "spiffe://example.org/prod/operator/alice (alice)")
	if strings.Contains(out, "unproved") {
		t.Errorf("a proved author is said to be none:\n%s", out)
	}
	o.expect(exitFailed, "", append(args("get"), flags("spiffe://example.org/test/operator/alice")...))
	o.expect(exitFailed, "", args("get")) // without TLS
}

func TestAWrongCommandLineIsToldSo(t *testing.T) {
	o := &operator{t: t, env: map[string]string{}}
	for _, line := range []string{
		"nonsense", "get -o xml", "apply -m x", "apply -f /nowhere.yaml -m x", "get --revision 3 policy", "rollback -m x", "rollback policy x",
		"diff", "diff -f x policy y", "explain", "get a b c", "get --flag", "delete policy x", "history a b c",
		"control", "control --data d --etcd e", "control --roles=pilot --data d", "control --data d --listen 0.0.0.0:0",
		"control --data d --writers x", "control --data d --certificate c", "get --certificate /nowhere",
	} {
		if code, out, err := o.octo("", strings.Fields(line)...); code != exitUsage || out != "" || err == "" {
			t.Errorf("octo %s ended with %d, and wrote %q and %q", line, code, out, err)
		}
	}
	for _, line := range []string{"", "help", "apply -h", "control -h"} {
		o.expect(exitDone, "", strings.Fields(line))
	}
}

func TestAServerThatIsNotThereIsToldSo(t *testing.T) {
	o := &operator{t: t, env: map[string]string{"OCTO_CONTROL": "unix:/nowhere/at/all"}}
	begun := time.Now()
	o.expect(exitFailed, "", args("get"), "/nowhere/at/all")
	if time.Since(begun) > patience {
		t.Error("it waited all its patience for a socket that is not there")
	}
}
