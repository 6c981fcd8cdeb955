package control

import (
	"context"
	"errors"
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of the schemas that are held: those that were asked for last stay. Callers name them, so that they are few; none of them is
// needed for calls.
const (
	maxSchemas     = 64
	maxSchemaBytes = 4 << 20
)

// schemas are those that somebody has asked for. They are followed while they are held, and not kept on the disk.
type schemas struct {
	held  map[string]*schema // by target
	asked uint64
	bytes int
}

// schema is one of them.
type schema struct {
	known       bool                  // the control plane has answered
	version     string                // empty: there is none
	descriptors *resource.Descriptors // nil: there is none, or it cannot be read
	waiting     int                   // who waits for the answer
	last        uint64                // when it was asked for
}

func (s *schema) size() int {
	if s.descriptors == nil {
		return 0
	}
	return s.descriptors.Size
}

// Schema returns what a target serves by its schema; nil: it has none. The schema is followed from the first time that it is
// asked for, when its control plane's answer is waited for until ctx ends, and as long as no more than 64 others are asked for.
func (c *Client) Schema(ctx context.Context, target string) (*resource.Descriptors, error) {
	if !resource.IsName(target) {
		return nil, nil
	}
	c.mu.Lock()
	s, err := c.followSchema(target)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	s.waiting++ // it stays meanwhile
	defer func() {
		s.waiting--
		c.mu.Unlock()
	}()
	for !s.known {
		answered := c.answered
		c.mu.Unlock()
		select {
		case <-answered:
		case <-ctx.Done():
			c.mu.Lock()
			return nil, fmt.Errorf("the control plane has said nothing about the schema of %q: %w", target, context.Cause(ctx))
		}
		c.mu.Lock()
	}
	return s.descriptors, nil
}

// followSchema begins to follow a schema, or notes that it is asked for again. The lock is held.
func (c *Client) followSchema(target string) (*schema, error) {
	all := &c.schemas
	s := all.held[target]
	if s == nil {
		if len(all.held) >= maxSchemas && !c.leaveSchema("") {
			return nil, fmt.Errorf("%d schemas are waited for already", maxSchemas)
		}
		s = &schema{}
		all.held[target] = s
		if c.stream != nil {
			c.stream.say(c.state.subscription(resource.KindSchema, []string{target}, false))
		}
	}
	all.asked++
	s.last = all.asked
	return s, nil
}

// leaveSchema leaves the schema that was not asked for the longest, of all but one; false: all are waited for. The lock is held.
func (c *Client) leaveSchema(but string) bool {
	all, oldest := &c.schemas, ""
	for target, s := range all.held {
		if s.waiting == 0 && target != but && (oldest == "" || s.last < all.held[oldest].last) {
			oldest = target
		}
	}
	if oldest == "" {
		return false
	}
	all.bytes -= all.held[oldest].size()
	delete(all.held, oldest)
	if c.stream != nil {
		r := c.state.subscription(resource.KindSchema, []string{oldest}, false)
		r.ResourceNamesSubscribe, r.ResourceNamesUnsubscribe = nil, r.ResourceNamesSubscribe
		c.stream.say(r)
	}
	return true
}

// resumeSchemas is the request for those that are held, at the begin of a stream; nil: there are none. The lock is held.
func (c *Client) resumeSchemas() *discoveryv3.DeltaDiscoveryRequest {
	if len(c.schemas.held) == 0 {
		return nil
	}
	r := c.state.subscription(resource.KindSchema, nil, false)
	r.InitialResourceVersions = make(map[string]string)
	for target, s := range c.schemas.held {
		name := c.state.topic(resource.KindSchema, target).Name()
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
		if s.version != "" {
			r.InitialResourceVersions[name] = s.version
		}
	}
	return r
}

// takeSchemas takes what a response says of schemas, and returns what is wrong with it: what was before stays.
func (c *Client) takeSchemas(r *response) error {
	var problems []error
	for _, res := range r.Resources {
		if err := c.takeSchema(res); err != nil {
			problems = append(problems, fmt.Errorf("schema %q: %w", res.Name, err))
		}
	}
	c.mu.Lock()
	for _, name := range r.RemovedResources {
		if t, err := resource.ParseTopic(resource.KindSchema, name); err == nil && t.Environment == c.cfg.Environment {
			c.setSchema(t.Target, "", nil)
		}
	}
	close(c.answered)
	c.answered = make(chan struct{})
	c.mu.Unlock()
	err := errors.Join(problems...)
	if err != nil {
		c.cfg.Log.Error("a schema is refused, and what was before goes on", "error", err)
	}
	return err
}

func (c *Client) takeSchema(res *discoveryv3.Resource) error {
	t, err := resource.ParseTopic(resource.KindSchema, res.Name)
	if err != nil || t.Environment != c.cfg.Environment {
		return errors.Join(err, errForeign)
	}
	value := res.GetResource().GetValue()
	if len(value) > maxResource {
		return fmt.Errorf("it has %d bytes, and %d at most", len(value), maxResource)
	}
	c.mu.Lock()
	wanted := c.schemas.held[t.Target] != nil
	c.mu.Unlock()
	if !wanted {
		return nil
	}
	m := &resourcev1.Schema{}
	var d *resource.Descriptors
	if err = proto.Unmarshal(value, m); err == nil {
		d, err = resource.Describe(m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if s := c.schemas.held[t.Target]; s != nil {
			s.known = true
		}
		return err
	}
	c.setSchema(t.Target, res.Version, d)
	return nil
}

// setSchema notes what the control plane says of a target's schema, if it is held still. The lock is held.
func (c *Client) setSchema(target, version string, d *resource.Descriptors) {
	s := c.schemas.held[target]
	if s == nil {
		return
	}
	c.schemas.bytes -= s.size()
	s.known, s.version, s.descriptors = true, version, d
	for c.schemas.bytes += s.size(); c.schemas.bytes > maxSchemaBytes && c.leaveSchema(target); {
	}
}
