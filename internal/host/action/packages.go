package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// packageStep installs packages, keeps those that they replace, and brings these
// back. Only packages whose files were kept can be brought back; a package that
// was not there before is removed again. Configuration files that were changed by
// hand stay as they are, in both directions.
type packageStep struct {
	host *Host
	what *Packages
	step *Step
}

// manager is dpkg or rpm.
type manager interface {
	// info reads name, architecture and version from a package file.
	info(ctx context.Context, file string) (pkg, error)
	// versions returns the installed versions of a package, none when it is not there.
	versions(ctx context.Context, p pkg) ([]string, error)
	// cached returns where the file of an installed version may be.
	cached(p pkg) ([]string, error)
	// install and remove return commands, in their order.
	install(files []string, ps []pkg) [][]string
	remove(ps []pkg) [][]string
	// locked says who has the manager's lock, "" when it is free.
	locked() (string, error)
	// lostRace recognizes what the manager says when another was faster.
	lostRace(log string) bool
}

// pkg is a package of the bundle, and what was there before.
type pkg struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"`        // in the bundle
	Was     string `json:"was,omitempty"`  // installed before; "": was not there
	Kept    string `json:"kept,omitempty"` // copy of the package that was installed, absolute
	Beside  bool   `json:"beside,omitempty"`
	// Beside: versions live beside one another (kernels of rpm), so that Was is
	// the same version or "", and rolling back is removing.
}

// choose returns the host's package manager and the files for it.
func (p *packageStep) choose(ctx context.Context) (manager, []string, error) {
	dpkg := &dpkg{p.host}
	if _, err := os.Stat(dpkg.database() + "/status"); err == nil && len(p.what.Deb) > 0 {
		return dpkg, p.what.Deb, nil
	}
	if _, _, err := p.host.query(ctx, "rpm", "--version"); err == nil && len(p.what.RPM) > 0 {
		return &rpm{p.host}, p.what.RPM, nil
	}
	return nil, nil, fmt.Errorf("no package of the bundle fits this host: it has %d for dpkg and %d for rpm", len(p.what.Deb), len(p.what.RPM))
}

func (p *packageStep) do(ctx context.Context) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, p.step.Timeout)
	defer cancel()
	if p.step.Values.Phase == PhaseCommit {
		return Result{State: Done}, nil // the run's backups are removed as a whole
	}
	m, files, err := p.choose(limited)
	if err == nil {
		var ps []pkg
		if files, ps, err = p.record(limited, m, files); err == nil {
			return p.carryOut(ctx, m, files, ps)
		}
	}
	return Result{State: Failed, Exit: -1, Why: err.Error()}, ctx.Err()
}

func (p *packageStep) carryOut(ctx context.Context, m manager, files []string, ps []pkg) (Result, error) {
	switch p.step.Values.Phase {
	case PhaseBackup:
		return Result{State: Done}, nil // the record is the backup
	case PhaseRollback:
		cmds, err := rollback(m, ps)
		if err != nil {
			return Result{State: Failed, Exit: -1, Why: err.Error()}, nil
		}
		return p.commands(ctx, m, cmds)
	}
	return p.commands(ctx, m, m.install(files, ps))
}

// rollback returns the commands that bring back what was there, or says for which
// packages there is nothing to bring back.
func rollback(m manager, ps []pkg) ([][]string, error) {
	var again []string
	var back, gone []pkg
	var lost []string
	for _, x := range ps {
		switch {
		case x.Was == x.Version:
		case x.Was == "":
			gone = append(gone, x)
		case x.Kept == "":
			lost = append(lost, x.Name+" "+x.Was)
		default:
			again, back = append(again, x.Kept), append(back, x)
		}
	}
	if len(lost) > 0 {
		return nil, fmt.Errorf("%s can not be brought back: its file was not in the package manager's cache when the backup was made; install it by hand", strings.Join(lost, ", "))
	}
	var cmds [][]string
	if len(again) > 0 {
		cmds = append(cmds, m.install(again, back)...)
	}
	if len(gone) > 0 {
		cmds = append(cmds, m.remove(gone)...)
	}
	return cmds, nil
}

// commands runs the manager, and again when another one was faster.
func (p *packageStep) commands(ctx context.Context, m manager, cmds [][]string) (Result, error) {
	end := time.Now().Add(p.step.Timeout)
	wait := p.host.Tools.LockWait
	if wait == 0 {
		wait = 5 * time.Minute
	}
	r, n := Result{State: Done}, 0
	for _, argv := range cmds {
		for limit := time.Now().Add(wait); ; {
			if err := p.free(ctx, m, limit); err != nil {
				return Result{State: Failed, Exit: -1, Why: err.Error()}, ctx.Err()
			}
			n++
			log := &tail{to: p.step.Log}
			step := *p.step
			step.Log = log
			var err error
			r, err = p.host.tool(ctx, &step, n, max(time.Until(end), time.Millisecond), quietly(), argv...)
			if err != nil {
				return r, err
			}
			if r.State != Failed || !m.lostRace(string(log.kept)) || time.Now().After(limit) {
				break
			}
		}
		if r.State != Done {
			return r, nil
		}
	}
	return r, nil
}

