package zsha

import (
	"bytes"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// TestHelp goes through all commands of the source tool: each has its own help, which fits a terminal, and
// says what it wants when it is called wrongly.
func TestHelp(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		root := New(command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")})
		root.SetArgs(args)
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	seen := 0
	for _, c := range New(command.Env{}).Commands() {
		if c.Name() == "help" {
			continue
		}
		seen++
		out, err := run(c.Name(), "-h")
		if err != nil || !strings.HasPrefix(out, c.Long) || !strings.Contains(out, "\nUsage:\n  zsha "+c.Use) {
			t.Errorf("%s -h: %v: %s", c.Name(), err, out)
		}
		for l := range strings.Lines(out) {
			if len(l) > output.Width+1 {
				t.Errorf("%s -h: %d columns: %s", c.Name(), len(l)-1, l)
			}
		}
		if !strings.Contains(helpText, "\n"+c.Name()+" ") != c.Hidden {
			t.Errorf("%s: in zsha -h: %t", c.Name(), !c.Hidden)
		}
		for _, wrong := range []string{"--bogus", "a b"} {
			out, err = run(append([]string{c.Name()}, strings.Fields(wrong)...)...)
			if fail.ExitCode(err) != fail.ExitInvalid || out != "" || strings.Contains(err.Error(), "want ,") {
				t.Errorf("%s %s: %v: %s", c.Name(), wrong, err, out)
			}
		}
	}
	if seen != 12 {
		t.Errorf("%d commands, the source tool has 12", seen)
	}
}

// TestNames: hints name the source tool's commands where it has them.
func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"start it first: holdfast start":                                                                                "start it first: zsha start",
		"see: holdfast status, holdfast events":                                                                         "see: zsha status, holdfast events",
		"wait for it: holdfast status --watch; or cancel it: holdfast migrate --cancel":                                 "wait for it: holdfast status --watch; or cancel it: holdfast migrate --cancel",
		"systemctl status holdfast; journalctl -u holdfast":                                                             "systemctl status holdfast; journalctl -u holdfast",
		"what holdfast config export writes":                                                                            "what zsha export-config writes",
		"(holdfast stop, then\nholdfast start, or a shutdown":                                                           "(zsha stop, then\nzsha start, or a shutdown",
		"to bring it back: holdfast migrate h1":                                                                         "to bring it back: zsha migrate h1",
		"A member is replaced by: holdfast install -c FILE":                                                             "A member is replaced by: zsha install -c FILE",
		"start the agent: systemctl start holdfast; another place is named with --socket, $HOLDFAST_SOCKET or --server": "start the agent: systemctl start holdfast; another place is named with --socket or $HOLDFAST_SOCKET",
	} {
		if got := inItsWords(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestLinksOfAPair: its hosts have this program by the names of the source.
func TestLinksOfAPair(t *testing.T) {
	var links []string
	for _, f := range PairLinks() {
		if name, ok := strings.CutPrefix(f.Path, "/usr/sbin/"); ok && f.Link == install.Program && f.Once {
			links = append(links, name)
		} else {
			t.Errorf("%+v", f)
		}
	}
	want := "crm ms_resource_stop.sh ms_resource_start.sh ms_recovery.sh ms_rm_sync_partition.sh drbd-overview"
	if got := strings.Join(links, " "); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
