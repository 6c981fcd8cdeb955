package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// environment is where the shop lives.
const environment = "shop"

// poll is how often a proxy is asked for what it does not tell by itself.
const poll = 2 * time.Millisecond

// proxy is an octo-proxy beside one instance.
type proxy struct {
	*child
	beside  string // the instance
	socket  string // for the instance
	admin   string // for the operator
	inbound string // host:port for other proxies
	http    *http.Client
}

// startProxy starts a proxy. What it must know the control plane tells it, when it is first asked for.
func (s *shop) startProxy(beside string) (*proxy, error) {
	base := filepath.Join(s.dir, beside)
	p := &proxy{beside: beside, socket: base + ".sock", admin: base + ".admin"}
	p.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		},
	}}
	bootstrap := fmt.Sprintf("environment: %s\ninstance: %s-proxy\noutbound_socket: %s\ninbound_address: 127.0.0.1:0\n"+
		"admin_socket: %s\ndrain_deadline: 3s\ncontrol: {pilots: [%q], directory: %s}\n", environment, beside, p.socket, p.admin, s.plane.address, base+".states")
	if err := os.WriteFile(base+".proxy.yaml", []byte(bootstrap), 0o600); err != nil {
		return nil, err
	}
	var err error
	p.child, err = s.start(beside+"-proxy", "octo-proxy", nil, "--config", base+".proxy.yaml")
	return p, err
}

// get asks the admin socket.
func (p *proxy) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body)
}

// until asks again and again until the answer is yes.
func until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// counted names one counter of octo_calls_total.
type counted struct {
	proxy, direction, target, code string
}

// count reads how many calls the proxy has seen end.
func (p *proxy) count(ctx context.Context, into map[counted]int) error {
	body, err := p.get(ctx, "/metrics")
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(strings.NewReader(string(body)))
	for lines.Scan() {
		labels, value, ok := sample(lines.Text(), "octo_calls_total")
		if !ok {
			continue
		}
		// Routes of one target are added up.
		into[counted{p.beside, labels["direction"], labels["target"], labels["code"]}] += value
	}
	return lines.Err()
}

// sample reads a line of Prometheus' text format, if it is of the metric. No label's value has a quote or
// a comma here.
func sample(line, metric string) (labels map[string]string, value int, ok bool) {
	rest, ok := strings.CutPrefix(line, metric+"{")
	if !ok {
		return nil, 0, false
	}
	list, number, ok := strings.Cut(rest, "} ")
	if !ok {
		return nil, 0, false
	}
	labels = make(map[string]string)
	for pair := range strings.SplitSeq(list, ",") {
		key, quoted, _ := strings.Cut(pair, "=")
		labels[key] = strings.Trim(quoted, `"`)
	}
	f, err := strconv.ParseFloat(number, 64)
	return labels, int(f), err == nil
}
