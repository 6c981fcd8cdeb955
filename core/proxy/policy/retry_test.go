package policy_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// budget returns one with so many tokens and no more.
func budget(tokens int64) *policy.Budget {
	return policy.NewBudget(policy.BudgetRules{Burst: tokens}, &policy.Tokens{}, func() uint64 { return 0 })
}

func status(code wire.Code, reason wire.Reason, d wire.Disposition) *wire.Status {
	return &wire.Status{Code: code, Reason: reason, Disposition: d}
}

func TestWhichCallsGoAgain(t *testing.T) {
	notProcessed := status(wire.Unavailable, wire.ReasonProxyUnready, wire.DispositionNotProcessed)
	isLost := status(wire.Unavailable, wire.ReasonConnectionLost, wire.DispositionUnknown)
	application := status(wire.Unavailable, 0, wire.DispositionProcessed)
	slow := status(wire.DeadlineExceeded, wire.ReasonDeadline, wire.DispositionUnknown)
	rules := policy.RetryRules{MaxAttempts: 3, Codes: policy.CodesOf([]uint32{8, 14}), Backoff: second, MaxBackoff: 2 * second}
	patient := rules
	patient.AttemptTimeout = second
	def := policy.RetryRules{MaxAttempts: 2, ElsewhereOnly: true}
	const yes, no = true, false
	for name, c := range map[string]struct {
		rules          policy.RetryRules
		a              policy.Attempt
		again          bool
		atLeast, below int64 // of the wait
	}{
		"not processed, elsewhere":         {def, policy.Attempt{Status: notProcessed, Kept: yes, Elsewhere: yes}, yes, 0, 1},
		"not processed, nowhere else":      {def, policy.Attempt{Status: notProcessed, Kept: yes}, no, 0, 0},
		"the same by a policy":             {rules, policy.Attempt{Status: notProcessed, Kept: yes}, yes, second / 2, 3*second/2 + 1},
		"not kept":                         {rules, policy.Attempt{Status: notProcessed, Elsewhere: yes, Idempotent: yes}, no, 0, 0},
		"the last attempt":                 {def, policy.Attempt{Status: notProcessed, Kept: yes, Elsewhere: yes, Number: 1}, no, 0, 0},
		"one attempt only":                 {policy.RetryRules{MaxAttempts: 1}, policy.Attempt{Status: notProcessed, Kept: yes, Elsewhere: yes}, no, 0, 0},
		"lost, not idempotent":             {rules, policy.Attempt{Status: isLost, Kept: yes, Elsewhere: yes}, no, 0, 0},
		"lost, idempotent":                 {rules, policy.Attempt{Status: isLost, Kept: yes, Elsewhere: yes, Idempotent: yes}, yes, second / 2, 3*second/2 + 1},
		"lost, idempotent, by default":     {def, policy.Attempt{Status: isLost, Kept: yes, Elsewhere: yes, Idempotent: yes}, no, 0, 0},
		"the second wait is longer":        {rules, policy.Attempt{Status: isLost, Kept: yes, Idempotent: yes, Number: 1}, yes, second, 3*second + 1},
		"an application's word":            {rules, policy.Attempt{Status: application, Kept: yes, Idempotent: yes}, yes, second / 2, 2 * second},
		"a code that is not listed":        {rules, policy.Attempt{Status: status(wire.Internal, 0, wire.DispositionProcessed), Kept: yes, Idempotent: yes}, no, 0, 0},
		"a code of no name":                {rules, policy.Attempt{Status: status(77, 0, wire.DispositionProcessed), Kept: yes, Idempotent: yes}, no, 0, 0},
		"slow, with attempts limited":      {patient, policy.Attempt{Status: slow, Kept: yes, Idempotent: yes}, yes, second / 2, 2 * second},
		"slow, without":                    {rules, policy.Attempt{Status: slow, Kept: yes, Idempotent: yes}, no, 0, 0},
		"refused by policy":                {rules, policy.Attempt{Status: status(wire.ResourceExhausted, wire.ReasonRateLimited, wire.DispositionNotProcessed), Kept: yes, Idempotent: yes, Elsewhere: yes}, no, 0, 0},
		"refused for overload":             {rules, policy.Attempt{Status: status(wire.ResourceExhausted, wire.ReasonQueueFull, wire.DispositionNotProcessed), Kept: yes, Idempotent: yes, Elsewhere: yes}, no, 0, 0},
		"not enough time":                  {rules, policy.Attempt{Status: isLost, Kept: yes, Idempotent: yes, Now: second, Deadline: second + second/2}, no, 0, 0},
		"an unprocessed one that may have": {rules, policy.Attempt{Status: status(wire.Unavailable, wire.ReasonProxyUnready, wire.DispositionUnknown), Kept: yes}, no, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.a.Now = max(c.a.Now, 1)
			wait, again := policy.NewRetries(c.rules, budget(1), &policy.RetryCounts{}).Again(c.a)
			if again != c.again || again && (wait < c.atLeast || wait >= c.below) {
				t.Errorf("%v after %d", again, wait)
			}
		})
	}
}

func TestServersPushbackIsHeeded(t *testing.T) {
	r := policy.NewRetries(policy.RetryRules{MaxAttempts: 2, Codes: policy.CodesOf([]uint32{14})}, budget(5), &policy.RetryCounts{})
	ask := func(ms uint32, deadline int64) (int64, bool) {
		st := status(wire.Unavailable, 0, wire.DispositionProcessed)
		st.RetryAfterMS = ms
		return r.Again(policy.Attempt{Status: st, Kept: true, Idempotent: true, Now: 1, Deadline: deadline})
	}
	if wait, again := ask(1500, 0); !again || wait != 1500*second/1000 {
		t.Errorf("%v after %d", again, wait)
	}
	if _, again := ask(1500, second); again {
		t.Error("it goes again after its deadline")
	}
	if _, again := ask(60_000, 0); again {
		t.Error("a call is held for a minute")
	}
}

func TestBudgetFillsByWhatSucceedsAndByTime(t *testing.T) {
	succeeded := uint64(0)
	tokens := &policy.Tokens{}
	rules := policy.BudgetRules{SuccessPermille: 100, MinPerSecond: 2, Burst: 10}
	now := int64(1)
	took := func() (n int) {
		// A new generation's budget goes on with the tokens.
		r := policy.NewRetries(policy.RetryRules{MaxAttempts: 2}, policy.NewBudget(rules, tokens, func() uint64 { return succeeded }), &policy.RetryCounts{})
		for {
			st := status(wire.Unavailable, wire.ReasonProxyUnready, wire.DispositionNotProcessed)
			if _, again := r.Again(policy.Attempt{Status: st, Kept: true, Elsewhere: true, Now: now}); !again {
				return n
			}
			n++
		}
	}
	for _, step := range []struct {
		elapsed   int64
		successes uint64
		want      int
	}{
		{0, 0, 10}, // the burst
		{0, 0, 0}, {second, 0, 2}, {second / 4, 0, 0}, {second / 4, 0, 1}, {0, 30, 3}, {0, 5, 0}, {0, 5, 1},
		{second, 40, 4}, // the greater of both, not their sum
		{3600 * second, 0, 10}, {0, 1_000_000, 10},
	} {
		now += step.elapsed
		succeeded += step.successes
		if n := took(); n != step.want {
			t.Errorf("after %d ns and %d successes %d tokens, want %d", step.elapsed, step.successes, n, step.want)
		}
	}
}
