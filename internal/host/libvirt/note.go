package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// errStartOpen: libvirtd may still start the guest.
var errStartOpen = errors.New("a start of the guest is under way, its outcome is open")

// startNote remembers that libvirtd was asked to start the guest and has not
// answered. A frozen libvirtd carries the call out when it thaws, even when the
// caller is long gone; so until the outcome is known, an empty process table
// proves nothing. The note is kept in a file as well, for the agent that comes
// after one that died meanwhile.
type startNote struct {
	path string // "" for none

	mu      sync.Mutex
	set     bool
	daemons []process // libvirt's daemons when it was set: the call dies with them
	kills   int       // so many times Kill was called
}

// errKilled: Kill was called while the start was being prepared.
var errKilled = errors.New("the guest was killed meanwhile")

// killed counts a call of Kill: a start that was called before it and has not
// set the note will not set it any more, so Kill's proof holds.
func (n *startNote) killed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kills++
}

// generation is what begin wants to have from the start's beginning.
func (n *startNote) generation() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kills
}

type noteFile struct {
	Daemons []noteProc `json:"daemons"`
}

type noteProc struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot
}

// openStartNote reads the note that an earlier driver left, if any.
func openStartNote(dir, uuid string) (*startNote, error) {
	n := &startNote{}
	if dir == "" {
		return n, nil
	}
	n.path = filepath.Join(dir, "libvirt-start-"+uuid+".json")
	b, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of an open start: %w", err)
	}
	var f noteFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read the note of an open start in %s: %w", n.path, err)
	}
	n.set = true
	for _, p := range f.Daemons {
		n.daemons = append(n.daemons, process(p))
	}
	return n, nil
}

// begin sets the note. It fails when one is set, or when Kill was called since
// generation was asked.
func (n *startNote) begin(daemons []process, generation int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.set:
		return errStartOpen
	case n.kills != generation:
		return errKilled
	}
	if n.path != "" {
		if err := writeNote(n.path, daemons); err != nil {
			return err
		}
	}
	n.set, n.daemons = true, daemons
	return nil
}

func writeNote(path string, daemons []process) error {
	var f noteFile
	for _, p := range daemons {
		f.Daemons = append(f.Daemons, noteProc(p))
	}
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	// Renamed into place: a note cut short would keep the next driver from coming up.
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the note of an open start: %w", err)
	}
	return nil
}

// clear removes the note: the outcome is known. When the file can not be
// removed the note stays, which is safe.
func (n *startNote) clear() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.set {
		return nil
	}
	if n.path != "" {
		if err := os.Remove(n.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the note of an open start: %w", err)
		}
	}
	n.set, n.daemons = false, nil
	return nil
}

// get returns whether the note is set, and the daemons that have the call.
func (n *startNote) get() (bool, []process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set, n.daemons
}
