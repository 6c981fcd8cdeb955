package callers_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/pilot/callers"
	"github.com/octomesh/octomesh/core/transport/identity"
)

// from is a call of a peer whose identity TLS has proved.
func from(t *testing.T, id string) context.Context {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{{URIs: []*url.URL{uri}}}}
	return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

// wants checks an error's code, reason and text, and returns when it says to come again.
func wants(t *testing.T, err error, code codes.Code, reason, text string) (again time.Duration) {
	t.Helper()
	s := status.Convert(err)
	found := ""
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			found = d.Reason
		case *errdetails.RetryInfo:
			again = d.RetryDelay.AsDuration()
		}
	}
	if s.Code() != code || found != reason || !strings.Contains(s.Message(), text) {
		t.Errorf("%v with %q; want %v with %q, that says %q", err, found, code, reason, text)
	}
	return again
}

func TestAProxySpeaksForItself(t *testing.T) {
	c := callers.New(callers.Config{Prove: true, MaySpeakForAll: func(id identity.ID) error {
		if id.Name == "control/directory-1" {
			return nil
		}
		return errors.New("no")
	}})
	for id, ok := range map[string]bool{
		"spiffe://example.org/prod/proxy/web-1": true, "spiffe://example.org/prod/control/directory-1": true,
		"spiffe://example.org/prod/proxy/web-2": false, "spiffe://example.org/test/proxy/web-1": false, "spiffe://example.org/prod/app/web-1": false,
		"spiffe://example.org/test/control/directory-1": false, "spiffe://example.org/prod/control/pilot-1": false,
	} {
		leave, err := c.Enter(from(t, id), "prod", "web-1")
		if ok != (err == nil) {
			t.Errorf("%s: %v", id, err)
		}
		if err != nil {
			wants(t, err, codes.PermissionDenied, callers.ReasonIdentity, id)
			continue
		}
		leave()
	}
	_, err := c.Enter(t.Context(), "prod", "web-1")
	wants(t, err, codes.Unauthenticated, callers.ReasonIdentity, "not encrypted")
	if _, err := c.Enter(callers.Own(t.Context()), "prod", "web-3"); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Open != 1 || s.Known != 3 || s.Strangers != 6 {
		t.Errorf("%+v", s)
	}
}

func TestStreamsOfOneAreLimited(t *testing.T) {
	c := callers.New(callers.Config{Streams: 2})
	var leaves []func()
	for range 2 {
		leave, err := c.Enter(t.Context(), "prod", "web-1")
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	_, err := c.Enter(t.Context(), "prod", "web-1")
	if again := wants(t, err, codes.ResourceExhausted, callers.ReasonStreams, "prod/web-1 has 2 streams open"); again <= 0 {
		t.Error("it is not told when to come again")
	}
	if _, err := c.Enter(t.Context(), "prod", "web-2"); err != nil {
		t.Error(err) // another one is not bothered
	}
	leaves[0]()
	leaves[0]() // once more does nothing
	if _, err := c.Enter(t.Context(), "prod", "web-1"); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Open != 3 || s.Turned != 1 {
		t.Errorf("%+v", s)
	}
}

// TestStockClientsCountApart: gRPC has a stream for each target, and takes nothing from a proxy of the same identity.
func TestStockClientsCountApart(t *testing.T) {
	c := callers.New(callers.Config{Prove: true, Streams: 1, OpensPerMinute: 1, Stock: 2, StockOpensPerMinute: 4})
	ctx := from(t, "spiffe://example.org/prod/proxy/web-1")
	if _, err := c.Enter(ctx, "prod", "web-1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		leave, err := c.EnterStock(ctx, "prod", "web-1")
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if _, err = c.EnterStock(ctx, "prod", "web-1"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.EnterStock(ctx, "prod", "web-1")
	wants(t, err, codes.ResourceExhausted, callers.ReasonStreams, "has 2 streams open")
	_, err = c.Enter(ctx, "prod", "web-1")
	wants(t, err, codes.ResourceExhausted, callers.ReasonStreams, "has 1 streams open")
	_, err = c.EnterStock(ctx, "prod", "web-2")
	wants(t, err, codes.PermissionDenied, callers.ReasonIdentity, "is not the proxy")
	if s := c.Stats(); s.Open != 3 || s.Turned != 2 || s.Strangers != 1 {
		t.Errorf("%+v", s)
	}
}

func TestOneMayNotBeginStreamsAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := callers.New(callers.Config{OpensPerMinute: 6})
		enter := func() error {
			leave, err := c.Enter(t.Context(), "prod", "web-1")
			if err == nil {
				leave()
			}
			return err
		}
		for range 6 {
			if err := enter(); err != nil {
				t.Fatal(err)
			}
		}
		again := wants(t, enter(), codes.ResourceExhausted, callers.ReasonOpens, "6 streams a minute")
		if again <= 0 || again > time.Minute {
			t.Fatal(again)
		}
		time.Sleep(again)
		if err := enter(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestThoseWhoAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := callers.New(callers.Config{})
		for hour := range 5 {
			for i := range 1000 {
				leave, err := c.Enter(t.Context(), "prod", fmt.Sprintf("web-%d-%d", hour, i))
				if err != nil {
					t.Fatal(err)
				}
				leave()
			}
			time.Sleep(time.Hour)
		}
		if s := c.Stats(); s.Known > 2100 {
			t.Errorf("%+v", s)
		}
	})
}
