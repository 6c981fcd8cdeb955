package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ShiftClock puts the wall clock of one process away from the host's, whatever the process is: its monotonic clock, other
// processes and their timers stay as they are. 0 puts it right again.
//
// Time namespaces do not have this, and what is preloaded does not see a Go program's calls. So the functions of the page
// that the kernel gives to each process (the vDSO), by which programs read clocks, are replaced in this process by ones that
// ask the kernel and add to what it says. It needs what a debugger needs. Where that is not to be had the error is of kind
// [errors.ErrUnsupported].
func ShiftClock(pid int, by time.Duration) error {
	v, err := findVDSO(pid)
	if err != nil {
		return fmt.Errorf("clock of process %d: %w", pid, err)
	}
	defer func() { _ = v.memory.Close() }()
	if !v.replaced() {
		if err := v.replace(); err != nil {
			return fmt.Errorf("clock of process %d: %w", pid, err)
		}
	}
	offset := binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second)))
	return v.write(v.spare, offset) // aligned: nobody reads a half of it
}

// vdso is the page in a process's memory, with what it had when it was looked at.
type vdso struct {
	pid        int
	memory     *os.File
	start, end uint64
	image      []byte
	spare      uint64 // where there is room, in the image
}

// clocks are new code for functions. They call the kernel, which has numbers for them, and add a number of seconds, whose
// distance from the end of the instruction belongs where ref says.
var clocks = []struct {
	name string
	code []byte
	ref  int
}{
	{"__vdso_clock_gettime", []byte{
		0xb8, 228, 0, 0, 0, // mov eax, 228
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME
		0x74, 0x05, // je +5
		0x83, 0xff, 0x05, // cmp edi, 5: CLOCK_REALTIME_COARSE
		0x75, 0x0a, // jne +10
		0x48, 0x8b, 0x0d, 0, 0, 0, 0, // mov rcx, [seconds]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
	}, 19},
	{"__vdso_gettimeofday", []byte{
		0xb8, 96, 0, 0, 0, // mov eax, 96
		0x0f, 0x05, // syscall
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 0x0a, // je +10
		0x48, 0x8b, 0x0d, 0, 0, 0, 0, // mov rcx, [seconds]
		0x48, 0x01, 0x0f, // add [rdi], rcx
		0xc3, // ret
	}, 15},
	{"__vdso_time", []byte{
		0xb8, 201, 0, 0, 0, // mov eax, 201
		0x0f, 0x05, // syscall
		0x48, 0x03, 0x05, 0, 0, 0, 0, // add rax, [seconds]
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 0x03, // je +3
		0x48, 0x89, 0x07, // mov [rdi], rax
		0xc3, // ret
	}, 10},
}

const (
	wordSize  = 8
	jumpSize  = 5   // jmp and a distance of 32 bits
	spareSize = 128 // for all of clocks
)

func findVDSO(pid int) (*vdso, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	v := &vdso{pid: pid}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &v.start, &v.end); err != nil {
				return nil, err
			}
		}
	}
	if v.start == 0 {
		return nil, fmt.Errorf("it has no vDSO: %w", errors.ErrUnsupported)
	}
	if v.memory, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	v.image = make([]byte, v.end-v.start)
	if _, err = v.memory.ReadAt(v.image, int64(v.start)); err != nil {
		return nil, errors.Join(err, v.memory.Close())
	}
	v.spare = uint64(len(v.image)) - spareSize
	return v, nil
}

// replaced tells whether an earlier call has done it.
func (v *vdso) replaced() bool {
	return bytes.HasPrefix(v.image[v.spare+wordSize:], clocks[0].code[:clocks[0].ref])
}

// replace puts new code where there is none, and jumps to it where the functions begin.
func (v *vdso) replace() error {
	if len(bytes.Trim(v.image[v.spare:], "\x00")) > 0 {
		return fmt.Errorf("its vDSO has no %d bytes of room: %w", spareSize, errors.ErrUnsupported)
	}
	file, err := elf.NewFile(bytes.NewReader(v.image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	at := make(map[string]uint64)
	for _, s := range symbols {
		if s.Size >= jumpSize && s.Value+s.Size <= v.spare {
			at[s.Name] = s.Value
		}
	}
	room := make([]byte, wordSize, spareSize)
	jumps := make(map[uint64][]byte)
	for _, c := range clocks {
		function, ok := at[c.name]
		if !ok {
			return fmt.Errorf("its vDSO has no %s: %w", c.name, errors.ErrUnsupported)
		}
		begin := uint64(len(room))
		room = append(room, c.code...)
		binary.LittleEndian.PutUint32(room[begin+uint64(c.ref):], uint32(-int32(begin)-int32(c.ref)-4)) // the seconds stand first
		jumps[function] = binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(v.spare+begin-function-jumpSize))
	}
	return v.stopped(func() error {
		err := v.write(v.spare, room)
		for function, jump := range jumps {
			if err == nil {
				err = v.write(function, jump)
			}
		}
		return err
	})
}

func (v *vdso) write(at uint64, b []byte) error {
	if _, err := v.memory.WriteAt(b, int64(v.start+at)); err != nil {
		return fmt.Errorf("its memory cannot be changed: %w: %w", err, errors.ErrUnsupported)
	}
	return nil
}

// stopped does something while no thread of the process runs, or is where it changes code.
func (v *vdso) stopped(do func() error) error {
	for late := time.Now().Add(stopWithin); ; {
		if err := Stop(v.pid); err != nil {
			return err
		}
		outside, err := v.outside()
		if outside && err == nil {
			err = do()
		}
		err = errors.Join(err, Continue(v.pid))
		if outside || err != nil {
			return err
		}
		if time.Now().After(late) {
			return fmt.Errorf("it does not stop outside of its vDSO within %v", stopWithin)
		}
		time.Sleep(time.Millisecond)
	}
}

const stopWithin = 10 * time.Second

// outside tells whether all threads stand, and none in the page.
func (v *vdso) outside() (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", v.pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("process %d has no threads: %w", v.pid, errors.Join(err, os.ErrProcessDone))
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(filepath.Join(thread, "stat"))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		} else if err != nil {
			return false, err
		}
		if !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T ")) {
			return false, nil
		}
		b, err := os.ReadFile(filepath.Join(thread, "syscall"))
		if err != nil {
			return false, err
		}
		fields := strings.Fields(string(b)) // numbers, of which the last one is where it stands
		counter, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil || v.start <= counter && counter < v.end {
			return false, nil
		}
	}
	return true, nil
}
