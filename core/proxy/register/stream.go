package register

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const firstPause, maxPause = 100 * time.Millisecond, 5 * time.Second

type talking = grpc.BidiStreamingClient[controlv1.ConnectRequest, controlv1.ConnectResponse]

// Run speaks to Pilots, one at a time, until ctx is done.
func (c *Client) Run(ctx context.Context) {
	if c == nil || len(c.cfg.Pilots) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var quitting sync.WaitGroup
	defer quitting.Wait()
	defer cancel()
	quitting.Go(func() {
		select {
		case <-c.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	pause := firstPause
	for n := 0; ctx.Err() == nil; n++ {
		heard, err := c.talk(ctx, c.cfg.Pilots[n%len(c.cfg.Pilots)])
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		c.cfg.Log.Warn("no Pilot takes what the proxy says; what is registered stays for a while", "error", err, "pause", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// talk is one stream.
func (c *Client) talk(ctx context.Context, pilot grpc.ClientConnInterface) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := controlv1.NewNodeClient(pilot).Connect(ctx)
	if err != nil {
		return false, err
	}
	in := &controlv1.Introduction{
		Environment: c.cfg.Environment, Instance: c.cfg.Instance, Incarnation: c.cfg.Incarnation,
		SoftwareVersion: c.cfg.Version, Zone: c.cfg.Zone,
	}
	if c.cfg.Suspects != nil {
		in.Suspects = c.cfg.Suspects()
	}
	if err := g.Send(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Introduction{Introduction: in}}); err != nil {
		_, err = g.Recv() // which says why
		return false, err
	}
	if _, err := g.Header(); err != nil { // the Pilot takes us
		return false, err
	}
	c.begin(true)
	defer c.begin(false)
	var saying sync.WaitGroup
	defer saying.Wait()
	defer cancel()
	saying.Go(func() { c.say(ctx, g, cancel) })
	for {
		r, err := g.Recv()
		if err != nil {
			return true, err
		}
		switch w := r.GetWord().(type) {
		case *controlv1.ConnectResponse_Registration:
			c.told(w.Registration)
		case *controlv1.ConnectResponse_Report:
			c.answered(w.Report)
		}
	}
}

// begin notes that a stream stands, to which all is to be said, or that it does not any more.
func (c *Client) begin(connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected, c.since = connected, time.Now()
	c.settle()
	c.unanswered()
	if !connected {
		return
	}
	for _, e := range c.entries {
		if e.want == nil || e.state != superseded && e.state != refused {
			c.changed(e)
		}
	}
	c.applied = c.current
	c.attendAnew()
}

// say sends what there is to say.
func (c *Client) say(ctx context.Context, g talking, failed func()) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	c.checkUp()
	for {
		for words := c.words(); len(words) > 0; words = c.words() {
			for _, w := range words {
				if g.Send(w) != nil {
					failed() // Recv says why
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		case <-look.C:
			c.checkUp()
		}
	}
}

// words takes what there is to say.
func (c *Client) words() (all []*controlv1.ConnectRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = c.reported(time.Now())
	if c.yielded { // what else it would say now is the successor's affair
		return all
	}
	for _, e := range c.dirty {
		e.queued = false
		switch {
		case c.entries[e.entryID] != e:
		case e.want != nil:
			all = append(all, &controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Register{Register: e.want}})
		default:
			all = append(all, &controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Withdraw{Withdraw: e.withdraw}})
		}
	}
	c.dirty = nil
	for _, a := range c.anomalies.words(time.Now(), c.later) {
		all = append(all, &controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Anomaly{Anomaly: a}})
	}
	if c.applied != nil {
		all = append(all, &controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Applied{Applied: c.applied}})
		c.applied = nil
	}
	all = append(all, c.attended(time.Now())...)
	return append(all, c.condition()...)
}

// later rings after a while.
func (c *Client) later(d time.Duration) {
	time.AfterFunc(d, func() {
		c.mu.Lock()
		c.anomalies.timer = false
		c.mu.Unlock()
		c.ring()
	})
}

// Applied notes what the proxy goes by now, and has the Pilot told of the newest.
func (c *Client) Applied(generation uint64, hash string) {
	if c == nil {
		return
	}
	a := &controlv1.Applied{Generation: generation, Hash: hash}
	c.mu.Lock()
	defer c.mu.Unlock()
	if proto.Equal(c.current, a) {
		return
	}
	c.current, c.applied = a, a
	c.ring()
}
