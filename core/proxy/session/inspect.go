package session

import (
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/proxy/route"
)

// CallInfo describes an open call for people.
type CallInfo struct {
	Direction       route.Direction
	Caller, Target  string
	Service, Method string
	Route           string
	Instance        string // that has it; empty: none yet
	Parked          bool
	Queued          int           // frames that wait for credit
	Age, Left       time.Duration // Left is 0 without a deadline
}

// AppendCalls appends what is known of the calls that came in here and are open.
func (s *Session) AppendCalls(out []CallInfo, now int64) []CallInfo {
	var open []*Call
	s.tc.Lock()
	s.wc.Each(func(call any) {
		if c, ok := call.(*Call); ok && c.down == s {
			c.hold()
			open = append(open, c)
		}
	})
	s.tc.Unlock()
	for _, c := range open {
		c.mu.Lock()
		if !c.gone {
			out = append(out, c.info(now))
		}
		c.mu.Unlock()
		c.drop()
	}
	return out
}

func (c *Call) info(now int64) CallInfo {
	i := CallInfo{
		Direction: c.down.opts.Direction, Caller: string(c.down.caller), Parked: c.parked,
		Age: time.Duration(now - c.arrived), Queued: c.upQueue.len() + c.doQueue.len(),
	}
	i.Service, i.Method, _ = strings.Cut(string(c.name[:c.nameLen]), "/")
	if c.Decision.Target != nil {
		i.Target, i.Route = c.Decision.Target.Name, c.Decision.Route.Name
	}
	if c.Endpoint != nil {
		i.Instance = c.Endpoint.Instance
	}
	if d := c.deadline.Load(); d != 0 {
		i.Left = time.Duration(d - now)
	}
	return i
}
