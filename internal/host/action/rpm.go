package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/text"
)

// rpm is the package manager of Red Hat and its kin. It waits for its lock by
// itself, within the step's timeout.
type rpm struct{ host *Host }

// rpmFormat gives name, architecture and version of a package in one line.
const rpmFormat = "%{NAME} %{ARCH} %{EPOCH}:%{VERSION}-%{RELEASE}\n"

func (r *rpm) rooted(argv ...string) []string {
	if r.host.Tools.Root != "" {
		argv = append(argv, "--root", r.host.Tools.Root)
	}
	return argv
}

func (r *rpm) info(ctx context.Context, file string) (pkg, error) {
	out, exit, err := r.host.query(ctx, "rpm", "-qp", "--nosignature", "--qf", rpmFormat, file)
	if err != nil {
		return pkg{}, err
	}
	f := strings.Fields(out)
	if exit != 0 || len(f) != 3 {
		return pkg{}, fmt.Errorf("%s is no package that rpm can read", file)
	}
	return pkg{Name: f[0], Arch: f[1], Version: strings.TrimPrefix(f[2], "(none):"), Beside: beside(f[0]), same: f[1] != "noarch"}, nil
}

// beside reports whether versions of a package live beside one another: those
// that dnf calls installonly. To upgrade a kernel would remove the one that runs.
func beside(name string) bool {
	rest, ok := strings.CutPrefix(name, "kernel")
	rest, _ = strings.CutPrefix(rest, "-rt")
	return ok && slices.Contains([]string{"", "-core", "-devel", "-modules", "-modules-core", "-modules-extra", "-PAE",
		"-debug", "-uek"}, rest)
}

func (r *rpm) there(ctx context.Context, name string) ([]instance, error) {
	out, exit, err := r.host.query(ctx, append(r.rooted("rpm", "-q", "--qf", rpmFormat), name)...)
	if err != nil || exit != 0 { // rpm says by its exit code that it has none
		return nil, err
	}
	var have []instance
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			have = append(have, instance{Arch: f[1], Version: strings.TrimPrefix(f[2], "(none):"), State: installed, Same: f[1] != "noarch"})
		}
	}
	return have, nil
}

// rpm knows no states between, and no marks.
func (r *rpm) refuse(pkg, []instance, []pkg) error { return nil }
func (r *rpm) marks([]pkg, bool) [][]string        { return nil }

// cached looks through the caches of dnf and yum.
func (r *rpm) cached(p pkg) ([]string, error) {
	_, plain, ok := strings.Cut(p.Was, ":")
	if !ok {
		plain = p.Was
	}
	want := fmt.Sprintf("%s-%s.%s.rpm", p.Name, plain, p.before().Arch)
	out := []string{filepath.Join("/", r.host.Tools.Root, "var/cache/dnf", want)}
	for _, dir := range []string{"var/cache/dnf", "var/cache/yum", "var/cache/libdnf5"} {
		err := filepath.WalkDir(filepath.Join("/", r.host.Tools.Root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == want && path != out[0] {
				out = append(out, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for %s: %w", want, err)
		}
	}
	return out, nil
}

// rpmDigests are those of a package's header and contents; older and newer versions of rpm lack one.
const rpmDigests = " %{SIGMD5} %{SHA1HEADER}\n"

// same compares the digests that rpm has kept of what it has installed.
func (r *rpm) same(ctx context.Context, file string, p pkg) error {
	format := strings.TrimSuffix(rpmFormat, "\n") + rpmDigests
	of, exit, err := r.host.query(ctx, "rpm", "-qp", "--nosignature", "--qf", format, file)
	if err != nil || exit != 0 {
		return errors.Join(fmt.Errorf("%s is no package that rpm can read", file), err)
	}
	have, _, err := r.host.query(ctx, append(r.rooted("rpm", "-q", "--qf", format), p.Name)...)
	if f := strings.Fields(of); err == nil && (len(f) != 5 || f[3] == "(none)" && f[4] == "(none)" ||
		!slices.Contains(slices.Collect(strings.Lines(have)), of)) {
		err = fmt.Errorf("%s is another build than the one that is installed", file)
	}
	return err
}

// fetchWithin bounds the fetching of a package.
const fetchWithin = 5 * time.Minute

// again fetches the package: a repository that answers now may not answer at night.
func (r *rpm) again(ctx context.Context, p pkg, to string) error {
	name := strings.TrimSuffix(filepath.Base(to), ".rpm")
	var errs []error
	for _, argv := range [][]string{{"dnf", "-y", "download", "--destdir", filepath.Dir(to), name},
		{"yumdownloader", "--destdir", filepath.Dir(to), name}} {
		said, exit, err := r.host.ask(ctx, fetchWithin, nil, argv...)
		switch {
		case err != nil:
		case exit != 0:
			err = fmt.Errorf("%s ended with exit code %d: %s", strings.Join(argv, " "), exit, text.Line(said, 200))
		default:
			return r.same(ctx, to, p)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *rpm) install(files []string, ps []pkg) [][]string {
	var up, add []string
	for i, f := range files {
		if ps[i].Beside {
			add = append(add, f)
		} else {
			up = append(up, f)
		}
	}
	var cmds [][]string
	if len(up) > 0 {
		cmds = append(cmds, append(r.rooted("rpm", "-U", "--oldpackage", "--replacepkgs"), up...))
	}
	if len(add) > 0 {
		cmds = append(cmds, append(r.rooted("rpm", "-i", "--oldpackage", "--replacepkgs"), add...))
	}
	return cmds
}

func (r *rpm) remove(ps []pkg) [][]string {
	argv := r.rooted("rpm", "-e")
	for _, p := range ps {
		_, plain, ok := strings.Cut(p.Version, ":")
		if !ok {
			plain = p.Version
		}
		argv = append(argv, fmt.Sprintf("%s-%s.%s", p.Name, plain, p.Arch))
	}
	return [][]string{argv}
}

func (r *rpm) locked() (string, error) { return "", nil }
func (r *rpm) lostRace(string) bool    { return false }
