package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/need"
)

// unsignedBundle builds a bundle and returns its file.
func unsignedBundle(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	manifest := "name: app\nversion: \"1.1.0\"\nupgradeFrom:\n- {version: \"1.0.*\", modes: [rolling]}\n" +
		"modules:\n- name: app\n  canRollback: true\n  files: [app/ctl.sh]\n  actions:\n    install: {run: " +
		"[app/ctl.sh, install]}\n    rollback: {run: [app/ctl.sh, rollback]}\n"
	for name, text := range map[string]string{"manifest.yaml": manifest, "app/ctl.sh": "#!/bin/sh\n"} {
		file := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "app.hfb")
	var out bytes.Buffer
	if code := Main([]string{"bundle", "build", filepath.Join(dir, "tree"), "-o", file},
		command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")}); code != 0 {
		t.Fatal(out.String())
	}
	return file
}

func TestUpgradeStatusWatch(t *testing.T) {
	need.Seconds(t)
	a := clitest.NewAgent(t)
	a.Upgrades.Show(&request.Standing{ClusterState: upgrade.Normal, Version: "1.0.0"})
	l := runLive(t, a, "upgrade", "status", "--watch")
	l.await("cluster   normal, version 1.0.0")
	a.Upgrades.Show(&request.Standing{ClusterState: upgrade.Rollup, Version: "1.0.0", To: "1.1.0"})
	l.await("cluster   rollup, version 1.0.0 -> 1.1.0")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	l.await("agent     gives no answer and is asked again; the above may be old")
	a.Upgrades.Show(&request.Standing{ClusterState: upgrade.Prepared, Version: "1.0.0", To: "1.1.0"})
	if err := a.Serve(); err != nil {
		t.Fatal(err)
	}
	l.await("cluster   prepared, version 1.0.0 -> 1.1.0")
	if err := l.interrupt(); err != nil {
		t.Errorf("an interrupted watch is no error, got: %v", err)
	}

	l = runLive(t, a, "upgrade", "status", "--watch", "-o", "json")
	l.await(`"cluster_state":"prepared"`)
	l.await(`"hosts":[]`)
	if err := l.interrupt(); err != nil {
		t.Error(err)
	}
}

