package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// h2spec has the suite that others hold HTTP/2 servers to judge the endpoint, behind which its tests answer as a web server would, and
// where gRPC comes into a proxy, beside grpc-go's own server.
func h2spec(ctx context.Context, b *bench) ([]row, error) {
	program := filepath.Join(b.folder, "h2spec")
	pins := filepath.Join(b.root, "tools", "pins")
	version, err := b.goCommand(ctx, "-C", pins, "list", "-m", "-f", "{{.Version}}", "github.com/summerwind/h2spec")
	if err != nil {
		return nil, err
	}
	version, _, _ = strings.Cut(version, "+")
	if _, err := b.goCommand(ctx, "-C", pins, "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec"); err != nil {
		return nil, err
	}
	alone, err := h2specAlone(ctx, b)
	if err != nil {
		return nil, err
	}
	alone.version = version
	server, address, err := b.grpcGoServer(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	m, err := startMesh(ctx, address)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Ready(ctx); err != nil {
		return nil, err
	}
	through, err := h2specRun(ctx, program, m.Address, filepath.Join(b.folder, "proxy.xml"))
	if err != nil {
		return nil, err
	}
	stock, err := h2specRun(ctx, program, address, filepath.Join(b.folder, "grpc-go.xml"))
	if err != nil {
		return nil, err
	}
	r := row{suite: "h2spec --strict", version: version, mode: "the proxy's port for gRPC", excused: h2specExcused()}
	r.compare(through, outcome{cases: through.cases})
	r.control = "–" // of grpc-go's server one case or the other passes in some runs only
	if ours, theirs := r.passed, stock.cases-len(stock.failed); ours <= theirs {
		r.failed = append(r.failed, fmt.Sprintf("no more than the %d cases of grpc-go's server pass", theirs))
	}
	return []row{alone, r}, nil
}

// h2specExcused are cases that cannot pass where a request that is no call of gRPC's is refused at its first frame, without a body. They
// read the refusal as the answer to what they send next, or look for DATA. The endpoint alone passes them.
func h2specExcused() map[string]string {
	all := map[string]string{}
	for _, name := range []string{
		`generic/2: Sends a PRIORITY frame on half-closed (remote) stream`,
		`generic/2: Sends a WINDOW_UPDATE frame on half-closed (remote) stream`,
		`http2/5.1.2: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded`,
		`http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame`,
		`http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame`,
		`http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE`,
		`http2/6.9.1: Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame`,
		`http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream`,
		`http2/6.9.2: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame`,
		`http2/6.9.2: Sends a SETTINGS frame for window size to be negative`,
		`http2/8.1.2.1: Sends a HEADERS frame that contains a pseudo-header field as trailers`,
		`http2/8.1.2.6: Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length`,
		`http2/8.1.2.6: Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length`,
		`http2/8.1: Sends a second HEADERS frame without the END_STREAM flag`,
	} {
		all[name] = "the request is refused at its first frame"
	}
	all["http2/3.5: Sends invalid connection preface"] = "who does not begin as HTTP/2 does is told so in the mesh's own protocol, then closed"
	return all
}

var h2specCount = regexp.MustCompile(`spec_test\.go:\d+: (\d+) of (\d+)`)

// h2specAlone is the endpoint's own test.
func h2specAlone(ctx context.Context, b *bench) (row, error) {
	r := row{suite: "h2spec --strict", mode: "the HTTP/2 endpoint alone", control: "–"}
	out, err := b.goCommand(ctx, "-C", b.root, "test", "-run", "^TestH2spec$", "-v", "./bridge/grpc/h2")
	m := h2specCount.FindStringSubmatch(out)
	if m == nil {
		return r, errors.Join(fmt.Errorf("the endpoint's test says no count: %s", last([]byte(out))), err)
	}
	_, err = fmt.Sscan(m[1]+" "+m[2], &r.passed, &r.cases)
	if r.passed != r.cases {
		r.failed = []string{fmt.Sprintf("%d cases", r.cases-r.passed)}
	}
	return r, err
}

// report is h2spec's, as JUnit writes it.
type report struct {
	Suites []struct {
		ID    string `xml:"id,attr"`
		Cases []struct {
			Package string  `xml:"package,attr"`
			Class   string  `xml:"classname,attr"`
			Skipped *string `xml:"skipped"`
			Error   *string `xml:"error"`
			Failure *string `xml:"failure"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func h2specRun(ctx context.Context, program, address, file string) (outcome, error) {
	host, port, _ := net.SplitHostPort(address)
	out, failed := exec.CommandContext(ctx, program, "--strict", "-o", "2", "-h", host, "-p", port, "-j", file).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		return outcome{}, fmt.Errorf("h2spec did not finish: %w: %s", errors.Join(failed, err), last(out))
	}
	return h2specRead(text)
}

// h2specRead reads what h2spec has found. A case that it had to skip has not passed.
func h2specRead(text []byte) (outcome, error) {
	o := outcome{failed: map[string]string{}}
	var all report
	if err := xml.Unmarshal(text, &all); err != nil {
		return o, err
	}
	for _, s := range all.Suites {
		for _, c := range s.Cases {
			o.cases++
			name := c.Package + ": " + c.Class
			for _, why := range []*string{c.Skipped, c.Error, c.Failure} {
				if why != nil {
					o.failed[name] = strings.Join(strings.Fields(*why), " ")
				}
			}
		}
	}
	return o, nil
}