// quietly keeps package managers and what they call from asking.
func quietly() []string {
	return []string{"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "APT_LISTCHANGES_FRONTEND=none", "NEEDRESTART_SUSPEND=1", "UCF_FORCE_CONFFOLD=1"}
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
			if _, err := fmt.Fprintf(p.step.Log, "[holdfast: waiting for the package manager, in use by %s]\n", who); err != nil {
				return fmt.Errorf("write the log: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (p *packageStep) done(ctx context.Context) (Result, error) {
	phase := p.step.Values.Phase
	if phase == PhaseCommit {
		return Result{State: Done}, nil
	}
	m, files, err := p.choose(ctx)
	if err != nil {
		return Result{State: Unknown, Exit: -1, Why: err.Error()}, nil
	}
	ps, err := p.recorded(files)
	if err != nil || ps == nil {
		return Result{State: NotDone}, err
	}
	if phase == PhaseBackup {
		return Result{State: Done}, nil
	}
	for _, x := range ps {
		have, err := m.versions(ctx, x)
		if err != nil {
			return Result{}, err
		}
		want := x.Version
		if phase == PhaseRollback {
			want = x.Was
		}
		if ok := slices.Contains(have, want) || want == "" && (len(have) == 0 || x.Beside && !slices.Contains(have, x.Version)); !ok {
			return Result{State: NotDone, Why: fmt.Sprintf("%s is %s, not %s", x.Name, orNone(strings.Join(have, " and ")), orNone(want))}, nil
		}
	}
	return Result{State: Done}, nil
}

func orNone(s string) string {
	if s == "" {
		return "not installed"
	}
	return s
}

func (p *packageStep) recordFile(files []string) string {
	sum := sha256.Sum256([]byte(strings.Join(files, "\x00")))
	return filepath.Join(p.step.Values.Backup, "packages-"+hex.EncodeToString(sum[:6])+".json")
}

// recorded returns nil when there is no record yet.
func (p *packageStep) recorded(files []string) ([]pkg, error) {
	data, err := os.ReadFile(p.recordFile(files))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was installed before: %w", err)
	}
	var ps []pkg
	if err := json.Unmarshal(data, &ps); err != nil {
		return nil, fmt.Errorf("read what was installed before, %s: %w", p.recordFile(files), err)
	}
	return ps, nil
}

// record checks the files of the bundle and writes down what is installed before
// anything is changed, once in a run. It returns absolute paths.
func (p *packageStep) record(ctx context.Context, m manager, files []string) ([]string, []pkg, error) {
	ps, err := p.recorded(files)
	if err != nil {
		return nil, nil, err
	}
	if !filepath.IsAbs(p.step.Values.Backup) {
		return nil, nil, fmt.Errorf("backup directory %q: want an absolute path", p.step.Values.Backup)
	}
	if p.step.Values.Phase == PhaseRollback {
		if ps == nil {
			return nil, nil, errors.New("nothing was installed in this run")
		}
		return nil, ps, nil
	}
	abs := make([]string, len(files))
	for i, f := range files {
		if abs[i], err = p.step.Bundle.Verify(ctx, f); err != nil {
			return nil, nil, err
		}
	}
	if ps != nil {
		return abs, ps, nil
	}
	for _, f := range abs {
		x, err := p.before(ctx, m, f)
		if err != nil {
			return nil, nil, err
		}
		ps = append(ps, x)
	}
	return abs, ps, p.write(p.recordFile(files), ps)
}

// before looks at what a package replaces, and keeps that.
func (p *packageStep) before(ctx context.Context, m manager, file string) (pkg, error) {
	x, err := m.info(ctx, file)
	if err != nil {
		return x, err
	}
	have, err := m.versions(ctx, x)
	if err != nil || len(have) == 0 {
		return x, err
	}
	x.Was = have[len(have)-1]
	if x.Beside || slices.Contains(have, x.Version) {
		x.Was = ""
		if slices.Contains(have, x.Version) {
			x.Was = x.Version
		}
		return x, nil
	}
	places, err := m.cached(x)
	if err != nil {
		return x, err
	}
	for _, place := range places {
		was, err := m.info(ctx, place)
		if err != nil || was.Name != x.Name || was.Version != x.Was {
			continue // not there, or not that package
		}
		x.Kept = filepath.Join(p.step.Values.Backup, "packages", filepath.Base(place))
		return x, keep(place, x.Kept)
	}
	_, err = fmt.Fprintf(p.step.Log, "[holdfast: the package of %s %s is not in the cache: it can not be brought back]\n", x.Name, x.Was)
	return x, err
}

// keep copies a package and puts it on disk.
func keep(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("keep %s: %w", from, err)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("keep %s: %w", from, err)
	}
	return put(to, data)
}

func (p *packageStep) write(file string, ps []pkg) error {
	if err := os.MkdirAll(p.step.Values.Backup, 0o700); err != nil {
		return fmt.Errorf("make the backup directory: %w", err)
	}
	data, err := json.Marshal(ps)
	if err != nil {
		return fmt.Errorf("write down what is installed: %w", err)
	}
	return put(file, append(data, '\n'))
}

// put replaces a file as a whole and puts it on disk.
func put(file string, data []byte) error {
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

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
