package resource

import resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

const maxOpenCopies = 10_000 // of octo.resource.v1.Mirror

func (v *validator) mirror(at, own string, m *resourcev1.Mirror) {
	if m == nil {
		return
	}
	d := m.GetDestination()
	switch {
	case d == nil || d.GetTarget() == "" && len(d.GetSubset()) == 0:
		v.bad(at+".destination", "is missing: name a target, a subset or both")
	case d.Weight != nil:
		v.bad(at+".destination.weight", "a mirror's destination has none: permille says how many calls are copied")
	default:
		v.tags(at+".destination.subset", d.GetSubset())
		v.destination(at+".destination", own, d)
	}
	if m.GetPermille() == 0 {
		v.bad(at+".permille", "is missing: write 1000 to copy every call")
	}
	v.permille(at+".permille", m.GetPermille())
	v.duration(at+".timeout", m.GetTimeout(), maxPark)
	if m.GetMaxOpen() > maxOpenCopies {
		v.bad(at+".max_open", "%d is more than %d", m.GetMaxOpen(), maxOpenCopies)
	}
}
