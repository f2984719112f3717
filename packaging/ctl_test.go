package packaging_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain is also holdfast, as self/ctl/ctl.sh sees it: when this program is called
// by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "holdfast" {
		os.Exit(standIn(filepath.Dir(os.Args[0]), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// standIn is a holdfast whose version is in the file VERSION beside it. Its agent
// writes that into a file in its run directory.
func standIn(dir string, args []string) int {
	version, err := os.ReadFile(filepath.Join(dir, "VERSION"))
	say := strings.Join(args, " ")
	settings := args[len(args)-1]
	switch {
	case err != nil:
	case strings.HasPrefix(say, "agent --check --config "):
		var text []byte
		if text, err = os.ReadFile(settings); err == nil && !strings.Contains(string(text), "run_dir") {
			err = fmt.Errorf("%s: want run_dir", settings)
		}
	case strings.HasPrefix(say, "agent --check --insecure --config "):
		err = os.WriteFile(filepath.Join(filepath.Dir(settings), "asked-insecure"), nil, 0o644)
	case strings.HasPrefix(say, "agent --config "), strings.HasPrefix(say, "agent --insecure --config "):
		err = os.WriteFile(filepath.Join(filepath.Dir(settings), "runs"), version, 0o644)
		time.Sleep(time.Hour) // or until it is told to end
	case strings.HasPrefix(say, "version -o json --socket "):
		if _, err := os.Stat(filepath.Join(dir, "hangs")); err == nil {
			time.Sleep(time.Hour)
		}
		agent := "none"
		if text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(settings)), "runs")); err == nil {
			agent = string(text)
		}
		fmt.Printf("{\n  \"client\": {\n    \"version\": \"%s\",\n    \"go\": \"1\"\n  },\n  \"agent\": {\n    "+
			"\"version\": \"%s\",\n    \"go\": \"1\"\n  }\n}\n", version, agent)
	default:
		err = fmt.Errorf("not known: %s", say)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// host has an agent that is started again when it has ended, and perhaps systemd.
type host struct {
	t   *testing.T
	dir string

	mu    sync.Mutex
	agent *exec.Cmd
	flags []string // of the agent
	stays bool     // it is not started again
	// answer is how long the script waits for the program to answer, s.
	answer string
	ends   sync.WaitGroup
}

const systemctl = `#!/bin/sh
here=${0%/*}
echo "$*" >>"$here/calls"
[ -e "$here/KillMode" ] || exit 3
case "$*" in
*MainPID*) cat "$here/MainPID" ;;
*KillMode*) cat "$here/KillMode" ;;
esac
`

func newHost(t *testing.T, version string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), answer: "20"}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"opt/bin", "bundle/bin"} {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(exe, filepath.Join(h.dir, dir, "holdfast")); err != nil {
			t.Fatal(err)
		}
	}
	h.write("bundle/bin/VERSION", "2.0.0")
	h.install(version)
	h.write("agent.json", `{"host": "h1", "run_dir": "`+h.dir+`/run"}`)
	write(t, filepath.Join(h.dir, "systemctl"), systemctl, 0o755)
	h.start()
	t.Cleanup(h.end)
	h.runs(version)
	return h
}

func (h *host) write(name, text string) { write(h.t, filepath.Join(h.dir, name), text, 0o644) }

// install puts a program of a version in place of the one that runs.
func (h *host) install(version string) { h.write("opt/bin/VERSION", version) }

func (h *host) exe() string { return filepath.Join(h.dir, "opt/bin/holdfast") }

// start starts the agent, and again when it has ended.
func (h *host) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stays {
		return
	}
	h.agent = exec.Command(h.exe(), append(append([]string{"agent"}, h.flags...), "--config", filepath.Join(h.dir, "agent.json"))...)
	if err := h.agent.Start(); err != nil {
		h.t.Error(err)
		return
	}
	cmd := h.agent
	h.ends.Go(func() {
		_ = cmd.Wait() // it is told to end
		h.start()
	})
}

// stay lets the agent not be started again.
func (h *host) stay() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stays = true
}

func (h *host) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent.Process.Pid
}

func (h *host) end() {
	h.stay()
	_ = h.agent.Process.Kill() // it may have ended
	h.ends.Wait()
}

// runs waits for an agent of a version.
func (h *host) runs(version string) {
	h.t.Helper()
	try.Until(h.t, "agent "+version, func() bool {
		have, err := os.ReadFile(filepath.Join(h.dir, "runs"))
		return err == nil && string(have) == version
	})
}

// ctl calls the script as an upgrade does; it must succeed, or fail saying a word.
func (h *host) ctl(fails string, args ...string) {
	h.t.Helper()
	script, err := filepath.Abs("self/ctl/ctl.sh")
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.CommandContext(h.t.Context(), script, args...)
	cmd.Dir = filepath.Join(h.dir, "bundle")
	within := "30"
	if fails != "" {
		within = "0" // one look
	}
	cmd.Env = []string{"PATH=" + h.dir + ":/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOLDFAST_EXE=" + h.exe(),
		"HOLDFAST_WITHIN=" + within, "HOLDFAST_ANSWER=" + h.answer, "HOLDFAST_PAUSE=0.05",
		"GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	if fails == "" && err != nil || fails != "" && (err == nil || !strings.Contains(string(out), fails)) {
		h.t.Errorf("%s: %v: %s, want %q", strings.Join(args, " "), err, out, fails)
	}
}

