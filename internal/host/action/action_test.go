package action

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

func TestRunGetsItsArgumentsAndEnvironment(t *testing.T) {
	r := newRig(t)
	r.inBundle("db/ctl.sh", `#!/bin/bash
echo "$@"
env | grep -v -e ^_= -e ^SHLVL= -e ^HOLDFAST_STEP= | sort
pwd
echo err >&2
`, 0o755)
	a := manifest.Action{Run: []string{"db/ctl.sh", "{mode}", "{appctlMode}", "x{version}y{from}", "{host}", "{phase}",
		"{no}", "{bundle}", "{backup}"}}
	r.probe(a, program.NotDone)
	r.do(a, "")
	want := strings.NewReplacer("B", r.bundle.Dir, "K", filepath.Join(r.root, "backup"), "P",
		r.host.Tools.Path).Replace("rolling rollup x2.0y1.0 h1 install {no} B K\n") + strings.Join([]string{
		"HOLDFAST_BACKUP=" + filepath.Join(r.root, "backup"), "HOLDFAST_BUNDLE=" + r.bundle.Dir, "HOLDFAST_FROM=1.0", "HOLDFAST_HOST=h1",
		"HOLDFAST_MODE=rolling", "HOLDFAST_PHASE=install", "HOLDFAST_VERSION=2.0", "HOME=/root", "LANG=C.UTF-8",
		"PATH=" + r.host.Tools.Path, "PWD=" + r.bundle.Dir, r.bundle.Dir, "err\n",
	}, "\n")
	if os.Geteuid() != 0 {
		want = strings.Replace(want, "HOME=/root", "HOME=/", 1)
	}
	if got := r.log.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.probe(a, program.Done)
}

