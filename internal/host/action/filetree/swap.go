package filetree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// Errors of this package.
var (
	// ErrNothing means that there was no swap in this run.
	ErrNothing = errors.New("no directory was replaced in this run")
	// ErrCommitted means that the old tree is given up.
	ErrCommitted = errors.New("the swap is committed")
	// ErrForeign means that a third tree is at the target.
	ErrForeign = errors.New("neither the old nor the new tree is at the target")
)

// Swap is one swap of one run.
type Swap struct {
	Source string          // directory of the new tree, absolute
	Target string          // absolute; its parent must be there
	Backup string          // the run's own backup directory, absolute; made when absent
	Files  map[string]File // what Source must hold, by relative path; nil: whatever it holds

	hook       func(stage string) // of tests
	noExchange bool               // of tests: the file system can not exchange
}

// File is what a file of the new tree must be.
type File struct {
	Size   int64  // bytes
	SHA256 string // 64 lower-case hex digits
}

// Place says which tree is at the target.
type Place string

// Places.
const (
	Old Place = "old" // or none, when there was none
	New Place = "new"
)

func (s *Swap) at(stage string) {
	if s.hook != nil {
		s.hook(stage)
	}
}

func (s *Swap) id() string {
	sum := sha256.Sum256([]byte(s.Backup + "\x00" + s.Target))
	return hex.EncodeToString(sum[:6])
}

func (s *Swap) beside(what string) string {
	return filepath.Join(filepath.Dir(s.Target), ".holdfast-"+s.id()+"-"+what)
}

func (s *Swap) stage() string { return s.beside("new") }
func (s *Swap) old() string   { return s.beside("old") }

func (s *Swap) check() error {
	for _, p := range []string{s.Source, s.Target, s.Backup} {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" {
			return fmt.Errorf("%q: want an absolute path without dots", p)
		}
	}
	return noMounts(s.Target)
}

// Install puts the new tree at the target. It may be called again after any
// crash, and does nothing when the new tree is there.
func (s *Swap) Install(ctx context.Context) error {
	if err := s.install(ctx); err != nil {
		return fmt.Errorf("swap %s: %w", s.Target, err)
	}
	return nil
}

func (s *Swap) install(ctx context.Context) error {
	j, place, err := s.open()
	if err != nil {
		return err
	}
	switch {
	case j.State == committed:
		return ErrCommitted
	case j.State == rollingBack:
		return errors.New("a rollback was begun; finish that first")
	case place == New:
		return s.settle(j)
	}
	ino, err := inode(s.Target)
	if err != nil {
		return err
	}
	if err := discard(s.stage()); err != nil {
		return err
	}
	j = journal{State: staging, Target: s.Target, Old: ino}
	if err := s.save(j); err != nil {
		return err
	}
	s.at("staging")
	if err := s.copyTree(ctx); err != nil {
		return errors.Join(err, discard(s.stage()))
	}
	s.at("copied")
	if j.New, err = inode(s.stage()); err != nil {
		return err
	}
	j.State = staged
	if err := s.save(j); err != nil {
		return err
	}
	s.at("staged")
	if err := s.exchange(s.stage(), s.old(), j.Old != 0); err != nil {
		return err
	}
	s.at("swapped")
	return s.settle(j)
}

// settle puts the old tree under its own name and says in the journal that the
// swap is done.
func (s *Swap) settle(j journal) error {
	if j.Old != 0 {
		where, err := s.where(j.Old)
		if err != nil {
			return err
		}
		if where == s.stage() {
			if err := s.rename(s.stage(), s.old()); err != nil {
				return err
			}
		}
	}
	s.at("settled")
	if j.State == swapped {
		return nil
	}
	j.State = swapped
	return s.save(j)
}

