package resource

import (
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of octo.resource.v1.RetryPolicy and RetryBudget.
const (
	maxAttempts  = 10
	maxBackoff   = time.Minute
	maxKeptBytes = 64 << 10
	maxTokens    = 10_000
)

func (v *validator) retries(at string, r *resourcev1.RetryPolicy) {
	if r == nil {
		return
	}
	if r.GetMaxAttempts() > maxAttempts {
		v.bad(at+".max_attempts", "%d is more than %d", r.GetMaxAttempts(), maxAttempts)
	}
	v.codes(at+".codes", r.GetCodes())
	v.duration(at+".attempt_timeout", r.GetAttemptTimeout(), maxTimeout)
	v.duration(at+".backoff", r.GetBackoff(), maxBackoff)
	v.duration(at+".max_backoff", r.GetMaxBackoff(), maxBackoff)
	if limit := r.GetMaxBackoff().AsDuration(); limit > 0 && limit < r.GetBackoff().AsDuration() {
		v.bad(at+".max_backoff", "%s is less than backoff, %s", limit, r.GetBackoff().AsDuration())
	}
	if r.GetMaxKeptBytes() > maxKeptBytes {
		v.bad(at+".max_kept_bytes", "%d is more than %d", r.GetMaxKeptBytes(), maxKeptBytes)
	}
	if r.GetMaxAttempts() == 1 && (len(r.GetCodes()) > 0 || r.GetAttemptTimeout().AsDuration() > 0) {
		v.warn(at+".max_attempts", "is 1: no call goes again, whatever else is said here")
	}
}

func (v *validator) retryBudget(at string, b *resourcev1.RetryBudget) {
	v.permille(at+".success_permille", b.GetSuccessPermille())
	if b.GetMinPerSecond() > maxTokens {
		v.bad(at+".min_per_second", "%d is more than %d", b.GetMinPerSecond(), maxTokens)
	}
	if b.GetBurst() > maxTokens {
		v.bad(at+".burst", "%d is more than %d", b.GetBurst(), maxTokens)
	}
}
