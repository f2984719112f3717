package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"

	"golang.org/x/sys/unix"
)

// packageStep installs those files of the bundle that fit the package manager of the
// host. What they replace is kept before anything is changed, in the phase preCheck already: the
// package file from the manager's cache, if it is the one that is installed, else made of what is
// installed (dpkg) or fetched (rpm). One that can not be had is refused by its name. In the phase
// rollback they come back; a package that was not there before is removed again. Configuration
// files that were changed by hand stay as they are, in both directions.
type packageStep struct {
	host *Host
	what *manifest.Packages
	step *Step
}

// manager is dpkg or rpm.
type manager interface {
	// info reads name, architecture and version from a package file.
	info(ctx context.Context, file string) (pkg, error)
	// there returns what a host has of a package, of all architectures; none when it
	// is not there.
	there(ctx context.Context, name string) ([]instance, error)
	// refuse says why what is there could not be brought back as it is. all is what
	// the bundle installs.
	refuse(x pkg, have []instance, all []pkg) error
	// cached returns where the file of the version before may be; the first is where an operator may put it.
	cached(p pkg) ([]string, error)
	// same wants a package file to be the very one that is installed.
	same(ctx context.Context, file string, p pkg) error
	// again makes or fetches the file of the version before, at that path, and compares it.
	again(ctx context.Context, p pkg, to string) error
	// install and remove return commands, in their order. marks returns those that
	// give packages the marks again that they had; were says that they are as before.
	install(files []string, ps []pkg) [][]string
	remove(ps []pkg) [][]string
	marks(ps []pkg, were bool) [][]string
	// locked says who has the manager's lock, "" when it is free.
	locked() (string, error)
	// lostRace recognizes what the manager says when another was faster.
	lostRace(log string) bool
}

// pkg is a package of the bundle, and what was there before. The records of agents
// that did not know them lack WasArch and Mark.
type pkg struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"`           // in the bundle
	Was     string `json:"was,omitempty"`     // version that it replaces; "": it replaces none
	WasArch string `json:"wasArch,omitempty"` // of Was; "": Arch
	Mark    string `json:"mark,omitempty"`    // that Was had, such as hold; "": none
	Kept    string `json:"kept,omitempty"`    // copy of the package that was installed, absolute
	Sum     string `json:"sum,omitempty"`     // SHA-256 of Kept, hex
	Beside  bool   `json:"beside,omitempty"`
	// Beside: versions live beside one another (kernels of rpm), so that Was is
	// the same version or "", and rolling back is removing.

	same bool // as instance.Same
}

// instance is a package that a host has.
type instance struct {
	Arch    string
	Version string
	State   string // installed, or in which other state the manager has left it
	Mark    string // that somebody has given it, such as hold; "": none
	Same    bool   // it lives beside the same package of another architecture
}

const installed = "installed" // instance.State

// now is what the host has when the package is installed, before what it has when
// it was brought back. The latter has no version for one that was not there.
func (x pkg) now() instance { return instance{Arch: x.Arch, Version: x.Version, Mark: x.Mark} }

func (x pkg) before() instance {
	return instance{Arch: cmp.Or(x.WasArch, x.Arch), Version: x.Was, Mark: x.Mark}
}

// changed tells whether there is something to bring back.
func (x pkg) changed() bool { return x.Was != x.Version || x.before().Arch != x.Arch }

// replaced returns what makes room for a package when that is installed: the same of
// its architecture, or of another one beside which it can not live.
func (x pkg) replaced(have []instance) *instance {
	for _, h := range slices.Backward(have) {
		if h.Arch == x.Arch {
			return &h
		}
	}
	for _, h := range have {
		if !h.Same || !x.same {
			return &h
		}
	}
	return nil
}

// choose returns the host's package manager and the files for it.
func (p *packageStep) choose(ctx context.Context) (manager, []string, error) {
	m, err := p.host.manager(ctx, len(p.what.Deb), len(p.what.RPM))
	if _, deb := m.(*dpkg); deb {
		return m, p.what.Deb, err
	}
	return m, p.what.RPM, err
}

func (p *packageStep) do(ctx context.Context) (program.Result, error) {
	limited, cancel := context.WithTimeout(ctx, p.step.Timeout)
	defer cancel()
	if p.step.Values.Phase == manifest.Commit {
		return program.Result{State: program.Done}, nil // the run's backups are removed as a whole
	}
	m, files, err := p.choose(limited)
	if err == nil {
		var ps []pkg
		if files, ps, err = p.record(limited, m, files); err == nil {
			return p.carryOut(ctx, m, files, ps)
		}
	}
	return failed(err.Error()), ctx.Err()
}

func (p *packageStep) carryOut(ctx context.Context, m manager, files []string, ps []pkg) (program.Result, error) {
	switch p.step.Values.Phase {
	case manifest.PreCheck:
		return program.Result{State: program.Done}, nil // it was not refused
	case manifest.Backup:
		return program.Result{State: program.Done}, nil // the record is the backup
	case manifest.Rollback:
		cmds, err := rollback(m, ps)
		if err != nil {
			return failed(err.Error()), nil
		}
		return p.commands(ctx, m, cmds)
	}
	return p.commands(ctx, m, append(m.install(files, ps), m.marks(ps, false)...))
}

// was names what a package has replaced.
func (x pkg) was() string {
	return x.Name + " " + x.say([]instance{{Arch: x.before().Arch, Version: x.Was}})
}

// whole reports whether the copy is what was kept.
func (x pkg) whole() bool {
	sum, err := fileSum(x.Kept)
	return err == nil && sum == x.Sum
}

