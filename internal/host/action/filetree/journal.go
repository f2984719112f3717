package filetree

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// States of a journal.
const (
	none        = ""
	staging     = "staging" // the new tree is being copied
	staged      = "staged"  // it is whole; it is at the target, or not yet
	swapped     = "swapped"
	rollingBack = "rolling back"
	rolledBack  = "rolled back"
	committed   = "committed"
)

// journal says how far a swap has come. The trees are told apart by their inode
// numbers, which renames do not change.
type journal struct {
	State  string `json:"state"`
	Target string `json:"target"`
	Old    uint64 `json:"old,omitempty"` // 0: there was none
	New    uint64 `json:"new,omitempty"` // from staged on
}

func (s *Swap) journalFile() string {
	return filepath.Join(s.Backup, "filetree-"+s.id()+".json")
}

func (s *Swap) save(j journal) error {
	if err := os.MkdirAll(s.Backup, 0o700); err != nil {
		return fmt.Errorf("make the backup directory: %w", err)
	}
	data, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode the journal: %w", err)
	}
	if err := durable.WriteFile(s.journalFile(), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return durable.SyncDir(filepath.Dir(s.Backup))
}

// open reads the journal, closes a gap, and says which tree is at the target.
func (s *Swap) open() (journal, Place, error) {
	var j journal
	if err := s.check(); err != nil {
		return j, "", err
	}
	data, err := os.ReadFile(s.journalFile())
	if errors.Is(err, os.ErrNotExist) {
		return j, Old, nil
	}
	if err != nil {
		return j, "", fmt.Errorf("read the journal: %w", err)
	}
	if err := json.Unmarshal(data, &j); err != nil || j.Target != s.Target {
		return j, "", fmt.Errorf("read the journal %s: it is not one of %s: %w", s.journalFile(), s.Target,
			errors.Join(err, errors.ErrUnsupported))
	}
	if err := s.closeGap(j); err != nil {
		return j, "", err
	}
	if j.State == committed || j.State == rolledBack {
		// It is over: what is at the target since then is not ours to judge.
		return j, map[string]Place{committed: New, rolledBack: Old}[j.State], nil
	}
	ino, err := inode(s.Target)
	switch {
	case err != nil:
		return j, "", err
	case ino == j.Old:
		return j, Old, nil
	case ino == j.New && ino != 0:
		return j, New, nil
	}
	return j, "", fmt.Errorf("%w: %s", ErrForeign, s.Target)
}

// closeGap puts a tree at a target that has none because a crash came between
// two renames: the one that was on its way.
func (s *Swap) closeGap(j journal) error {
	if j.Old == 0 || j.State != staged && j.State != rollingBack {
		return nil
	}
	ino, err := inode(s.Target)
	if err != nil || ino != 0 {
		return err
	}
	want := j.New
	if j.State == rollingBack {
		want = j.Old
	}
	where, err := s.where(want)
	if err != nil {
		return err
	}
	return s.rename(where, s.Target)
}

// where finds a tree by its inode number.
func (s *Swap) where(ino uint64) (string, error) {
	for _, p := range []string{s.Target, s.stage(), s.old()} {
		got, err := inode(p)
		if err != nil {
			return "", err
		}
		if got == ino {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: a tree is missing beside %s", ErrForeign, s.Target)
}

// inode returns 0 when nothing is there. A link is not followed.
func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Ino, nil
}

// discard removes a tree, and nothing that is mounted in it.
func discard(path string) error {
	if err := noMounts(path); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// noMounts refuses a tree in which something is mounted: that would be moved
// along, and removed with it.
func noMounts(path string) error {
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if len(found) > 0 {
		return fmt.Errorf("something is mounted at %s: a tree with mounts is not swapped", found[0].Mountpoint)
	}
	return nil
}