// exchange brings the tree at from to the target, and the tree that is there to
// aside. With the kernel's exchange that one is at from afterwards.
func (s *Swap) exchange(from, aside string, there bool) error {
	if !there {
		return s.rename(from, s.Target)
	}
	err := error(unix.EINVAL)
	if !s.noExchange {
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, s.Target, unix.RENAME_EXCHANGE)
	}
	switch {
	case err == nil:
		return durable.SyncDir(filepath.Dir(s.Target))
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP):
		if err := s.rename(s.Target, aside); err != nil {
			return err
		}
		s.at("gap")
		return s.rename(from, s.Target)
	}
	return fmt.Errorf("exchange %s and %s: %w", from, s.Target, err)
}

// rename moves a tree to a name that is free, and puts that on disk.
func (s *Swap) rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		if ino, ierr := inode(to); ierr != nil || ino != 0 {
			return fmt.Errorf("rename %s to %s: %w", from, to, errors.Join(ierr, os.ErrExist))
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return durable.SyncDir(filepath.Dir(to))
}

// Probe says which tree is at the target, and closes a gap that a crash has
// left there. ErrNothing means that this run has not come so far.
func (s *Swap) Probe() (Place, error) {
	j, place, err := s.open()
	if err == nil && j.State == none {
		err = ErrNothing
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", s.Target, err)
	}
	return place, nil
}

// Rollback puts the old tree back and removes the new one. It may be called
// again after any crash.
func (s *Swap) Rollback() error {
	if err := s.rollback(); err != nil {
		return fmt.Errorf("roll %s back: %w", s.Target, err)
	}
	return nil
}

func (s *Swap) rollback() error {
	j, place, err := s.open()
	if err != nil {
		return err
	}
	switch j.State {
	case none:
		return ErrNothing
	case committed:
		return ErrCommitted
	case rolledBack:
		return nil
	}
	if place == New {
		if j.State == staged {
			if err := s.settle(j); err != nil {
				return err
			}
		}
		j.State = rollingBack
		if err := s.save(j); err != nil {
			return err
		}
		s.at("rolling back")
		if err := s.putBack(j); err != nil {
			return err
		}
	}
	s.at("put back")
	// The new tree is at one of the two names; the old one is at the target.
	if err := errors.Join(discard(s.stage()), discard(s.old())); err != nil {
		return err
	}
	s.at("discarded")
	j.State = rolledBack
	return s.save(j)
}

func (s *Swap) putBack(j journal) error {
	if j.Old == 0 {
		return s.rename(s.Target, s.stage())
	}
	where, err := s.where(j.Old)
	if err != nil {
		return err
	}
	if where != s.old() {
		return fmt.Errorf("the old tree is not at %s", s.old())
	}
	return s.exchange(s.old(), s.stage(), true)
}

// Commit gives the old tree up. It may be called again after any crash.
func (s *Swap) Commit() error {
	if err := s.commit(); err != nil {
		return fmt.Errorf("commit %s: %w", s.Target, err)
	}
	return nil
}

func (s *Swap) commit() error {
	j, place, err := s.open()
	if err != nil {
		return err
	}
	switch {
	case j.State == none:
		return ErrNothing
	case j.State == committed:
	case !slices.Contains([]string{staged, swapped}, j.State) || place != New:
		return fmt.Errorf("the new tree is not in use (%s)", j.State)
	default:
		if err := s.settle(j); err != nil {
			return err
		}
		j.State = committed
		if err := s.save(j); err != nil {
			return err
		}
		s.at("committed")
	}
	return errors.Join(discard(s.old()), discard(s.stage()))
}

// Over reports that a rollback or a commit is done with everything: no tree of
// this run is left beside the target.
func (s *Swap) Over() (bool, error) {
	j, _, err := s.open()
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", s.Target, err)
	}
	for _, p := range []string{s.stage(), s.old()} {
		if ino, err := inode(p); err != nil || ino != 0 {
			return false, err
		}
	}
	return j.State == rolledBack || j.State == committed, nil
}
