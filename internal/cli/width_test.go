package cli

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

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
		if _, err := io.WriteString(slave,
			installer.ResultText(install.Result{Report: install.Report{Findings: []install.Finding{
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
