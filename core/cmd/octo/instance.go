package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// defaultWeight is an instance's that names none.
const defaultWeight = 100

func runInstance(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "instance", "list TARGET | enable|disable TARGET INSTANCE -m WHY | weight TARGET INSTANCE WEIGHT -m WHY | reset TARGET INSTANCE -m WHY",
		"Shows who serves a target, and says of single instances what holds over whatever they register, also over their restarts:\n"+
			"  disable  it gets no calls\n"+
			"  enable   it gets calls, also where its registration says that it is disabled\n"+
			"  weight   its share of calls, relative to the other instances; 0: none\n"+
			"  reset    as it registers").shows("table or json").changes()
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch {
	case len(rest) == 2 && rest[0] == "list":
		return listInstances(ctx, o, rest[1])
	case len(rest) == 3 && (rest[0] == "enable" || rest[0] == "disable"):
		return override(ctx, o, rest[1], rest[2], func(r *resourcev1.InstanceOverride) { r.Disabled = proto.Bool(rest[0] == "disable") })
	case len(rest) == 3 && rest[0] == "reset":
		return resetInstance(ctx, o, rest[1], rest[2])
	case len(rest) == 4 && rest[0] == "weight":
		weight, err := strconv.ParseUint(rest[3], 10, 32)
		if err != nil {
			return usage("weight %q: want a number from 0 to 1000000", rest[3])
		}
		return override(ctx, o, rest[1], rest[2], func(r *resourcev1.InstanceOverride) { r.Weight = proto.Uint32(uint32(weight)) })
	}
	return usage("octo instance list TARGET, or enable, disable, weight or reset TARGET INSTANCE; -h says more")
}

// overrideName is an override's among resources.
func overrideName(target, instance string) string { return "instance/" + target + "," + instance }

