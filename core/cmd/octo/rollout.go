package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
)

// look is how often one looks who waits for a roll-out's end.
const look = time.Second

// waving are the flags of commands whose changes may go in waves.
type waving struct {
	waves, force bool
	soak         time.Duration
}

// waves adds the flags.
func (o *options) waves() *waving {
	w := &waving{}
	o.flags.BoolVar(&w.waves, "waves", false, "bring it to one proxy first, then to 1 %, 10 %, 50 % and all; back if one refuses it or crashes (policies, auth policies, switches, schemas)")
	o.flags.DurationVar(&w.soak, "soak", time.Minute, "with --waves: how long each stage lasts at least")
	o.flags.BoolVar(&w.force, "force", false, "also what a roll-out has found to be bad, and switches for nodes that are not eligible; the history says that these were forced")
	return w
}

func (w *waving) request() *configv1.Waves {
	if !w.waves {
		return nil
	}
	return &configv1.Waves{Soak: durationpb.New(w.soak)}
}

// showBegun tells of a roll-out that has begun; 0: none has.
func showBegun(t *terminal, id uint64) {
	if id != 0 {
		fmt.Fprintf(t.out, "roll-out %d has begun; octo rollout show %d tells how it goes\n", id, id)
	}
}

var steerings = map[string]configv1.SteerRequest_Action{
	"pause": configv1.SteerRequest_ACTION_PAUSE, "resume": configv1.SteerRequest_ACTION_RESUME, "advance": configv1.SteerRequest_ACTION_ADVANCE,
	"finish": configv1.SteerRequest_ACTION_FINISH, "revert": configv1.SteerRequest_ACTION_REVERT,
}

func runRollout(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "rollout", "list | show ID [--wait] | pause|resume|advance|finish|revert ID -m WHY",
		"Shows changes that go in waves, and what an operator says of them:\n"+
			"  pause    it stays at its stage; it is taken back all the same if a proxy refuses it\n"+
			"  resume   it goes on\n"+
			"  advance  to the next stage, at once\n"+
			"  finish   to all proxies, at once\n"+
			"  revert   back to what was before, everywhere").shows("table or json").changes()
	wait := o.flags.Bool("wait", false, "show: wait until it is over; ends with 1 if it was taken back")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || o.output == "yaml" {
		return usage("octo rollout list, or octo rollout show ID")
	}
	var id uint64
	what, steer := rest[0], steerings[rest[0]]
	switch {
	case what == "list" && len(rest) == 1:
	case (what == "show" || steer != 0) && len(rest) == 2:
		if id, err = strconv.ParseUint(rest[1], 10, 64); err != nil || id == 0 {
			return usage("%q is no roll-out's number; octo rollout list has them", rest[1])
		}
	default:
		return usage("octo rollout list, show ID, or pause, resume, advance, finish, revert ID")
	}
	request := &configv1.SteerRequest{Environment: o.environment, Id: id, Action: steer}
	if steer != 0 {
		if request.Why, err = o.why(); err != nil {
			return err
		}
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	if steer == 0 {
		return o.showRollouts(ctx, client, id, *wait)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := client.Steer(ctx, request)
	if err != nil {
		return err
	}
	showRollout(t, r.GetRollout())
	return nil
}

func (o *options) showRollouts(ctx context.Context, client configv1.ConfigClient, id uint64, wait bool) error {
	ask := func() (*configv1.RolloutsResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return client.Rollouts(ctx, &configv1.RolloutsRequest{Environment: o.environment, Id: id})
	}
	all, err := ask()
	for err == nil && wait && id != 0 && !over(all.GetRollouts()[0]) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		all, err = ask()
	}
	switch {
	case err != nil:
		return err
	case o.output == "json":
		err = showJSON(o.terminal.out, all)
	case id == 0:
		table(o.terminal.out, rolloutRows(all.GetRollouts()))
	default:
		showRollout(o.terminal, all.GetRollouts()[0])
	}
	if err == nil && wait && id != 0 && all.GetRollouts()[0].GetPhase() == configv1.Rollout_PHASE_REVERTED {
		return &exit{exitFailed, ""}
	}
	return err
}

func over(r *configv1.Rollout) bool {
	return r.GetPhase() == configv1.Rollout_PHASE_DONE || r.GetPhase() == configv1.Rollout_PHASE_REVERTED
}

// stages are what proxies have a change, by stage.
var stages = []string{"1 proxy", "1 %", "10 %", "50 %", "100 %"}

func phaseOf(r *configv1.Rollout) string {
	return strings.ToLower(strings.TrimPrefix(r.GetPhase().String(), "PHASE_"))
}

func rolloutRows(all []*configv1.Rollout) [][]string {
	rows := [][]string{{"ID", "PHASE", "STAGE", "PROXIES", "RESOURCES", "BEGUN", "BY", "WHY"}}
	for _, r := range all {
		var names []string
		for _, p := range r.GetParts() {
			names = append(names, p.GetName())
		}
		by := r.GetAuthor()
		if !r.GetVerified() {
			by += " (unproved)"
		}
		rows = append(rows, []string{
			fmt.Sprint(r.GetId()), phaseOf(r), stages[min(int(r.GetStage()), len(stages)-1)], proxies(r), strings.Join(names, " "),
			r.GetBegun().AsTime().Format("2006-01-02 15:04:05Z"), by, r.GetReason(),
		})
	}
	return rows
}

// proxies says how many have it.
func proxies(r *configv1.Rollout) string {
	p := r.GetProgress()
	if p == nil {
		return ""
	}
	out := fmt.Sprintf("%d of %d", p.GetApplied(), p.GetConnected())
	if p.GetWaiting() > 0 {
		out += fmt.Sprintf(", %d asked", p.GetWaiting())
	}
	return out
}

func showRollout(t *terminal, r *configv1.Rollout) {
	table(t.out, rolloutRows([]*configv1.Rollout{r}))
	if p := r.GetProgress(); p != nil && p.GetConnected() == 0 && !over(r) {
		fmt.Fprintln(t.out, "no connected proxy follows what is rolled out: it begins when one does, or by octo rollout finish")
	}
	fmt.Fprintln(t.out)
	rows := [][]string{{"TIME", "WHAT", "BY"}}
	for _, e := range r.GetEvents() {
		rows = append(rows, []string{e.GetTime().AsTime().Format("2006-01-02 15:04:05Z"), e.GetText(), e.GetAuthor()})
	}
	table(t.out, rows)
}
