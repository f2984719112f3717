package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// emulatorWords are what a guest's kernel says when the emulator has failed it. On real
// hardware they mean a fault of the kernel or of the memory. Without KVM, one start of some
// hundreds ends so that timers do not fire any more; and QEMU may lose the last write to a page
// that it is just sending to another host (its commit 9458a9a1df1a narrows that race, and does
// not close it), which the kernel finds in its own memory, or in a ring that it shares with a
// device. QEMU runs on in either case.
var emulatorWords = [][]byte{
	[]byte("self-detected stall on CPU"),
	[]byte("detected stalls on CPUs"),
	[]byte("BUG: soft lockup"),
	[]byte("BUG: unable to handle"),
	[]byte("BUG: kernel NULL pointer"),
	[]byte("general protection fault"),
	[]byte("Bad page state"),
	[]byte("is not a head!"),
	[]byte("Kernel panic - not syncing"),
}

// asked is the panic that /cgi-bin/crash brings about.
var asked = []byte("sysrq triggered crash")

// EmulatorFailed is the first line of a guest's console that tells of a failure of the
// emulator, "" when none does. A panic that a test asked for is none.
func EmulatorFailed(console []byte) string {
	for line := range bytes.Lines(console) {
		for _, w := range emulatorWords {
			if bytes.Contains(line, w) && !bytes.Contains(line, asked) {
				return strings.TrimSpace(string(line))
			}
		}
	}
	return ""
}

// consoleTail is how much of a console is shown: a kernel's last words are its call traces.
const consoleTail = 6 << 10

// Console is what one guest has written on one host.
type Console struct {
	Host string
	File string // as the machine sees it
	Size int64
}

// Guest is the name of the guest's domain.
func (c Console) Guest() string {
	name := strings.TrimSuffix(filepath.Base(c.File), ".log")
	return strings.TrimSuffix(name, "-serial")
}

// Since is what was written after a length.
func (c Console) Since(length int64) ([]byte, error) {
	if c.Size < length {
		length = 0 // written anew
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("read console of %s: %w", c.Guest(), err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, length, c.Size-length))
	if err != nil {
		return nil, fmt.Errorf("read console of %s: %w", c.Guest(), err)
	}
	return text, nil
}

// Consoles are those of all guests, by the hosts on which they ran.
func (l *Lab) Consoles() ([]Console, error) {
	var all []Console
	for _, h := range l.p.hosts() {
		for _, pattern := range []string{
			l.p.disk(h, "var-log-libvirt", "qemu", "*-serial.log"), // the agents' guest
			l.HostPath(h, "log", "vm*.log"),                        // business guests
			l.HostPath(h, "log", GuestName+".log"),
		} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				return nil, fmt.Errorf("find consoles of %s: %w", h, err)
			}
			for _, f := range files {
				info, err := os.Stat(f)
				if err != nil {
					return nil, fmt.Errorf("find consoles of %s: %w", h, err)
				}
				all = append(all, Console{Host: h, File: f, Size: info.Size()})
			}
		}
	}
	return all, nil
}

// How long one question to a monitor may take, and all of them.
const (
	questionLimit = 3 * time.Second
	autopsyLimit  = 30 * time.Second
)

// Autopsy tells of every QEMU process what it does at this moment: the processor time that
// its guest takes, and what its monitor says of its state, a migration, and the registers,
// looked at twice. What can not be asked is said, too.
func (l *Lab) Autopsy(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, autopsyLimit)
	defer cancel()
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err.Error()
	}
	procs, err := qemuProcesses(s)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, q := range procs {
		fmt.Fprintf(&b, "%s on %s, process %d", q.name(), q.host, q.PID)
		if q.incoming {
			b.WriteString(", started to receive a migration")
		}
		b.WriteString("\n" + l.dissect(ctx, q))
	}
	if b.Len() == 0 {
		return "no guest runs\n"
	}
	return b.String()
}

// dissect looks at one process.
func (l *Lab) dissect(ctx context.Context, q qemuProcess) string {
	var b strings.Builder
	before, began := q.cpu(), time.Now()
	rip := l.monitor(ctx, q, "info registers")
	for _, question := range []string{"info status", "info migrate", "info cpus"} {
		fmt.Fprintf(&b, "  %s: %s\n", question, oneLine(l.monitor(ctx, q, question)))
	}
	again := l.monitor(ctx, q, "info registers")
	fmt.Fprintf(&b, "  its guest ran for %s of %s\n", (q.cpu() - before).Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	fmt.Fprintf(&b, "  registers: %s\n  a moment later: %s\n", registers(rip), registers(again))
	return b.String()
}

// cpu is the processor time of the guest; that of a process which has ended is 0.
func (q qemuProcess) cpu() time.Duration {
	d, err := guestTime(q.PID)
	if err != nil {
		return 0
	}
	return d
}

// name is the name of the domain: "-name guest=NAME,debug-threads=on".
func (q qemuProcess) name() string {
	_, rest, _ := strings.Cut(q.line, "\x00guest=")
	name, _, _ := strings.Cut(rest, ",")
	name, _, _ = strings.Cut(name, "\x00")
	return name
}

// monitor asks QEMU by libvirt, which has its monitor.
func (l *Lab) monitor(ctx context.Context, q qemuProcess, question string) string {
	ctx, cancel := context.WithTimeout(ctx, questionLimit)
	defer cancel()
	out, err := l.Exec(ctx, q.host, "virsh", "-q", "-c", "qemu:///system", "qemu-monitor-command", q.name(), "--hmp", question)
	if err != nil {
		return err.Error()
	}
	return out
}

// registers keeps of the registers those that tell where the processor is: its instruction
// pointer, flags (and whether it is halted), and what it computes with.
func registers(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "RIP") || strings.HasPrefix(line, "RAX") || strings.HasPrefix(line, "RSI") || strings.HasPrefix(line, "CR0") {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	if len(kept) == 0 {
		return oneLine(text)
	}
	return strings.Join(kept, " ")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// LastWords are the ends of what the named guests have written to their consoles, of all
// guests when none is named.
func (l *Lab) LastWords(guests ...string) string {
	all, err := l.Consoles()
	var b strings.Builder
	for _, c := range all {
		if len(guests) > 0 && !slices.Contains(guests, c.Guest()) || c.Size == 0 {
			continue
		}
		text, rerr := c.Since(max(0, c.Size-consoleTail))
		err = errors.Join(err, rerr)
		fmt.Fprintf(&b, "console of %s on %s: ...%s\n", c.Guest(), c.Host, text)
	}
	if err != nil {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}