// override changes what an operator says of an instance, unless somebody else does at the same time.
func override(ctx context.Context, o *options, target, instance string, change func(*resourcev1.InstanceOverride)) error {
	why, err := o.why()
	if err != nil {
		return err
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	name := overrideName(target, instance)
	said := &resourcev1.InstanceOverride{Target: target, Instance: instance}
	var revision uint64
	switch got, err := client.Get(ctx, &configv1.GetRequest{Environment: o.environment, Name: name}); {
	case status.Code(err) == codes.NotFound:
	case err != nil:
		return err
	default:
		revision = got.GetVersion().GetRevision()
		if all := got.GetVersion().GetResource().GetInstances(); len(all) == 1 {
			said = all[0]
		}
	}
	change(said)
	content, err := protojson.Marshal(&resourcev1.Configuration{Instances: []*resourcev1.InstanceOverride{said}})
	if err != nil {
		return err
	}
	res, err := client.Apply(ctx, &configv1.ApplyRequest{
		Environment: o.environment, Why: why, Files: []*configv1.File{{Name: "octo instance", Content: content}},
		Revisions: map[string]uint64{name: revision},
	})
	if err != nil {
		return err
	}
	showProblems(o.terminal.err, res.GetWarnings())
	showChanges(o.terminal.out, res.GetChanges(), "")
	return nil
}

func resetInstance(ctx context.Context, o *options, target, instance string) error {
	why, err := o.why()
	if err != nil {
		return err
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	res, err := client.Delete(ctx, &configv1.DeleteRequest{Environment: o.environment, Names: []string{overrideName(target, instance)}, Why: why})
	if err != nil {
		return err
	}
	showChanges(o.terminal.out, res.GetChanges(), "")
	return nil
}

// listInstances shows what is registered, and what operators say of it.
func listInstances(ctx context.Context, o *options, target string) error {
	conn, err := o.connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	registered, degraded, err := registeredIn(ctx, conn, &dispatchv1.Key{Environment: o.environment, Target: target})
	if err != nil {
		return err
	}
	said, err := overridesOf(ctx, conn, o.environment, target)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return showJSON(o.terminal.out, &resourcev1.Snapshot{Environment: o.environment, Endpoints: overridden(registered, said)})
	}
	if degraded {
		fmt.Fprintln(o.terminal.err, "octo instance: the registry is not heard at the moment: this may be old")
	}
	rows := [][]string{{"INSTANCE", "MESH ADDRESS", "DIRECT ADDRESS", "WEIGHT", "ZONE", "TAGS", "STATE"}}
	for _, e := range registered {
		rows = append(rows, instanceRow(e, said[e.GetInstance()]))
		delete(said, e.GetInstance())
	}
	for _, v := range sortedOverrides(said) { // of those that are not there at the moment
		rows = append(rows, instanceRow(&resourcev1.Endpoint{Instance: v.override.GetInstance()}, v))
		rows[len(rows)-1][6] = "not registered; " + rows[len(rows)-1][6]
	}
	if len(rows) == 1 {
		fmt.Fprintf(o.terminal.out, "%s has no instances in %s\n", target, o.environment)
		return nil
	}
	table(o.terminal.out, rows)
	return nil
}

// spoken is what an operator says of an instance, and who.
type spoken struct {
	override *resourcev1.InstanceOverride
	by       string
}

func instanceRow(e *resourcev1.Endpoint, said *spoken) []string {
	weight, state := uint32(defaultWeight), "enabled"
	if e.Weight != nil {
		weight = e.GetWeight()
	}
	disabled, who := e.GetDisabled(), ""
	text := strconv.FormatUint(uint64(weight), 10)
	if said != nil {
		if w := said.override.Weight; w != nil {
			text = fmt.Sprintf("%d (registered: %d)", *w, weight)
		}
		if d := said.override.Disabled; d != nil {
			disabled = *d
		}
		who = ", by " + said.by
	}
	if disabled {
		state = "disabled"
	}
	var tags []string
	for k, v := range e.GetTags() {
		tags = append(tags, k+"="+v)
	}
	slices.Sort(tags)
	return []string{e.GetInstance(), e.GetMeshAddress(), e.GetDirectAddress(), text, e.GetZone(), strings.Join(tags, ","), state + who}
}

// registeredIn asks a Dispatcher for all endpoints of a target.
func registeredIn(ctx context.Context, conn grpc.ClientConnInterface, key *dispatchv1.Key) (all []*resourcev1.Endpoint, degraded bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := dispatchv1.NewDispatchClient(conn).Watch(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := s.Send(&dispatchv1.WatchRequest{Follow: []*dispatchv1.Key{key}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	for {
		r, err := s.Recv()
		if status.Code(err) == codes.Unimplemented {
			return nil, false, status.Error(codes.Unimplemented, "there is no Dispatcher at this address: give --server one's")
		}
		if err != nil {
			return nil, false, err
		}
		if r.GetRefused() != "" {
			return nil, false, status.Error(codes.InvalidArgument, r.GetRefused())
		}
		for _, e := range r.GetEndpoints() {
			if e.GetStanding() != resourcev1.Standing_STANDING_LEFT { // the last word of who has gone
				all = append(all, e)
			}
		}
		if !r.GetMore() {
			slices.SortFunc(all, func(a, b *resourcev1.Endpoint) int { return strings.Compare(a.GetInstance(), b.GetInstance()) })
			return all, r.GetDegraded(), nil
		}
	}
}

// overridesOf asks the Config Server what operators say of a target's instances.
func overridesOf(ctx context.Context, conn grpc.ClientConnInterface, environment, target string) (map[string]*spoken, error) {
	res, err := configv1.NewConfigClient(conn).List(ctx, &configv1.ListRequest{Environment: environment, Kind: "instance"})
	if status.Code(err) == codes.Unimplemented {
		return nil, nil // a Dispatcher that runs apart
	}
	if err != nil {
		return nil, err
	}
	all := make(map[string]*spoken)
	for _, v := range res.GetVersions() {
		for _, r := range v.GetResource().GetInstances() {
			if r.GetTarget() == target {
				all[r.GetInstance()] = &spoken{r, fmt.Sprintf("%s: %s", v.GetAuthor(), v.GetReason())}
			}
		}
	}
	return all, nil
}

func sortedOverrides(said map[string]*spoken) []*spoken {
	var all []*spoken
	for _, v := range said {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *spoken) int { return strings.Compare(a.override.GetInstance(), b.override.GetInstance()) })
	return all
}

// overridden are endpoints as proxies are told of them.
func overridden(registered []*resourcev1.Endpoint, said map[string]*spoken) (all []*resourcev1.Endpoint) {
	for _, e := range registered {
		e = proto.CloneOf(e)
		if v := said[e.GetInstance()]; v != nil {
			e.Disabled = e.GetDisabled() && v.override.Disabled == nil || v.override.GetDisabled()
			if v.override.Weight != nil {
				e.Weight = v.override.Weight
			}
		}
		all = append(all, e)
	}
	return all
}
