package action

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// dpkg is the package manager of Debian and its kin.
type dpkg struct{ host *Host }

func (d *dpkg) under(path string) string { return filepath.Join("/", d.host.Tools.Root, path) }
func (d *dpkg) database() string         { return d.under("var/lib/dpkg") }

func (d *dpkg) info(ctx context.Context, file string) (pkg, error) {
	out, exit, err := d.host.query(ctx, "dpkg-deb", "-f", file, "Package", "Version", "Architecture")
	if err != nil {
		return pkg{}, err
	}
	field := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, ":")
		field[key] = strings.TrimSpace(value)
	}
	x := pkg{Name: field["Package"], Version: field["Version"], Arch: field["Architecture"]}
	if exit != 0 || x.Name == "" || x.Version == "" || x.Arch == "" {
		return pkg{}, fmt.Errorf("%s is no package that dpkg-deb can read", file)
	}
	return x, nil
}

func (d *dpkg) versions(ctx context.Context, p pkg) ([]string, error) {
	name := p.Name
	if p.Arch != "all" {
		name += ":" + p.Arch
	}
	out, exit, err := d.host.query(ctx, "dpkg-query", "--admindir="+d.database(), "-W", "-f", "${db:Status-Status} ${Version}\n", name)
	if err != nil || exit == 1 { // 1: dpkg knows no such package
		return nil, err
	}
	if exit != 0 {
		return nil, fmt.Errorf("dpkg-query -W %s ended with exit code %d", name, exit)
	}
	var have []string
	for line := range strings.Lines(out) {
		// What is unpacked only, or removed but for its configuration, is not there.
		if state, version, _ := strings.Cut(strings.TrimSpace(line), " "); state == "installed" && version != "" {
			have = append(have, version)
		}
	}
	return have, nil
}

// cached names the file as apt does, which writes the colon of an epoch as %3a.
func (d *dpkg) cached(p pkg) ([]string, error) {
	name := fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Was, ":", "%3a"), p.Arch)
	return []string{filepath.Join(d.under("var/cache/apt/archives"), name)}, nil
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
		args = append(args, p.Name)
	}
	return [][]string{d.command(args...)}
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
