package resource

import (
	"fmt"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Bounds of octo.resource.v1.Balancing and OutlierEjection.
const (
	maxWindow   = time.Hour
	maxEjection = 24 * time.Hour
	lastCode    = 16 // of google.rpc.Code
)

func (v *validator) balancing(at string, b *resourcev1.Balancing) {
	if b == nil {
		return
	}
	known(v, at+".balancer", b.GetBalancer())
	if b.GetMaxOpenCallsPerEndpoint() > maxCalls {
		v.bad(at+".max_open_calls_per_endpoint", "%d is more than %d", b.GetMaxOpenCallsPerEndpoint(), maxCalls)
	}
	slow := b.GetSlowStart()
	if slow == nil {
		return
	}
	at += ".slow_start"
	v.positive(at+".window", slow.GetWindow(), maxWindow)
	v.permille(at+".initial_permille", slow.GetInitialPermille())
	if b.GetBalancer() == resourcev1.Balancer_BALANCER_RING_HASH {
		v.warn(at, "does nothing for calls with a hash key: BALANCER_RING_HASH does not heed it")
	}
}

// known checks that an enum's number, which may have come otherwise than by its name, is one of its values.
func known(v *validator, field string, e protoreflect.Enum) {
	if e.Descriptor().Values().ByNumber(e.Number()) == nil {
		v.bad(field, "%d is no value of %s", e.Number(), e.Descriptor().Name())
	}
}

// positive checks a duration that must be there and above 0.
func (v *validator) positive(field string, d *durationpb.Duration, limit time.Duration) {
	v.duration(field, d, limit)
	switch {
	case d == nil:
		v.bad(field, "is missing")
	case d.CheckValid() == nil && d.AsDuration() == 0:
		v.bad(field, "is 0")
	}
}

func (v *validator) permille(field string, n uint32) {
	if n > 1000 {
		v.bad(field, "%d is more than 1000, the whole", n)
	}
}

func (v *validator) outlierEjection(at string, o *resourcev1.OutlierEjection) {
	if o == nil {
		return
	}
	v.permille(at+".failure_permille", o.GetFailurePermille())
	v.duration(at+".window", o.GetWindow(), maxWindow)
	v.codes(at+".failure_codes", o.GetFailureCodes())
	v.duration(at+".ejection_time", o.GetEjectionTime(), maxEjection)
	v.duration(at+".max_ejection_time", o.GetMaxEjectionTime(), maxEjection)
	if limit := o.GetMaxEjectionTime().AsDuration(); limit > 0 && limit < o.GetEjectionTime().AsDuration() {
		v.bad(at+".max_ejection_time", "%s is less than ejection_time, %s", limit, o.GetEjectionTime().AsDuration())
	}
	if o.GetMaxEjectedPercent() > 100 {
		v.bad(at+".max_ejected_percent", "%d is more than 100, the whole", o.GetMaxEjectedPercent())
	}
	switch {
	case o.ConsecutiveFailures != nil && o.GetConsecutiveFailures() == 0 && o.GetFailurePermille() == 0:
		v.warn(at, "ejects nothing: consecutive_failures and failure_permille are both 0")
	case o.MaxEjectedPercent != nil && o.GetMaxEjectedPercent() == 0:
		v.warn(at+".max_ejected_percent", "is 0: nothing is ejected")
	}
}

// codes checks codes of google.rpc.Code that stand for failures.
func (v *validator) codes(at string, codes []uint32) {
	if len(codes) > lastCode {
		v.bad(at, "holds more than %d codes", lastCode)
		return
	}
	for i, c := range codes {
		if c < 1 || c > lastCode {
			v.bad(fmt.Sprintf("%s[%d]", at, i), "%d is no code from 1 to %d", c, lastCode)
		}
	}
}
