package session

import "time"

// CallInfo describes an open call for people.
type CallInfo struct {
	Direction string        `json:"direction"`
	Caller    string        `json:"caller"`
	Target    string        `json:"target"`
	Route     string        `json:"route"`
	Instance  string        `json:"instance,omitempty"`
	Upstream  string        `json:"upstream,omitempty"`
	Parked    bool          `json:"parked"`
	Age       time.Duration `json:"age_ns"`
	Left      time.Duration `json:"left_ns,omitempty"`
	Queued    int           `json:"queued_frames"`
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
		Direction: "outbound", Caller: string(c.Request.Caller), Parked: c.parked, Age: time.Duration(now - c.arrived),
		Queued: c.upQueue.len() + c.doQueue.len(),
	}
	if c.down.opts.Direction == Inbound {
		i.Direction = "inbound"
	}
	if c.Decision.Target != nil {
		i.Target, i.Route = c.Decision.Target.Name, c.Decision.Route.Name
	}
	if c.Endpoint != nil {
		i.Instance, i.Upstream = c.Endpoint.Instance, c.Endpoint.MeshAddress
	}
	if d := c.deadline.Load(); d != 0 {
		i.Left = time.Duration(d - now)
	}
	return i
}
