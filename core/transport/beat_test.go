package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTicksComeAWholePeriodAfterTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBeat()
		defer b.Stop()
		for i, late := range []time.Duration{0, 100 * time.Millisecond, lateAfter, lateAfter + 1, 0, time.Hour, 0} {
			select {
			case <-b.C():
				t.Errorf("tick %d comes too soon", i)
			case <-time.After(TickEvery - 1):
			}
			time.Sleep(1 + late) // the owner is not served before
			<-b.C()
			if inTime := b.Take(); inTime != (late <= lateAfter) {
				t.Errorf("tick %d, late by %v: in time: %v", i, late, inTime)
			}
		}
	})
}
