package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/lib/durable"
)

// dpkg is the package manager of Debian and its kin.
type dpkg struct{ host *Host }

func (d *dpkg) under(path string) string { return filepath.Join("/", d.host.Tools.Root, path) }
func (d *dpkg) database() string         { return d.under("var/lib/dpkg") }

func (d *dpkg) info(ctx context.Context, file string) (pkg, error) {
	out, exit, err := d.host.query(ctx, "dpkg-deb", "-f", file, "Package", "Version", "Architecture", "Multi-Arch")
	if err != nil {
		return pkg{}, err
	}
	field := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, ":")
		field[key] = strings.TrimSpace(value)
	}
	x := pkg{Name: field["Package"], Version: field["Version"], Arch: field["Architecture"], same: field["Multi-Arch"] == "same"}
	if exit != 0 || x.Name == "" || x.Version == "" || x.Arch == "" {
		return pkg{}, fmt.Errorf("%s is no package that dpkg-deb can read", file)
	}
	return x, nil
}

// there asks for a name without an architecture, which dpkg-query takes for all.
func (d *dpkg) there(ctx context.Context, name string) ([]instance, error) {
	const format = "${Architecture}\t${Version}\t${db:Status-Status}\t${db:Status-Eflag}\t${db:Status-Want}\t${Multi-Arch}\n"
	out, exit, err := d.host.query(ctx, "dpkg-query", "--admindir="+d.database(), "-W", "-f", format, name)
	if err != nil || exit == 1 { // 1: dpkg knows no such package
		return nil, err
	}
	if exit != 0 {
		return nil, fmt.Errorf("dpkg-query -W %s ended with exit code %d", name, exit)
	}
	var have []instance
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("dpkg-query -W %s says %q: want 6 fields", name, line)
		}
		x := instance{Arch: f[0], Version: f[1], State: f[2], Mark: f[4], Same: f[5] == "same"}
		switch {
		case x.State == "not-installed", x.State == "config-files": // removed, but for its configuration
			continue
		case f[3] == "reinstreq":
			x.State = reinstall
		}
		if x.Mark == "install" || x.Mark == "unknown" {
			x.Mark = ""
		}
		have = append(have, x)
	}
	return have, nil
}

// States of dpkg that its own command does not mend.
const (
	halfInstalled = "half-installed"
	reinstall     = "to be reinstalled"
)

// refuse wants all of the package that are there to be installed as a whole.
func (d *dpkg) refuse(x pkg, have []instance, all []pkg) error {
	var errs []error
	for _, h := range have {
		name := x.Name + ":" + h.Arch
		paired := slices.ContainsFunc(all, func(y pkg) bool { return y.Name == x.Name && y.Arch == h.Arch && y.Version == x.Version })
		switch {
		case h.State == halfInstalled, h.State == reinstall:
			errs = append(errs, fmt.Errorf("package %s %s is %s: a rollback could not bring it back like that. "+
				"Repair it first: apt-get install --reinstall %s", name, h.Version, h.State, strings.TrimSuffix(name, ":all")))
		case h.State != installed:
			errs = append(errs, fmt.Errorf("package %s %s is %s: a rollback could not bring it back like that. "+
				"Repair it first: dpkg --configure -a", name, h.Version, h.State))
		case h.Same && x.same && h.Arch != x.Arch && h.Version != x.Version && !paired:
			errs = append(errs, fmt.Errorf("package %s %s is installed beside %s, and dpkg wants both in one "+
				"version: remove it first (dpkg --remove %s), or put %s %s into the bundle", name, h.Version, x.Arch, name, name, x.Version))
		}
	}
	return errors.Join(errs...)
}

// cached names the file as apt does, which writes the colon of an epoch as %3a.
func (d *dpkg) cached(p pkg) ([]string, error) {
	name := fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Was, ":", "%3a"), p.before().Arch)
	return []string{filepath.Join(d.under("var/cache/apt/archives"), name)}, nil
}

// again makes the package of what is installed, and reads it back.
func (d *dpkg) again(ctx context.Context, x pkg, to string) error {
	var made contents
	err := durable.Write(to, 0o600, func(out *os.File) (err error) {
		made, err = d.repack(ctx, x, out)
		return err
	})
	if err != nil {
		return err
	}
	if err := d.holds(ctx, to, made); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

func (d *dpkg) command(args ...string) []string {
	// A configuration file that was changed here is kept.
	argv := []string{"dpkg", "--force-confdef", "--force-confold"}
	if d.host.Tools.Root != "" {
		// dpkg's own log would be that of the machine, root or not.
		argv = append(argv, "--root="+d.host.Tools.Root, "--log="+d.under("var/log/dpkg.log"))
	}
	return append(argv, args...)
}

func (d *dpkg) install(files []string, _ []pkg) [][]string {
	return [][]string{d.command(append([]string{"--install"}, files...)...)}
}

func (d *dpkg) remove(ps []pkg) [][]string {
	args := []string{"--remove"}
	for _, p := range ps {
		args = append(args, p.Name+":"+p.Arch) // not that of another architecture
	}
	return [][]string{d.command(args...)}
}

// marks sets dpkg's selections again: an installation forgets that a package is on
// hold.
func (d *dpkg) marks(ps []pkg, were bool) [][]string {
	var lines strings.Builder
	for _, p := range ps {
		at := p.now()
		if were {
			at = p.before()
		}
		if p.Mark != "" {
			fmt.Fprintf(&lines, "%s:%s %s\n", p.Name, at.Arch, p.Mark)
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	const feed = `marks=$1; shift; printf %s "$marks" | "$@"` // dpkg reads them from its input
	return [][]string{append([]string{"sh", "-c", feed, "sh", lines.String()}, d.command("--set-selections")...)}
}

// locked looks at the lock of the front ends and at that of dpkg itself.
func (d *dpkg) locked() (string, error) {
	for _, name := range []string{"lock-frontend", "lock"} {
		if who, err := lockedBy(filepath.Join(d.database(), name)); err != nil || who != "" {
			return who, err
		}
	}
	return "", nil
}

func (d *dpkg) lostRace(log string) bool {
	return strings.Contains(log, "lock was locked by another process") || strings.Contains(log, "status database area is locked")
}
