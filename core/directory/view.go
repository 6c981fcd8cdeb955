package directory

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// View is what a source knows of a target. It is immutable, and shared by all who watch the target: the endpoints are
// encoded once for all of them.
type View struct {
	State         directoryv1.WatchResponse_State
	DeletedReason string
	// Endpoints is the field of a WatchResponse, encoded; Count is how many there are.
	Endpoints []byte
	Count     int
	// Revision rises when the endpoints change.
	Revision uint64
	// Switches are by calling application, and "*".
	Switches        map[string]*resourcev1.MeshSwitch
	DirectForbidden bool
	// Silent is since when the source has not heard from where it learns this. Zero: it hears.
	Silent time.Time
	// Degraded says that it is old, whoever hears whom: the registry itself is not heard.
	Degraded bool
}

// Unknown is a view of which nothing has been said yet.
func Unknown(silent time.Time) *View { return &View{Silent: silent} }

// Resources are what is known of one target.
type Resources struct {
	// Endpoints are by instance, each as [Encode] gives it.
	Endpoints map[string][]byte
	Policy    *resourcev1.ServicePolicy // nil: none
	Auth      bool                      // it has an AuthPolicy
	Switches  map[string]*resourcev1.MeshSwitch
}

// Of makes a view of a target all about which is known.
func Of(r Resources, revision uint64) *View {
	v := &View{Revision: revision, Switches: r.Switches, DirectForbidden: r.Policy.GetDirectForbidden(), Count: len(r.Endpoints)}
	v.State = directoryv1.WatchResponse_STATE_PRESENT
	if len(r.Endpoints) == 0 && len(r.Switches) == 0 && r.Policy == nil && !r.Auth {
		v.State = directoryv1.WatchResponse_STATE_DELETED
		v.DeletedReason = "no instance is registered, and nothing is configured for it"
	}
	for _, name := range slices.Sorted(maps.Keys(r.Endpoints)) {
		v.Endpoints = append(v.Endpoints, r.Endpoints[name]...)
	}
	return v
}

// endpointsField is the number of WatchResponse.endpoints.
const endpointsField = 8

// defaultWeight is that of an instance that names none.
const defaultWeight = 100

// Encode gives an instance as a direct caller sees it: one element of a WatchResponse's endpoints, with its tag.
func Encode(name string, e *resourcev1.Endpoint) []byte {
	d := &directoryv1.Endpoint{
		Instance: name, Incarnation: e.GetIncarnation(), DirectAddress: e.GetDirectAddress(), Weight: defaultWeight,
		Zone: e.GetZone(), Tags: e.GetTags(), Disabled: e.GetDisabled(), TlsIdentity: e.GetDirectIdentity(),
		DirectHealthy: e.GetDirectAddress() != "", // until somebody checks it
	}
	if e.GetDirectProtocol() != resourcev1.Protocol_PROTOCOL_UNSPECIFIED { // SDKs do not speak it
		d.DirectAddress, d.DirectHealthy, d.TlsIdentity = "", false, ""
	}
	if e.Weight != nil {
		d.Weight = e.GetWeight()
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
	if err != nil {
		return nil // a text that is not UTF-8, which validation lets nobody have
	}
	b := protowire.AppendTag(make([]byte, 0, len(encoded)+8), endpointsField, protowire.BytesType)
	return protowire.AppendBytes(b, encoded)
}

// response is the view as a caller sees it: one application on one node.
func (v *View) response(source directoryv1.WatchResponse_Source, application, node string) *directoryv1.WatchResponse {
	r := &directoryv1.WatchResponse{
		State: v.State, DeletedReason: v.DeletedReason, Source: source, EndpointsRevision: v.Revision,
		DirectForbidden: v.DirectForbidden, MeshSwitch: switchFor(v.Switches, application, node), Stale: v.Degraded,
	}
	if !v.Silent.IsZero() {
		age := max(time.Since(v.Silent), 0)
		r.AgeMs = uint64(age.Milliseconds())
		r.Stale = r.Stale || age >= StaleAfter
	}
	// As a field that this message does not know, the bytes go out as they are; who receives them knows the field.
	r.ProtoReflect().SetUnknown(v.Endpoints)
	return r
}

// switchFor is the mesh switch of an application's calls from a node: the application's own, or that of all.
func switchFor(all map[string]*resourcev1.MeshSwitch, application, node string) *directoryv1.MeshSwitch {
	s := all[application]
	if s == nil {
		s = all[resource.EveryApplication]
	}
	if s == nil {
		return nil
	}
	return &directoryv1.MeshSwitch{Permille: resource.Share(s, node), Revision: s.GetRevision()}
}