// TestAgentIsReplaced: without systemd, there and back.
func TestAgentIsReplaced(t *testing.T) {
	need.Seconds(t)
	h := newHost(t, "dev")
	h.ctl("", "ready")
	first := h.pid()
	h.install("2.0.0")
	h.ctl("the agent is dev, the installed program 2.0.0, want 2.0.0", "runs", "2.0.0", "2.0.0")
	h.ctl("", "restart")
	h.runs("2.0.0")
	if h.pid() == first {
		t.Error("it is the same process")
	}
	h.ctl("", "runs", "2.0.0", "2.0.0")
	h.ctl("want 1.0.0", "runs", "1.0.0", "2.0.0") // on the way back
	h.install("dev")
	h.ctl("want 1.0.0", "runs", "1.0.0", "2.0.0")
	h.ctl("", "restart")
	h.runs("dev")
	h.ctl("", "runs", "1.0.0", "2.0.0")
	h.ctl("want 2.0.0", "runs", "2.0.0", "2.0.0")
	h.ctl("want ready, restart", "stop")
}

// TestAgentIsNotReady: what would fail in the middle is found before anything is done.
func TestAgentIsNotReady(t *testing.T) {
	need.Seconds(t)
	h := newHost(t, "1.0.0")
	h.write("agent.json", `{"host": "h1"}`)
	h.ctl("want run_dir", "ready")
	h.write("agent.json", `{"run_dir": "`+h.dir+`/run"}`)
	h.ctl("", "ready")
	h.stay()
	h.ctl("nothing has started it again", "restart")
	h.ctl("no agent runs as "+h.exe(), "ready")
	h.ctl("no agent runs as "+h.exe(), "restart")
	h.ctl("the agent is", "runs", "2.0.0", "2.0.0")
}

// TestAnInsecureAgentIsAskedAsSuch: the new program is asked whether it takes the
// settings in the way in which it will be started.
func TestAnInsecureAgentIsAskedAsSuch(t *testing.T) {
	h := newHost(t, "1.0.0")
	h.mu.Lock()
	h.flags = []string{"--insecure"}
	h.mu.Unlock()
	h.ctl("", "restart")
	h.ctl("", "ready")
	if _, err := os.Stat(filepath.Join(h.dir, "asked-insecure")); err != nil {
		t.Error(err)
	}
}

// TestProgramThatDoesNotAnswer: the script tells what is wrong before it is ended.
func TestProgramThatDoesNotAnswer(t *testing.T) {
	need.Seconds(t)
	h := newHost(t, "2.0.0")
	h.write("opt/bin/hangs", "")
	h.answer = "0.2"
	h.ctl("the agent is away, the installed program not to be run, want 2.0.0", "runs", "2.0.0", "2.0.0")
}

// TestScriptEndsBeforeItsStep: all of its waits are shorter than the module's timeout.
func TestScriptEndsBeforeItsStep(t *testing.T) {
	script, err := os.ReadFile("self/ctl/ctl.sh")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^within=\$\{HOLDFAST_WITHIN:-(\d+)\} .* answer=\$\{HOLDFAST_ANSWER:-(\d+)\}$`).FindSubmatch(script)
	manifest, err := os.ReadFile("self/manifest.yaml")
	if err != nil || found == nil || !strings.Contains(string(manifest), "\n  timeout: 2m\n") {
		t.Fatalf("%v, %q, %s", err, found, manifest)
	}
	within, werr := strconv.Atoi(string(found[1]))
	answer, aerr := strconv.Atoi(string(found[2]))
	if err := errors.Join(werr, aerr); err != nil || within+answer > 100 {
		t.Errorf("%d s and %d s, %v", within, answer, err)
	}
}

// TestSettingsAreFound in all forms that an agent reads.
func TestSettingsAreFound(t *testing.T) {
	need.Seconds(t)
	h := newHost(t, "2.0.0")
	dir := h.dir + "/run"
	for _, text := range []string{
		"# run_dir: /none\nhost: h1\nrun_dir: " + dir + " # short\n", "run_dir: '" + dir + "'\n", "host: h1\n\"run_dir\": \"" + dir + "\"",
		"{host: h1, run_dir: " + dir + "}", "{\n  \"host\": \"h1\",\n  \"run_dir\" : \"" + dir + "\",\n  \"x\": \"y\"\n}",
	} {
		h.write("agent.json", text)
		h.ctl("the agent is 2.0.0, the installed program 2.0.0, want 1.0.0", "runs", "1.0.0", "2.0.0")
	}
}

// TestSystemdIsAsked when the agent is its unit.
func TestSystemdIsAsked(t *testing.T) {
	h := newHost(t, "1.0.0")
	pid := h.pid()
	h.write("KillMode", "control-group\n")
	h.write("MainPID", fmt.Sprintln(pid))
	h.ctl("KillMode=control-group, want process", "ready")
	h.write("KillMode", "process\n")
	h.ctl("", "ready")
	h.write("MainPID", "1\n")
	h.ctl("is not the one of holdfast.service", "ready")
	h.ctl("", "restart")
	calls, err := os.ReadFile(filepath.Join(h.dir, "calls"))
	if err != nil || !slices.Contains(strings.Split(string(calls), "\n"), "--no-ask-password restart holdfast.service") {
		t.Errorf("%v, calls %s", err, calls)
	}
	if h.pid() != pid {
		t.Error("the agent was ended beside systemd")
	}
}
