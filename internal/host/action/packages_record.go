package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/durable"
)

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
	if p.step.Values.Phase == manifest.Rollback {
		if ps == nil {
			return nil, nil, errors.New("there is no record of packages that this run has installed on this host: if none was, skip this step")
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
	ps, have, err := p.look(ctx, m, abs)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for i := range ps {
		errs = append(errs, p.before(ctx, m, &ps[i], have[i]))
	}
	if err := errors.Join(errs...); err != nil || p.step.Values.Phase == manifest.PreCheck {
		return abs, ps, err // what was kept is found again, and compared once more
	}
	return abs, ps, p.write(p.recordFile(files), ps)
}

// look looks at the packages of the bundle and at what the host has of each. It
// refuses all that could not be brought back, before anything is changed.
func (p *packageStep) look(ctx context.Context, m manager, files []string) ([]pkg, [][]instance, error) {
	ps, have := make([]pkg, len(files)), make([][]instance, len(files))
	for i, f := range files {
		var err error
		if ps[i], err = m.info(ctx, f); err != nil {
			return nil, nil, err
		}
		if have[i], err = m.there(ctx, ps[i].Name); err != nil {
			return nil, nil, err
		}
	}
	var errs []error
	for i, x := range ps {
		errs = append(errs, m.refuse(x, have[i], ps))
	}
	return ps, have, errors.Join(errs...)
}

// before writes down what a package replaces, and keeps that.
func (p *packageStep) before(ctx context.Context, m manager, x *pkg, have []instance) error {
	if x.Beside {
		if slices.ContainsFunc(have, func(h instance) bool { return h.Arch == x.Arch && h.Version == x.Version }) {
			x.Was = x.Version
		}
		return nil
	}
	old := x.replaced(have)
	if old == nil {
		return nil
	}
	if x.Was, x.Mark = old.Version, old.Mark; old.Arch != x.Arch {
		x.WasArch = old.Arch
	}
	if !x.changed() {
		return nil
	}
	if p.step.NoWayBack {
		return nil
	}
	return p.keep(ctx, m, x)
}

// keep has the package that is replaced, before anything is changed.
func (p *packageStep) keep(ctx context.Context, m manager, x *pkg) error {
	places, err := m.cached(*x)
	if err != nil {
		return err
	}
	to := filepath.Join(p.step.Values.Backup, "packages", filepath.Base(places[0]))
	why := []error{}
	for _, place := range append([]string{to}, places...) {
		err := p.take(ctx, m, x, place, to, m.same)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			why = append(why, err)
		}
	}
	if err = durable.MakeDir(filepath.Dir(to)); err == nil {
		if err = m.again(ctx, *x, to); err == nil {
			if err = p.take(ctx, m, x, to, to, nil); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("a rollback could not bring package %s back, so it is not replaced: put its file into the "+
		"cache of the package manager as %s, or take it out of the bundle: %w", x.was(), places[0], errors.Join(append(why, err)...))
}

// take keeps a file if it is the package that is installed. same compares; nil: that was done.
func (p *packageStep) take(ctx context.Context, m manager, x *pkg, from, to string, same func(context.Context, string, pkg) error) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	old, err := m.info(ctx, from)
	switch {
	case err != nil:
		return err
	case old.Name != x.Name || old.Version != x.Was || old.Arch != x.before().Arch:
		return fmt.Errorf("%s holds package %s %s (%s), not the one that is installed", from, old.Name, old.Version, old.Arch)
	}
	if same != nil {
		if err := same(ctx, from, *x); err != nil {
			return err
		}
	}
	if from != to {
		if err := keepFile(from, to); err != nil {
			return err
		}
	}
	if x.Sum, err = fileSum(to); err == nil {
		x.Kept = to
	}
	return err
}

// fileSum is the SHA-256 of a file, in hex.
func fileSum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the kept package: %w", err)
	}
	defer f.Close() // it is only read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read the kept package: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// keepFile copies a package and puts it on disk.
func keepFile(from, to string) error {
	if err := durable.MakeDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("keep %s: %w", from, err)
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("keep %s: %w", from, err)
	}
	defer f.Close() // it is only read
	return durable.Write(to, 0o600, func(out *os.File) error {
		_, err := io.Copy(out, f)
		return err
	})
}

func (p *packageStep) write(file string, ps []pkg) error {
	if err := os.MkdirAll(p.step.Values.Backup, 0o700); err != nil {
		return fmt.Errorf("make the backup directory: %w", err)
	}
	data, err := json.Marshal(ps)
	if err != nil {
		return fmt.Errorf("write down what is installed: %w", err)
	}
	return durable.WriteFile(file, append(data, '\n'), 0o600)
}
