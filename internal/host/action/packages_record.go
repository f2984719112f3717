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

	"holdfast/internal/durable"
	"holdfast/internal/upgrade/manifest"
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
	ps, have, err := p.look(ctx, m, abs)
	if err != nil || p.step.Values.Phase == manifest.PreCheck {
		return abs, ps, err
	}
	for i := range ps {
		if err := p.before(ctx, m, &ps[i], have[i]); err != nil {
			return nil, nil, err
		}
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
	places, err := m.cached(*x)
	if err != nil {
		return err
	}
	for _, place := range places {
		was, err := m.info(ctx, place)
		if err != nil || was.Name != x.Name || was.Version != x.Was || was.Arch != old.Arch {
			continue // not there, or not that package
		}
		x.Kept = filepath.Join(p.step.Values.Backup, "packages", filepath.Base(place))
		return keep(place, x.Kept)
	}
	p.step.Attempt.Say("the package of %s %s is not in the cache: it can not be brought back", x.Name, x.say([]instance{*old}))
	return nil
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
	return durable.WriteFile(to, data, 0o600)
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
