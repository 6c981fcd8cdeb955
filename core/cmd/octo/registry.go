package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
)

func runRegistry(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "registry", "status | confirm TARGET [INSTANCE...] -m WHY",
		"Shows targets whose registry is not heard, whose entries cannot be used, or of whom it says that more are gone than one\n"+
			"believes it; those instances are held until they are there again, or somebody confirms that they are gone. Held are\n"+
			"all, or more than half of four or more, that go without a reason. Without instances, confirm is for all that are held.").
		shows("table or json").changes()
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	conn, err := o.connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := dispatchv1.NewDispatchClient(conn)
	switch {
	case len(rest) == 1 && rest[0] == "status":
		res, err := client.Troubled(ctx, &dispatchv1.TroubledRequest{Environment: o.environment})
		if err != nil {
			return err
		}
		return showTroubled(o, res)
	case len(rest) >= 2 && rest[0] == "confirm":
		why, err := o.why()
		if err != nil {
			return err
		}
		res, err := client.Confirm(ctx, &dispatchv1.ConfirmRequest{
			Key: &dispatchv1.Key{Environment: o.environment, Target: rest[1]}, Instances: rest[2:], Reason: why.GetReason(), Author: why.GetAuthor(),
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%d instances of %s are gone\n", res.GetRemoved(), rest[1])
		return nil
	}
	return usage("octo registry status, or octo registry confirm TARGET [INSTANCE...]; -h says more")
}

func showTroubled(o *options, res *dispatchv1.TroubledResponse) error {
	if o.output == "json" {
		return showJSON(o.terminal.out, res)
	}
	if len(res.GetKeys()) == 0 {
		fmt.Fprintf(o.terminal.out, "nothing is wrong with what is followed in %s\n", o.environment)
		return nil
	}
	rows := [][]string{{"TARGET", "ENDPOINTS", "STATE", "HELD", "CANNOT BE USED", "ERROR"}}
	for _, k := range res.GetKeys() {
		state := "heard"
		if !k.GetLive() {
			state = "not heard for " + (time.Duration(k.GetAgeMs()) * time.Millisecond).Round(time.Second).String()
		}
		rows = append(rows, []string{
			k.GetKey().GetTarget(), strconv.FormatUint(uint64(k.GetEndpoints()), 10), state, strings.Join(k.GetHeld(), ","),
			strings.Join(k.GetRefused(), "; "), k.GetError(),
		})
	}
	table(o.terminal.out, rows)
	return nil
}
