package register

import (
	"time"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	// anomalyEvery is how long there is at least between two words of one endpoint.
	anomalyEvery = 200 * time.Millisecond
	// maxAnomalies bounds the endpoints of which words wait, or were said a moment ago.
	maxAnomalies = 4096
	maxText      = 500 // bytes
)

type anomalyID struct {
	target, instance string
	kind             controlv1.Anomaly_Kind
}

// anomaly is what has gone wrong with one endpoint since the last word of it.
type anomaly struct {
	count uint64
	text  string
	said  time.Time
}

// anomalies are those of all endpoints. The client's lock guards them.
type anomalies struct {
	all   map[anomalyID]*anomaly
	timer bool // somebody rings when the next may be said
}

// Anomaly notes that something goes wrong with an endpoint, and has the Pilot told. It does not wait; what comes in
// between two words is counted.
func (c *Client) Anomaly(target, instance string, kind controlv1.Anomaly_Kind, text string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := anomalyID{target, instance, kind}
	a := c.anomalies.all[id]
	if a == nil {
		if len(c.anomalies.all) >= maxAnomalies {
			return
		}
		a = &anomaly{}
		c.anomalies.all[id] = a
	}
	a.count++
	a.text = text[:min(len(text), maxText)]
	c.ring()
}

// words are the anomalies that may be said now. The lock is held.
func (a *anomalies) words(now time.Time, later func(time.Duration)) (all []*controlv1.Anomaly) {
	waits := false
	for id, it := range a.all {
		switch since := now.Sub(it.said); {
		case it.count == 0 && since >= anomalyEvery:
			delete(a.all, id)
		case since < anomalyEvery:
			waits = true
		default:
			all = append(all, &controlv1.Anomaly{Target: id.target, Instance: id.instance, Kind: id.kind, Count: it.count, Text: it.text})
			it.count, it.text, it.said = 0, "", now
			waits = true
		}
	}
	if waits && !a.timer {
		a.timer = true
		later(anomalyEvery)
	}
	return all
}
