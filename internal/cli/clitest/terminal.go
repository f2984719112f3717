package clitest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

// OpenPTY returns both ends of a pseudo terminal.
func OpenPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here:", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// Dialogue runs f with a terminal on which a person types: each answer when the text before it is
// the last one that was written. It returns what was written, and what the terminal has shown
// of what was typed.
func Dialogue(t *testing.T, f func(a *command.App) error, says ...string) (text, shown string, err error) {
	t.Helper()
	master, slave := OpenPTY(t)
	var errs, echo Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&echo, master) // ends when the terminal is closed
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- f(&command.App{Env: command.Env{Stdout: io.Discard, Stderr: &errs, Stdin: slave}})
	}()
	for i := 0; i+1 < len(says); i += 2 {
		asked := func() bool { return len(ended) > 0 || strings.HasSuffix(errs.String(), says[i]) }
		if werr := Until(asked); werr != nil || len(ended) > 0 {
			t.Fatalf("not asked %q: %v: %s", says[i], werr, errs.String())
		}
		if _, werr := master.WriteString(says[i+1]); werr != nil {
			t.Fatal(werr)
		}
	}
	err = <-ended
	try.Must(t, slave.Close())
	<-read
	return errs.String(), echo.String(), err
}

// Buffer is what a process has written so far.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Buffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String is all of it.
func (o *Buffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Escapes are what colours and moves the cursor.
var Escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// TooWide are the lines that a terminal would wrap.
func TooWide(text string, columns int) (out []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(Escapes.ReplaceAllString(l, ""), "\r\n"); utf8.RuneCountInString(l) > columns {
			out = append(out, l)
		}
	}
	return out
}

// LongNames are three hosts with names, addresses and troubles as data centres have them.
func LongNames() cluster.Status {
	s := servertest.Three(Time())
	s.Cluster = "production-frankfurt-2-availability-zone-b"
	for i := range s.Hosts {
		h := &s.Hosts[i]
		h.Name = cluster.HostID(fmt.Sprintf("rack12-hypervisor-%02d.dc2.cloud.example.com", i+1))
		h.Addr = fmt.Sprintf("2001:db8:1234:5678:9abc:def0:1234:%04x", i+1)
		h.Watchdog, h.Version = "iTCO_wdt, Intel Corporation C620 Series Chipset Family", "1.12.0-rc.3-104-gdeadbeef"
		s.Members = append(s.Members, h.Name)
	}
	s.Hosts[1].Alive, s.Hosts[1].Silent, s.Hosts[1].Fit = false, 100*time.Minute, false
	s.Hosts[1].Why = "the image /srv/shared/management/mnvm.img can not be read: input/output error of the storage " +
		"behind it; bridge br-management has no link"
	s.Hosts[2].Guest, s.Hosts[2].Guard = cluster.GuestIncoming, 0
	s.Owner.State, s.Owner.Host, s.Owner.To, s.Percent = cluster.Migrating, s.Hosts[0].Name, s.Hosts[2].Name, 99
	s.Coordinator, s.Waiting = s.Hosts[0].Name, "the move from "+string(s.Hosts[0].Name)+" to "+string(s.Hosts[2].Name)
	s.Takeover = cluster.Takeover{Why: "host " + string(s.Hosts[0].Name) + " has no working watchdog and no fence " +
		"device: if it is lost silently, nothing proves that all has stopped there"}
	s.Want.Maintenance = []cluster.HostID{s.Hosts[2].Name}
	return s
}
