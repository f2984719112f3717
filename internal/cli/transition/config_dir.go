package transition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition/hostconf"
)

// gitTime bounds a command of git.
const gitTime = 30 * time.Second

// confDir is a directory that was read.
type confDir struct {
	*hostconf.Config
	texts  map[string]string // templates by their paths
	commit string            // of the Git work tree that it is in; "": it is in none
	dirty  bool              // what it has is not what the commit has
}

// readConfDir reads a directory.
func readConfDir(ctx context.Context, dir string) (d *confDir, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	text, err := readWithin(root, hostconf.Name, hostconf.MaxConfig)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%s: %w", dir, err)
	}
	d = &confDir{texts: map[string]string{}}
	var faults []strictyaml.Fault
	if d.Config, faults = hostconf.Parse(text); len(faults) > 0 {
		return nil, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines(filepath.Join(dir, hostconf.Name), faults))
	}
	for _, f := range d.Files {
		text, err := readWithin(root, f.Template, hostconf.MaxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Render tells of all
		}
		if err != nil {
			return nil, fail.Errorf(fail.Invalid, "%s: %w", dir, err)
		}
		d.texts[f.Template] = string(text)
	}
	d.commit, d.dirty, err = gitState(ctx, dir)
	return d, err
}

// readWithin reads a plain file of a directory.
func readWithin(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Stat(name)
	var p *fs.PathError
	if errors.As(err, &p) {
		return nil, fmt.Errorf("%s: %w", name, p.Err)
	} else if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s: want a plain file of at most %d bytes", name, most)
	}
	return root.ReadFile(name)
}

// gitState tells the commit of the work tree that a directory is in, and whether what stands
// in the directory differs from it. No program of the repository's settings is run.
func gitState(ctx context.Context, dir string) (commit string, dirty bool, err error) {
	at, err := filepath.Abs(dir)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return "", false, fail.Errorf(fail.Invalid, "%w", err)
	}
	for up := at; ; up = filepath.Dir(up) {
		if _, err := os.Lstat(filepath.Join(up, ".git")); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", false, fail.Errorf(fail.Failed, "look for a Git work tree: %w", err)
		}
		if up == filepath.Dir(up) {
			return "", false, nil
		}
	}
	git := func(args ...string) (string, error) {
		out, said, err := proc.Run(ctx, gitTime, "", "git",
			append([]string{"-C", at, "--no-optional-locks", "-c", "core.fsmonitor=false"}, args...)...)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			return "", fail.Errorf(fail.Failed, "%s is in a Git work tree, and git is not installed here",
				dir).With("install git, or copy the directory out of the work tree")
		case err != nil:
			return "", fail.Errorf(fail.Failed, "ask git for the commit of %s: %w", dir, proc.Told(err, said))
		}
		return strings.TrimSpace(out), nil
	}
	if commit, err = git("rev-parse", "--verify", "HEAD"); err != nil {
		return "", false, err
	}
	changes, err := git("status", "--porcelain", "--untracked-files=all", "--ignored", "--", ".")
	return commit, changes != "", err
}
