package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StepClock steps the wall clock that the Holdfast processes of a host see by d,
// whole seconds, forwards or backwards. Steps add up until the host loses its
// power. The machine's clock stays, and so does what libvirt and QEMU see.
//
// No namespace has a wall clock of its own. So, while the host stands still,
// the code of the function clock_gettime that the kernel lends to every process
// (vDSO) is replaced in the memory of these processes by one that asks the
// kernel and adds the step to CLOCK_REALTIME. A process that starts later, such
// as an agent that PID 1 starts again, sees the true time until the next step.
// Only amd64.
func (l *Lab) StepClock(ctx context.Context, host string, d time.Duration) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("step the clock of %s: only on amd64", host)
	}
	if d%time.Second != 0 || d.Abs() > maxStep {
		return fmt.Errorf("step the clock of %s by %v: want whole seconds, at most %v", host, d, maxStep)
	}
	if _, err := l.running(host); err != nil {
		return err
	}
	err := l.change(ctx, func(s *state) error {
		hs := s.Hosts[host]
		if (hs.Clock + d).Abs() > maxStep {
			return fmt.Errorf("all steps together are %v, want at most %v", hs.Clock+d, maxStep)
		}
		if err := l.p.setClock(ctx, host, hs.Init, hs.Clock+d); err != nil {
			return err
		}
		hs.Clock += d
		s.Hosts[host] = hs
		return nil
	})
	if err != nil {
		return fmt.Errorf("step the clock of %s: %w", host, err)
	}
	return l.p.record(host, "clock", d.String())
}

// maxStep fits the constant of an instruction.
const maxStep = 20 * 365 * 24 * time.Hour

// setClock puts all Holdfast processes of a host off by the whole of its steps.
func (p plan) setClock(ctx context.Context, host string, init Process, off time.Duration) (err error) {
	group := p.cgroup(host)
	if !frozen(group) {
		if err := setFrozen(ctx, group, true); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, setFrozen(context.WithoutCancel(ctx), group, false)) }()
	}
	var own []os.FileInfo
	for _, program := range []string{p.exe(), p.self()} {
		info, err := os.Stat(program)
		if err != nil && (program == p.self() || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("find the program of the hosts: %w", err)
		}
		if err == nil {
			own = append(own, info)
		}
	}
	procs, err := hostProcesses(init)
	if err != nil {
		return err
	}
	for _, q := range procs {
		exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", q.PID))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.ContainsFunc(own, func(f os.FileInfo) bool { return os.SameFile(exe, f) }) {
			continue // ended, or another program
		}
		if err == nil {
			err = setProcessClock(q.PID, off)
		}
		if err != nil {
			return fmt.Errorf("process %d: %w", q.PID, err)
		}
	}
	return nil
}

// setProcessClock changes the wall clock of one process that stands still.
func setProcessClock(pid int, off time.Duration) error {
	from, to, err := vdsoRange(pid)
	if err != nil {
		return err
	}
	// Of this process: the same for all, and for certain as the kernel made it.
	ownFrom, ownTo, err := vdsoRange(os.Getpid())
	if err != nil {
		return err
	}
	if to-from != ownTo-ownFrom {
		return errors.New("it has another vDSO than this program")
	}
	image := make([]byte, to-from)
	if err := accessMemory(os.Getpid(), os.O_RDONLY, func(m *os.File) error {
		_, err := m.ReadAt(image, ownFrom)
		return err
	}); err != nil {
		return err
	}
	entry, free, err := vdsoLayout(image)
	if err != nil {
		return err
	}
	code := steppedClock(int32(off / time.Second))
	if free+int64(len(code)) > int64(len(image)) {
		return errors.New("the vDSO has no room")
	}
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(free-entry-jumpLen)))
	if err := clearOf(pid, from+entry, from+entry+jumpLen); err != nil {
		return err
	}
	return accessMemory(pid, os.O_RDWR, func(m *os.File) error {
		_, err := m.WriteAt(code, from+free)
		if err == nil {
			_, err = m.WriteAt(jump, from+entry)
		}
		return err
	})
}

// jumpLen is the length of the jump that replaces the begin of the function.
const jumpLen = 5

// steppedClock is clock_gettime(edi, rsi) in machine code, by the system call
// and with seconds added for CLOCK_REALTIME and CLOCK_REALTIME_COARSE.
func steppedClock(seconds int32) []byte {
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 16, // jne end
		0x85, 0xff, // test edi, edi
		0x74, 5, // je add
		0x83, 0xff, 5, // cmp edi, CLOCK_REALTIME_COARSE
		0x75, 7, // jne end
		0x48, 0x81, 0x06, // add: add qword [rsi], seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(seconds))
	return append(code, 0xc3) // end: ret
}

// vdsoLayout finds clock_gettime and the first unused byte of a vDSO.
func vdsoLayout(image []byte) (entry, free int64, err error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("read the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			entry = int64(s.Value)
		}
	}
	// The end of the file is zero; aligned, so that no byte in use is taken for free.
	free = (int64(len(bytes.TrimRight(image, "\x00"))) + 63) &^ 63
	if entry <= 0 || entry+jumpLen > int64(len(image)) {
		return 0, 0, errors.New("the vDSO has no clock_gettime")
	}
	return entry, free, nil
}

// vdsoRange is where the vDSO of a process lies.
func vdsoRange(pid int) (from, to int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("find the vDSO: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, 0, fmt.Errorf("find the vDSO in %q: %w", line, err)
		}
		return from, to, nil
	}
	return 0, 0, errors.New("it has no vDSO")
}

// accessMemory runs fn on the memory of a process. The kernel copies a page of
// the vDSO for the process that is written to.
func accessMemory(pid, flags int, fn func(*os.File) error) error {
	m, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), flags, 0)
	if err != nil {
		return fmt.Errorf("open memory: %w", err)
	}
	err = fn(m)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, m.Close()); err != nil {
		return fmt.Errorf("access memory of the vDSO: %w", err)
	}
	return nil
}

// clearOf makes sure that no thread stands inside of [from, to), behind the
// first instruction that will be there.
func clearOf(pid int, from, to int64) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, f := range threads {
		raw, err := os.ReadFile(f)
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read where a thread stands: %w", err)
		}
		// "NUMBER ... SP PC", or "running".
		words := strings.Fields(string(raw))
		if len(words) < 3 {
			return fmt.Errorf("%s: %q: a thread does not stand still", f, raw)
		}
		pc, err := strconv.ParseInt(strings.TrimPrefix(words[len(words)-1], "0x"), 16, 64)
		if err != nil {
			return fmt.Errorf("read where a thread stands: %w", err)
		}
		if pc > from && pc < to {
			return errors.New("a thread stands in clock_gettime: try again")
		}
	}
	return nil
}