func TestRunIsRefused(t *testing.T) {
	r := newRig(t)
	r.inBundle("ok.sh", "#!/bin/sh\necho ran\nexit 4\n", 0o755)
	r.inBundle("dir/changed.sh", "#!/bin/sh\necho ran\n", 0o755)
	r.inBundle("plain.sh", "#!/bin/sh\necho ran\n", 0o644)
	r.inBundle("real/x.sh", "#!/bin/sh\necho ran\n", 0o755)
	r.write("bundle/unlisted.sh", "#!/bin/sh\necho ran\n", 0o755)
	r.write("bundle/dir/changed.sh", "#!/bin/sh\necho RAN\n", 0o755)
	if err := os.Symlink("real", filepath.Join(r.bundle.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.bundle.Files["link/x.sh"] = r.bundle.Files["real/x.sh"]
	for name, why := range map[string]string{
		"dir/changed.sh": "its hash is", "plain.sh": "is no program", "unlisted.sh": "does not list it",
		"link/x.sh": "too many levels of symbolic links", "none": "does not list it",
	} {
		r.do(manifest.Action{Run: []string{name}}, why)
	}
	if r.log.String() != "" {
		t.Errorf("something was run: %s", r.log.String())
	}
	a := manifest.Action{Run: []string{"ok.sh"}}
	if res := r.do(a, "exit code 4"); res.Exit != 4 {
		t.Errorf("got %+v", res)
	}
	r.probe(a, program.Failed)
}

func TestTwoKindsOrNone(t *testing.T) {
	r := newRig(t)
	for _, a := range []manifest.Action{{}, {None: true, Run: []string{"x"}}, {Run: []string{}}, {None: true, Systemd: &manifest.Systemd{}}} {
		if _, err := r.host.Do(t.Context(), a, r.step()); err == nil {
			t.Errorf("accepted %+v", a)
		}
	}
	r.do(manifest.Action{None: true}, "")
	r.probe(manifest.Action{None: true}, program.Done)
}

func TestAnActionThatIsLeftIsFoundAgain(t *testing.T) {
	r := newRig(t)
	r.inBundle("slow.sh", "#!/bin/bash\necho begun\nuntil [ -e $1 ]; do sleep 0.02; done\necho ended\nexit 9\n", 0o755)
	go1 := filepath.Join(r.root, "go")
	a := manifest.Action{Run: []string{"slow.sh", go1}}
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{word: "begun", then: cancel}
	s := r.step()
	s.Attempt = r.attempt(out)
	if _, err := r.host.Do(ctx, a, s); !errors.Is(err, program.ErrLeft) {
		t.Fatalf("got %v", err)
	}
	r.probe(a, program.Running)
	r.write("go", "", 0o600)
	s = r.same()
	res, err := s.Attempt.Follow(r.ctx(), r.look(a, s))
	if err != nil || res.State != program.Failed || res.Exit != 9 || r.log.String() != "begun\nended\n" {
		t.Errorf("got %+v, %v, log %q", res, err, r.log.String())
	}
	if _, err := r.host.Do(r.ctx(), a, r.same()); !errors.Is(err, program.ErrBegun) {
		t.Errorf("the same attempt once more: %v", err)
	}
}

// until calls a function when a word was written.
type until struct {
	word string
	then func()
	got  strings.Builder
}

func (u *until) Write(p []byte) (int, error) {
	u.got.Write(p)
	if strings.Contains(u.got.String(), u.word) {
		u.then()
	}
	return len(p), nil
}

func TestStop(t *testing.T) {
	r := newRig(t)
	r.inBundle("slow.sh", "#!/bin/bash\necho begun\nsleep 60\n", 0o755)
	a := manifest.Action{Run: []string{"slow.sh"}}
	ctx, cancel := context.WithCancel(t.Context())
	s := r.step()
	s.Attempt = r.attempt(&until{word: "begun", then: cancel})
	if _, err := r.host.Do(ctx, a, s); !errors.Is(err, program.ErrLeft) {
		t.Fatalf("got %v", err)
	}
	res, err := s.Attempt.Stop(r.ctx())
	r.judge(res, err, "it was stopped")
	r.probe(a, program.Failed)
	if res, err := r.step().Attempt.Stop(r.ctx()); err != nil || res.State != program.NotDone {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestPromptsByCredentials(t *testing.T) {
	r := newRig(t)
	r.inBundle("ask.sh", "#!/bin/bash\nread -s -p 'sys pwd: ' x; echo; [ \"$x\" = geheim ] && echo \"$x, in\" && exit 0; exit 1\n", 0o755)
	r.change = func(s *Step) {
		s.Terminal, s.Credentials = true, r.write("credentials", "secrets: {sys: geheim}\nexpect: [{prompt: 'sys pwd:', secret: sys}]", 0o600)
	}
	r.do(manifest.Action{Run: []string{"ask.sh"}}, "")
	if got := r.log.String(); got != "sys pwd: \n***, in\n" {
		t.Errorf("got %q", got)
	}
}

func TestFileTree(t *testing.T) {
	r := newRig(t)
	r.inBundle("web/index", "new", 0o644)
	r.write("opt/web/index", "old", 0o644)
	target := filepath.Join(r.root, "opt/web")
	a := manifest.Action{FileTree: &manifest.FileTree{Source: "web", Target: target}}
	content := func(want string) {
		t.Helper()
		if got := r.read("opt/web/index"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	r.probe(a, program.NotDone)
	r.phase = manifest.Rollback
	r.do(a, "no directory was replaced")
	r.probe(a, program.NotDone)
	r.phase = "install"
	r.do(a, "")
	content("new")
	r.probe(a, program.Done)
	r.phase = manifest.Commit
	r.probe(a, program.NotDone)
	r.phase = manifest.Rollback
	r.probe(a, program.NotDone)
	r.do(a, "")
	content("old")
	r.probe(a, program.Done)
	r.phase = "install"
	r.probe(a, program.NotDone)
	r.write("bundle/web/index", "bad", 0o644)
	r.do(a, "is not what the manifest says")
	content("old")
	r.write("bundle/web/index", "new", 0o644)
	r.do(a, "")
	r.phase = manifest.Commit
	r.do(a, "")
	r.probe(a, program.Done)
	content("new")
	r.phase = manifest.Rollback
	r.do(a, "committed")
	r.phase = manifest.Backup
	r.do(a, "")
	r.probe(a, program.Done)
}

func TestSystemd(t *testing.T) {
	r := newRig(t)
	start := manifest.Action{Systemd: &manifest.Systemd{Start: []string{"web.service", "db@1"}}}
	r.host.Tools.Booted = filepath.Join(r.root, "none")
	r.do(start, "this host does not run systemd")
	r.host.Tools.Booted = r.root
	r.tool("systemctl", `
case $2 in
start|restart) shift 3; for u in "$@"; do [ $u = bad ] && echo "Job for bad failed" && exit 1; touch $R/up-$u; done;;
stop) shift 3; for u in "$@"; do rm -f $R/up-$u; done;;
esac
if [ $1 = is-active ]; then [ -e $R/up-$3 ] && echo active || { echo inactive; exit 3; }; fi
exit 0`)
	r.probe(start, program.NotDone)
	r.do(start, "")
	r.probe(start, program.Done)
	stop := manifest.Action{Systemd: &manifest.Systemd{Stop: []string{"web.service"}}}
	r.steps++
	r.probe(stop, program.NotDone)
	r.do(stop, "")
	r.probe(stop, program.Done)
	r.do(manifest.Action{Systemd: &manifest.Systemd{Start: []string{"bad"}}}, "exit code 1")
	if !strings.Contains(r.log.String(), "Job for bad failed") {
		t.Errorf("log: %s", r.log.String())
	}
	again := manifest.Action{Systemd: &manifest.Systemd{Restart: []string{"web.service"}}}
	r.steps++
	r.probe(again, program.NotDone)
	r.do(again, "")
	r.probe(again, program.Done)
	for _, want := range []string{"systemctl --no-ask-password start -- web.service db@1\n",
		"systemctl --no-ask-password restart -- web.service\n"} {
		if !strings.Contains(r.calls(), want) {
			t.Errorf("calls: %s", r.calls())
		}
	}
}

func TestADeadlineEndsATool(t *testing.T) {
	r := newRig(t)
	r.host.Tools.Booted = r.root
	r.tool("systemctl", "sleep 60")
	r.change = func(s *Step) { s.Timeout = 200 * time.Millisecond }
	r.do(manifest.Action{Systemd: &manifest.Systemd{Stop: []string{"x"}}}, "it did not end within 200ms")
}
