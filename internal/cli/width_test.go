package cli

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
)

// TestNothingWraps: on a terminal of 80 columns every line of every view fits, and what
// tells what is wrong is there in full.
func TestNothingWraps(t *testing.T) {
	s := clitest.LongNames()
	p := output.Painter{Colours: true, Cuts: true}
	busy := "a long sentence of what it waits for: " +
		string(s.Hosts[1].Name) + ", which is away; two members of the store must not be away at once"
	j := job.View{ID: "drain-12", Title: "empty host " + string(s.Hosts[1].Name), State: "ended", Result: "failed",
		User: "administrator@example.com", Began: clitest.Time()}
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
		if bad := clitest.TooWide(text, output.Width); len(bad) > 0 {
			t.Errorf("%s: %d columns:\n%s\nof\n%s", name, utf8.RuneCountInString(bad[0]), strings.Join(bad, "\n"), text)
		}
	}
	flat := func(s string) string {
		return strings.Join(strings.Fields(clitest.Escapes.ReplaceAllString(s, "")), " ")
	}
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
	a := clitest.NewAgent(t)
	s := clitest.LongNames()
	a.Update(func(now *cluster.Status) { *now = s })
	a.Log(cluster.Event{Kind: cluster.EvRefused, Host: s.Hosts[0].Name, To: s.Hosts[2].Name, By: s.Hosts[0].Name,
		Time: clitest.Time(), Detail: s.Hosts[1].Why})
	for _, columns := range []uint16{0, 80, 200} {
		master, slave := clitest.OpenPTY(t)
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
			root.SetArgs(append(strings.Fields(name), "--socket", a.Socket))
			if err := root.ExecuteContext(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := slave.Close(); err != nil {
			t.Fatal(err)
		}
		text := <-read
		if bad := clitest.TooWide(text, max(80, int(columns))); len(bad) > 0 {
			t.Errorf("a terminal of %d columns gets\n%s\nin\n%s", columns, strings.Join(bad, "\n"), text)
		}
		if whole := strings.Contains(text, string(s.Hosts[0].Name)+"  "+s.Hosts[0].Addr); whole != (columns == 200) {
			t.Errorf("a terminal of %d columns shows names in full: %v\n%s", columns, whole, text)
		}
	}
}