func TestUpgradeWatchOnTerminal(t *testing.T) {
	need.Seconds(t)
	a := clitest.NewAgent(t)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	a.Upgrades.Show(&request.Standing{ClusterState: upgrade.Normal, Version: "1.0.0",
		Bundle: &request.BundleInfo{Name: "app", Version: "1", Unsigned: true}})
	master, slave := clitest.OpenPTY(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		root := New(command.Env{Stdout: slave, Stderr: slave, Stdin: strings.NewReader("")})
		root.SetArgs([]string{"upgrade", "status", "--watch", "--socket", a.Socket})
		done <- root.ExecuteContext(ctx)
	}()
	var got []byte
	for buf := make([]byte, 4096); bytes.Count(got, []byte("\x1b[H\x1b[2J")) < 2; {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !bytes.Contains(got, []byte("\x1b[31mapp 1, UNSIGNED: anybody may have made it\x1b[0m")) {
		t.Errorf("an unsigned bundle is not red: %q", got)
	}
}

// TestUpgradeWait: what is waited for is said; a pause that somebody made is
// followed on, and so is an agent that is started again.
func TestUpgradeWait(t *testing.T) {
	need.Seconds(t)
	a := clitest.NewAgent(t)
	l := runLive(t, a, "upgrade", "run", "--bundle", unsignedBundle(t), "--allow-unsigned", "--yes", "--wait", "--approve-per-host")
	l.await("waiting: node1/")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.Serve(); err != nil {
		t.Fatal(err)
	}
	order := func(args ...string) {
		t.Helper()
		var out bytes.Buffer
		if code := Main(append(args, "--socket", a.Socket),
			command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")}); code != 0 {
			t.Errorf("%v ended with %d: %s", args, code, out.String())
		}
	}
	order("upgrade", "pause")
	l.await("paused: paused by ")
	order("upgrade", "resume")
	order("upgrade", "approve", "node1", "node2", "node3")
	l.await(": done")
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

func TestUpgradeWaitInterrupted(t *testing.T) {
	need.Seconds(t)
	a := clitest.NewAgent(t)
	l := runLive(t, a, "upgrade", "run", "--bundle", unsignedBundle(t), "--allow-unsigned", "--yes", "--wait", "--approve-per-host")
	l.await("waiting: node1/")
	err := l.interrupt()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Canceled || !strings.Contains(e.Remedy, "the job goes on") {
		t.Errorf("got %v, want an error that says that the job goes on", err)
	}
}

// TestUpgradePage runs the commands of docs/upgrade.md against an agent, and
// checks that the page tells of all states and all commands.
func TestUpgradePage(t *testing.T) {
	need.Seconds(t)
	b, err := os.ReadFile("../../docs/upgrade.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	if n := strings.Count(page, "\n"); n > 240 {
		t.Errorf("the page has %d lines: want 240 at most", n)
	}
	for _, word := range []string{
		string(upgrade.Normal), string(upgrade.Rollup), string(upgrade.Prepared), string(upgrade.Committing), string(upgrade.Rolldown),
		string(upgrade.HostRollup), string(upgrade.HostRollupDone), string(upgrade.HostRolldown), string(upgrade.HostRolldownDone),
	} {
		if !strings.Contains(page, "`"+word+"`") {
			t.Errorf("the page does not name the state %s", word)
		}
	}
	upgrades, _, err := New(command.Env{}).Find([]string{"upgrade"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range upgrades.Commands() {
		if !strings.Contains(page, "upgrade "+c.Name()) {
			t.Errorf("the page does not name upgrade %s", c.Name())
		}
	}
	file := unsignedBundle(t)
	t.Chdir(t.TempDir())
	write(t, "platform.yaml", "format: 1\n")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1)
	for _, m := range blocks {
		a := clitest.NewAgent(t) // each example begins with a cluster in which nothing has run
		a.Upgrades.SetReport(check.Report{Ended: clitest.Time()})
		t.Setenv("HOLDFAST_SOCKET", a.Socket)
		runPage(t, a, m[1], file)
	}
	if len(blocks) < 3 {
		t.Errorf("the page has %d examples", len(blocks))
	}
}

// runPage runs the commands of a block. A failure that a comment announces is
// brought about before, and its command must end with 1.
func runPage(t *testing.T, a *clitest.Agent, block, file string) {
	t.Helper()
	for line := range strings.Lines(block) {
		call, comment, _ := strings.Cut(strings.TrimSpace(line), "#")
		words := strings.Fields(call)
		if len(words) == 0 {
			continue
		}
		want := 0
		if _, step, fails := strings.Cut(comment, "fails: "); fails {
			a.Upgrades.FailStep(step)
			want = 1
		}
		var args []string
		for i, w := range words[1:] {
			switch {
			case w == "app-1.1.0.hfb":
				w = file
			case w == "--key": // the bundle of the test is not signed
				args = append(args, "--allow-unsigned")
				continue
			case i > 0 && words[i] == "--key":
				continue
			}
			args = append(args, w)
		}
		var out bytes.Buffer
		if code := Main(args, command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("yes\n")}); code != want {
			t.Errorf("%s ended with %d, want %d:\n%s", call, code, want, out.String())
		}
	}
}

// TestUpgradeProgress: on a terminal it is shown how much of a bundle was brought.
func TestUpgradeProgress(t *testing.T) {
	a := clitest.NewAgent(t)
	master, slave := clitest.OpenPTY(t)
	var out bytes.Buffer
	root := New(command.Env{Stdout: &out, Stderr: slave, Stdin: strings.NewReader("")})
	root.SetArgs([]string{"upgrade", "run", "--bundle", unsignedBundle(t), "--allow-unsigned", "--dry-run", "--socket",
		a.Socket})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := root.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := master.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buf[:n])
	for n > 0 && err == nil { // ends with EIO
		if n, err = master.Read(buf); err == nil {
			got += string(buf[:n])
		}
	}
	if want := "\r\x1b[K" + output.Bar(100) + " 100 % of app.hfb\r\n"; !strings.HasSuffix(got, want) {
		t.Errorf("the terminal shows %q, want %q at the end", got, want)
	}
}
