package drbd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/proc"
)

// What the handler "fence-peer" answers (drbd.conf(5)).
const (
	NoProof      = 1 // nothing is proved about the peer
	PeerOutdated = 4 // the peer's copy is not promoted
	PeerFenced   = 7 // the peer was ended
)

// Marks in the run directory, behind the name of the resource.
const (
	aloneMark    = "drbd-alone-"    // writes are acknowledged without the peer
	promoteMark  = "drbd-promote-"  // a Promote with a license is under way in the process that it names
	detachedMark = "drbd-detached-" // the copy was told not to connect
	upMark       = "drbd-up-"       // Up has come to its end since the boot
)

// Handle is the handler "fence-peer" of a resource: the exit code for the kernel. It is run
// as a program of its own, and reads the marks of the driver in the run directory. A mark of
// a process that has ended counts for nothing.
func Handle(dir, resource string) (code int, err error) {
	if !nameForm().MatchString(resource) {
		return NoProof, fmt.Errorf("DRBD_RESOURCE: value %q: want the name of a resource", resource)
	}
	b, err := os.ReadFile(filepath.Join(dir, promoteMark+resource))
	switch {
	case err == nil:
		var id proc.ID
		if _, err := fmt.Sscanf(string(b), "%d %d\n", &id.PID, &id.Started); err != nil {
			return NoProof, fmt.Errorf("the mark of a promotion: %q: %w", b, err)
		}
		if alive, err := proc.Here.Alive(id); err != nil || !alive {
			return NoProof, err
		}
		return PeerFenced, nil
	case !errors.Is(err, fs.ErrNotExist):
		return NoProof, err
	}
	switch _, err := os.Stat(filepath.Join(dir, aloneMark+resource)); {
	case err == nil:
		return PeerOutdated, nil
	case errors.Is(err, fs.ErrNotExist):
		return NoProof, nil
	default:
		return NoProof, err
	}
}

func (d *Driver) mark(kind string) string { return filepath.Join(d.cfg.RunDir, kind+d.cfg.Resource) }

// set makes a mark, unset removes it.
func (d *Driver) set(kind, text string) error {
	return durable.WriteFile(d.mark(kind), []byte(text), 0o600)
}

func (d *Driver) unset(kind string) error {
	if err := os.Remove(d.mark(kind)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// has reports that there is a mark.
func (d *Driver) has(kind string) (bool, error) {
	_, err := os.Stat(d.mark(kind))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// kernel gives the version of the module, such as 8.4.11, by what /proc/drbd begins with.
func kernel(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "version:" {
		return "", fmt.Errorf("%s: %q: want the version of the module", file, line)
	}
	return f[1], nil
}
