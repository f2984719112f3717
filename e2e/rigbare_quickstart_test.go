package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// quickStart are the commands by which the README puts Holdfast on hosts of one's own. Both
// languages have the same.
func quickStart(t *testing.T) (commands []string) {
	t.Helper()
	for _, name := range []string{"../README.md", "../README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		const first = "holdfast config sample FileConf -o "
		_, after, begins := strings.Cut(string(text), "\n"+first)
		block, _, ends := strings.Cut(first+after, "\n```")
		var here []string
		for l := range strings.Lines(block) {
			l, _, _ = strings.Cut(l, "#")
			here = append(here, strings.TrimSpace(l))
		}
		if !begins || !ends || len(here) != 5 || commands != nil && !slices.Equal(here, commands) {
			t.Fatalf("%s: the quick start has the lines %q, want five, in both languages the same: %q", name, here, commands)
		}
		commands = here
	}
	return commands
}

// quickly runs the quick start on a host, as it stands in the README: what is added is the
// laboratory's own, such as its keys, and that its guest is small. It returns what the
// commands said, in their order.
func (b *bareRig) quickly(t *testing.T, h string, cl config.Cluster, flags []string) (said []string) {
	t.Helper()
	b.sh(t, h, "mkdir /srv/host/quick")
	file := b.lab.HostPath(h, "quick/cluster.json")
	for i, l := range quickStart(t) {
		switch {
		case strings.HasPrefix(l, "holdfast install "):
			l += " " + strings.Join(flags, " ")
		case strings.HasPrefix(l, "holdfast config check "):
			l += " --allow-undersized"
		}
		ctx, cancel := waiting(t)
		cmd, err := b.lab.Command(ctx, h, "/bin/sh", "-c", "cd /srv/host/quick && PATH="+filepath.Dir(b.lab.Exe())+":$PATH && "+l)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", l, err, out)
		}
		said = append(said, string(out))
		if i > 0 {
			continue
		}
		sample, err := os.ReadFile(file) // "then edit it"
		if err != nil || !strings.Contains(string(sample), `"ImageFolder"`) {
			t.Fatalf("%s: %v: %s", l, err, sample)
		}
		text, err := json.Marshal(cl) // as the other files of the rig
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.sh(t, h, "rm -r /srv/host/quick")
	return said
}

// labStart are the commands of the README's quick start in the laboratory. `make build` was
// done, and tests are root.
func labStart(t testing.TB) (commands []string) {
	t.Helper()
	text, err := os.ReadFile("../README.md") // TestReadmes: the other one has the same
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\nmake build\n")
	block, _, ends := strings.Cut(after, "\n```")
	for l := range strings.Lines(block) {
		command, _, _ := strings.Cut(l, "#")
		command, ours := strings.CutPrefix(strings.TrimSpace(command), "sudo bin/holdfast-lab ")
		if ours {
			commands = append(commands, command)
		}
		ends = ends && ours
	}
	if !ends {
		t.Fatalf("the README's quick start in the laboratory: %q: want lines that begin with sudo bin/holdfast-lab", block)
	}
	return commands
}

// labSteps are those commands, with what each of them shows.
var labSteps = []struct{ command, shows string }{
	{"up --agents --install", `(?m)^3 hosts are up(.*\n)+h1 .*\n?h2 .*\nh3 `},
	{"exec holder holdfast status", `mgmt VM +running on h[1-3] `},
	{"crash holder", `^holder: (?P<lost>h[1-3])\n$`},
	{"exec holder holdfast events", `takeover +LOST -> (?P<next>h[1-3]), .* as the deadline of the copy before has passed,(.*\n)+.* started +NEXT, `},
	{"on all", `^$`},
	{"exec other sh -c 'holdfast migrate $(hostname)'", `^other: (?P<last>h[1-3])\n(.*\n)+the management VM is running on LAST, `},
	{"exec holder holdfast doctor", `^holder: LAST\nwarn (.*\n)+pass `},
	{"down", `^$`},
}

// TestReadmeQuickStart runs the README's quick start in the laboratory, line by line. What is
// added is where the laboratory lies.
func TestReadmeQuickStart(t *testing.T) {
	need.Drill(t, "the README's quick start in the laboratory shows what it says, line by line", need.Root, hosts, built)
	if err := takeDown(); err != nil {
		t.Fatal(err)
	}
	judge(t, func(x *trial) { followReadme(x) })
}

func followReadme(t testing.TB) {
	dir := filepath.Join(t.TempDir(), "lab")
	t.Cleanup(func() {
		l, err := lab.Open(dir)
		if err != nil {
			return // it is down
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	commands, known := labStart(t), map[string]string{}
	for i, s := range labSteps {
		if i >= len(commands) || commands[i] != s.command {
			t.Fatalf("the README has %q, want %q in line %d: what it shows stands beside it", commands, s.command, i+1)
		}
		out, err := typedInLab(t.Context(), dir, s.command)
		shows := s.shows
		for name, host := range known {
			shows = strings.ReplaceAll(shows, strings.ToUpper(name), host)
		}
		// A name that is found may stand in the same line again.
		want := regexp.MustCompile(regexp.MustCompile(`(NEXT|LAST)`).ReplaceAllString(shows, `h[1-3]`))
		m := want.FindStringSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("holdfast-lab %s: %v: it shows\n%swant %s\n%s", s.command, err, out, want, lastWordsIn(dir))
		}
		for n, name := range want.SubexpNames() {
			if name != "" {
				known[name] = m[n]
			}
		}
		for name, host := range known {
			shows = strings.ReplaceAll(shows, strings.ToUpper(name), host)
		}
		if !regexp.MustCompile(shows).MatchString(out) {
			t.Errorf("holdfast-lab %s: it shows\n%swant %s", s.command, out, shows)
		}
		if s.command == "on all" {
			awaitAlive(t, dir, known["lost"])
		}
	}
	if len(commands) != len(labSteps) {
		t.Errorf("the README has %q more", commands[len(labSteps):])
	}
	if known["next"] == known["lost"] {
		t.Errorf("hosts %v: want the takeover by another one", known)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.json")); err == nil {
		t.Errorf("%s is there after holdfast-lab down", dir)
	}
}

// typedInLab runs a command of the laboratory by a shell, and returns all that it says.
func typedInLab(ctx context.Context, dir, command string) (string, error) {
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", theLab+" --dir "+dir+" "+command).CombinedOutput()
	return string(out), err
}

// awaitAlive waits until a host that was lost is one of the cluster again.
func awaitAlive(t testing.TB, dir, host string) {
	t.Helper()
	alive := regexp.MustCompile(`(?m)^` + host + ` +\S+ +alive `)
	for {
		out, err := typedInLab(t.Context(), dir, "exec holder holdfast status")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if alive.MatchString(out) {
			return
		}
		if !clock.Sleep(t.Context(), time.Second) {
			t.Fatalf("%s has not joined again: %s", host, out)
		}
	}
}

// lastWordsIn are those of the guests of a laboratory that stands, which tell of the emulator.
func lastWordsIn(dir string) string {
	l, err := lab.Open(dir)
	if err != nil {
		return ""
	}
	return l.LastWords()
}
