package control

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is what a process holds, in bytes; resident and peak are 0 where the system does not say.
type memory struct {
	Resident, Peak int // peak since [resetPeak]
	Heap, Stacks   int
	Goroutines     int
}

// measure looks at this process. After a collection it says what is needed, without what the collector may leave.
func measure(collected bool) memory {
	if collected {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{status("VmRSS:"), status("VmHWM:"), int(m.HeapInuse), int(m.StackInuse), runtime.NumGoroutine()}
}

// status reads a size from what the system says of this process.
func status(field string) int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if f := bytes.Fields(lines.Bytes()); len(f) == 3 && string(f[0]) == field {
			n, _ := strconv.Atoi(string(f[1]))
			return n << 10
		}
	}
	return 0
}

// resetPeak has the peak begin anew, where the system can.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// profile writes what this process does until stop; no file: nothing.
func profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// profileHeap writes what this process holds, beside its other profile.
func profileHeap(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file + ".heap")
	if err != nil {
		return err
	}
	runtime.GC()
	err = pprof.WriteHeapProfile(f)
	return errors.Join(err, f.Close())
}

// quantiles puts latencies into a report.
func (r *report) quantiles(times []time.Duration) {
	r.Times = len(times)
	if n := len(times); n > 0 {
		slices.Sort(times)
		r.P50, r.P90, r.P99, r.Max = times[n/2], times[n*9/10], times[n*99/100], times[n-1]
	}
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func mb(bytes int) float64 { return float64(bytes) / (1 << 20) }