// rollback returns the commands that bring back what was there, or says for which
// packages there is nothing to bring back.
func rollback(m manager, ps []pkg) ([][]string, error) {
	var again []string
	var back, gone []pkg
	var lost []string
	for _, x := range ps {
		switch {
		case !x.changed():
		case x.Was == "":
			gone = append(gone, x)
		case x.Kept == "":
			lost = append(lost, x.was()+" can not be brought back: it was not kept before the change")
		case !x.whole():
			lost = append(lost, fmt.Sprintf("%s can not be brought back: %s is not what was kept", x.was(), x.Kept))
		default:
			again, back = append(again, x.Kept), append(back, x)
		}
	}
	if len(lost) > 0 {
		return nil, fmt.Errorf("%s; install it by hand", strings.Join(lost, ", "))
	}
	var cmds [][]string
	if len(again) > 0 {
		cmds = append(cmds, m.install(again, back)...)
	}
	if len(gone) > 0 {
		cmds = append(cmds, m.remove(gone)...)
	}
	return append(cmds, m.marks(ps, true)...), nil
}

// commands runs the manager, and again when another one was faster.
func (p *packageStep) commands(ctx context.Context, m manager, cmds [][]string) (program.Result, error) {
	end := time.Now().Add(p.step.Timeout)
	wait := p.host.Tools.LockWait
	if wait == 0 {
		wait = 5 * time.Minute
	}
	r := program.Result{State: program.Done}
	for _, argv := range cmds {
		for limit := time.Now().Add(wait); ; {
			if err := p.free(ctx, m, limit); err != nil {
				return failed(err.Error()), ctx.Err()
			}
			var err error
			if r, err = p.host.tool(ctx, p.step, max(time.Until(end), time.Millisecond), quietly(), argv...); err != nil {
				return r, err
			}
			if r.State != program.Failed || time.Now().After(limit) {
				break
			}
			if said, err := os.ReadFile(r.OutputFile); err != nil || !m.lostRace(string(said)) {
				break // one that could not be begun has said nothing
			}
		}
		if r.State != program.Done {
			return r, nil
		}
	}
	return r, nil
}

// quietly keeps package managers and what they call from asking.
func quietly() []string {
	return []string{"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"APT_LISTCHANGES_FRONTEND=none", "NEEDRESTART_SUSPEND=1", "UCF_FORCE_CONFFOLD=1"}
}

// free waits until the manager's lock is free.
func (p *packageStep) free(ctx context.Context, m manager, limit time.Time) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for said := false; ; {
		who, err := m.locked()
		if err != nil || who == "" {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("the package manager is in use by %s", who)
		}
		if !said {
			said = true
			p.step.Attempt.Say("waiting for the package manager, in use by %s", who)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (p *packageStep) done(ctx context.Context, _ program.Result) (program.Result, error) {
	phase := p.step.Values.Phase
	switch phase {
	case manifest.Commit:
		return program.Result{State: program.Done}, nil
	case manifest.PreCheck:
		return program.Result{State: program.NotDone}, nil // looked at once more
	}
	m, files, err := p.choose(ctx)
	if err != nil {
		return program.Result{State: program.Unknown, Exit: -1, Why: err.Error()}, nil
	}
	ps, err := p.recorded(files)
	if err != nil || ps == nil {
		return program.Result{State: program.NotDone}, err
	}
	if phase == manifest.Backup {
		return program.Result{State: program.Done}, nil
	}
	for _, x := range ps {
		have, err := m.there(ctx, x.Name)
		if err != nil {
			return program.Result{}, err
		}
		want := x.now()
		if phase == manifest.Rollback {
			want = x.before()
		}
		if !x.is(want, have) {
			return program.Result{State: program.NotDone, Why: fmt.Sprintf("%s is %s, not %s", x.Name, x.say(have), x.say([]instance{want}))}, nil
		}
	}
	return program.Result{State: program.Done}, nil
}

// is reports whether a host has what is wanted, which may be that it has nothing.
func (x pkg) is(want instance, have []instance) bool {
	if want.Version == "" {
		return !slices.ContainsFunc(have, func(h instance) bool {
			return h.Arch == x.Arch && (!x.Beside || h.Version == x.Version)
		})
	}
	return slices.ContainsFunc(have, func(h instance) bool {
		marked := want.Mark == "" || h.Mark == want.Mark
		return h.Arch == want.Arch && h.Version == want.Version && h.State == installed && marked
	})
}

// say tells people what a host has of a package.
func (x pkg) say(have []instance) string {
	var out []string
	for _, h := range have {
		if h.Version == "" {
			continue
		}
		text := h.Version
		if h.Arch != x.Arch {
			text += " of " + h.Arch
		}
		for _, s := range []string{h.State, h.Mark} {
			if s != "" && s != installed {
				text += " (" + s + ")"
			}
		}
		out = append(out, text)
	}
	return orNone(strings.Join(out, " and "))
}

func orNone(s string) string { return cmp.Or(s, "not installed") }

// lockedBy says which process has a lock of fcntl on a file, "" for none.
func lockedBy(file string) (string, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at lock %s: %w", file, err)
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return "", fmt.Errorf("look at lock %s: %w", file, err)
	}
	if l.Type == unix.F_UNLCK {
		return "", nil
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", l.Pid))
	if err != nil {
		name = []byte("gone") // it ended just now
	}
	return fmt.Sprintf("process %d (%s)", l.Pid, strings.TrimSpace(string(name))), nil
}
