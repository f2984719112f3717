package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/ha/loop"
	"holdfast/internal/host/facts"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/server"
)

const (
	// shaky is how long after its end a child that was started again still counts
	// as trouble: one that ends at each start lives in between.
	shaky = 10 * time.Second
	// logTail is how much of a child's log is searched for the reason, in bytes.
	logTail = 16 << 10
	// maxReason is how much of the reason is told, in bytes.
	maxReason = 300
)

// troubles tells what does not work on this host though a guest could be
// started: a member of the store that is down costs the cluster its redundancy
// without any other sign.
func (nd *node) troubles(srv *server.Server, a *loop.Agent) string {
	var all []string
	timeServers := a.TimeServers()
	if mib, here := a.GuestMemory(); mib > 0 && !here {
		has, err := facts.AvailableMiB()
		if t := scarce(mib, has, err); t != "" {
			all = append(all, t)
		}
	}
	all = append(all, a.PlainDisks()...)
	if nd.keeper != nil {
		if t := nd.keeper.warning(); t != "" {
			all = append(all, t)
		}
	}
	if slices.Contains(timeServers, nd.n.Addr) || slices.Contains(timeServers, nd.n.Host) {
		sources, err := facts.TimeSources()
		if t := timeFromItself(sources, err, nd.n.Addr, nd.n.Host, "127.0.0.1", "::1", "localhost"); t != "" {
			all = append(all, t)
		}
	}
	for _, c := range nd.children() {
		if t := childTrouble(c, time.Now()); t != "" {
			all = append(all, t)
		}
	}
	if t := a.Crowded(); t != "" {
		all = append(all, t)
	}
	if t := srv.Trouble(); t != "" {
		all = append(all, t)
	}
	return strings.Join(all, "; ")
}

// scarce tells that a host has less memory for the guest than it begins with: it could be started, and the kernel could
// end it, or something else, later; "" when there is enough.
func scarce(wants, has int, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("how much memory is available is not known: %v", err)
	case has < wants:
		return fmt.Sprintf("less of this host's memory is available than the %d MiB that the management VM begins with: the kernel may end it, or something else", wants) // without what changes all the time: it is in the host's record
	}
	return ""
}

// timeFromItself tells where chronyd of this host, which is a time server of the
// management VM, is told to take the time from the host itself; "" when it is not.
func timeFromItself(sources []facts.TimeSource, err error, names ...string) string {
	for _, s := range sources {
		if slices.Contains(names, s.Name) {
			return fmt.Sprintf("this host is in ChronyServers, and takes the time from itself: %s: %s", s.File, s.Line)
		}
	}
	if err != nil {
		return fmt.Sprintf("this host is in ChronyServers, and its time sources can not be read: %v", err)
	}
	return ""
}

// childTrouble tells how a child that does not run, or has just ended, ended.
func childTrouble(c supervise.Spec, now time.Time) string {
	log := filepath.Join(c.Dir, c.Name+".log")
	s, err := supervise.Read(c.Dir, c.Name)
	switch {
	case err != nil:
		return fmt.Sprintf("process %s: %v", c.Name, err)
	case s.LastExitAt.IsZero() || s.PID != 0 && now.Sub(s.LastExitAt) > shaky:
		return ""
	}
	text := fmt.Sprintf("process %s has ended %d times (last: %s) and is started again", c.Name, s.Restarts, s.LastExit)
	reason, err := lastError(log)
	if err != nil {
		return fmt.Sprintf("%s; its log: %v", text, err)
	}
	if reason != "" {
		text += ": " + reason
	}
	return text + "; its log is " + log
}

// lastError is the last line of a log in which this program, or the Go runtime,
// says why it ends; "" when there is none.
func lastError(path string) (line string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-logTail), logTail))
	if err != nil {
		return "", err
	}
	for l := range strings.Lines(string(tail)) {
		if r := reason(strings.TrimSpace(l)); r != "" && !strings.Contains(line, r) {
			line = r
		}
	}
	return line[:min(len(line), maxReason)], nil
}

// reason is what a line of a log says of the end of its process; "" when it is
// about something else. The store's library logs what was wrong as JSON, before
// it panics.
func reason(line string) string {
	if strings.HasPrefix(line, "{") {
		var l struct{ Level, Msg, Error string }
		if json.Unmarshal([]byte(line), &l) != nil || l.Level != "panic" && l.Level != "fatal" {
			return ""
		}
		return strings.TrimSuffix(l.Msg+": "+l.Error, ": ")
	}
	if r, ok := strings.CutPrefix(line, "holdfast: "); ok {
		return r
	}
	for _, prefix := range []string{"panic: ", "fatal error: "} {
		if r, ok := strings.CutPrefix(line, prefix); ok {
			return r
		}
	}
	return ""
}
