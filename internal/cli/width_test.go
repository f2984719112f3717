package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
)

// longNames are three hosts with names, addresses and troubles as data centres have them.
func longNames() cluster.Status {
	s := servertest.Three(testTime())
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

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// tooWide are the lines that a terminal would wrap.
func tooWide(text string, columns int) (out []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(escapes.ReplaceAllString(l, ""), "\r\n"); utf8.RuneCountInString(l) > columns {
			out = append(out, l)
		}
	}
	return out
}

// TestNothingWraps: on a terminal of 80 columns every line of every view fits, and what
// tells what is wrong is there in full.
func TestNothingWraps(t *testing.T) {
	s := longNames()
	p := output.Painter{Colours: true, Cuts: true}
	busy := "a long sentence of what it waits for: " +
		string(s.Hosts[1].Name) + ", which is away; two members of the store must not be away at once"
	j := job.View{ID: "drain-12", Title: "empty host " + string(s.Hosts[1].Name), State: "ended", Result: "failed",
		User: "administrator@example.com", Began: testTime()}
	j.Steps = append(j.Steps, job.StepView{ID: string(s.Hosts[0].Name) + "/drain", State: "running", Percent: 100, Attempt: 12, Note: busy})
	store := cluster.StoreStatus{}
	for _, h := range s.Hosts {
		store.Members = append(store.Members, cluster.StoreMember{Name: string(h.Name), Version: "3.7.1"})
	}
	views := map[string]string{
		"status":     statusText(s, p),
		"host list":  hostsText(hostLines(s, nil), false, p),
		"jobs list":  jobsText([]job.View{j}, p),
		"jobs show":  jobText(j, p),
		"store":      storeText(store, p),
		"not colour": statusText(s, output.Painter{Cuts: true}),
	}
	for name, text := range views {
		if bad := tooWide(text, output.Width); len(bad) > 0 {
			t.Errorf("%s: %d columns:\n%s\nof\n%s", name, utf8.RuneCountInString(bad[0]), strings.Join(bad, "\n"), text)
		}
	}
	flat := func(s string) string { return strings.Join(strings.Fields(escapes.ReplaceAllString(s, "")), " ") }
	for name, want := range map[string]string{
		"status": "rac~visor-02", "host list": "bridge br-management has no link", "jobs show": "must not be away at once",
	} {
		if !strings.Contains(flat(views[name]), want) {
			t.Errorf("%s does not say %q:\n%s", name, want, views[name])
		}
	}
	for _, h := range s.Hosts {
		for _, name := range []string{"status", "host list"} {
			if !strings.Contains(flat(views[name]), h.Addr) {
				t.Errorf("%s does not have the address %s in full:\n%s", name, h.Addr, views[name])
			}
		}
	}
}

// TestTerminalsWidth: a terminal of more columns has less cut, and what goes to a file is whole.
func TestTerminalsWidth(t *testing.T) {
	a := newAgent(t)
	s := longNames()
	a.Update(func(now *cluster.Status) { *now = s })
	a.Log(cluster.Event{Kind: cluster.EvRefused, Host: s.Hosts[0].Name, To: s.Hosts[2].Name, By: s.Hosts[0].Name,
		Time: testTime(), Detail: s.Hosts[1].Why})
	for _, columns := range []uint16{0, 80, 200} {
		master, slave := openPTY(t)
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		read := make(chan string)
		go func() {
			b, _ := io.ReadAll(master) // ends with EIO when the other end is closed
			read <- string(b)
		}()
		slow := fail.Errorf(fail.Invalid, "%s", strings.Repeat("what was wrong with it, ", 9)).With(strings.Repeat("what to do about it, ", 9))
		command.Report(slave, "holdfast", slow, slow)
		if _, err := io.WriteString(slave, installText(install.Result{Report: install.Report{Findings: []install.Finding{
			{Node: "node1", Check: "clock", Result: install.Fail, Finding: slow.Message, Remedy: slow.Remedy}}}}, true,
			output.PainterFor(slave))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"status", "host list", "events"} {
			root := New(command.Env{Stdout: slave, Stderr: io.Discard, Stdin: strings.NewReader("")})
			root.SetArgs(append(strings.Fields(name), "--socket", a.socket))
			if err := root.ExecuteContext(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := slave.Close(); err != nil {
			t.Fatal(err)
		}
		text := <-read
		if bad := tooWide(text, max(80, int(columns))); len(bad) > 0 {
			t.Errorf("a terminal of %d columns gets\n%s\nin\n%s", columns, strings.Join(bad, "\n"), text)
		}
		if whole := strings.Contains(text, string(s.Hosts[0].Name)+"  "+s.Hosts[0].Addr); whole != (columns == 200) {
			t.Errorf("a terminal of %d columns shows names in full: %v\n%s", columns, whole, text)
		}
	}
}
