package sourcetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	sourcetest.Contract(t, func(*testing.T) *sourcetest.Subject {
		m := sourcetest.NewMemory()
		return &sourcetest.Subject{
			Source:  m,
			Put:     func(_ *testing.T, key source.Key, e *resourcev1.Endpoint) { m.Put(key, e) },
			Remove:  func(_ *testing.T, key source.Key, instance string) { m.Remove(key, source.Deregistered, instance) },
			Removed: source.Deregistered,
			Cut:     func(*testing.T) { m.Cut() },
			Heal:    func(*testing.T) { m.Heal() },
			Forget:  func(*testing.T) { m.Lose() },
			Registrar: func(*testing.T) (source.Registrar, func()) {
				r := m.Client()
				return r, r.Crash
			},
			Deregistered: source.Deregistered, Expired: source.Expired,
		}
	})
}
