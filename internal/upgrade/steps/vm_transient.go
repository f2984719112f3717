package steps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/upgrade"
)

// Each guest that a job is about to shut down gets a note in a file, until that job
// has started it again. Only with its note may a guest be started: one without was
// off already, or has moved away and runs elsewhere by now. The note also keeps that
// libvirt would have forgotten the guest when it ended (a transient one): it must be
// defined before it is shut down. A later job does not believe the note: somebody may
// have started, moved or defined the guest since.
type vmNote struct {
	Job       string `json:"job"`
	Name      string `json:"name"`
	UUID      string `json:"uuid"` // as libvirt gives it
	Protected bool   `json:"protected,omitempty"`
	Transient bool   `json:"transient,omitempty"`
}

// vmProtectedFile is the name of the note of the guest that Holdfast protects; the
// others have their UUID for a name.
const vmProtectedFile = "protected"

func (n vmNote) file(dir string) string {
	if n.Protected {
		return filepath.Join(dir, vmProtectedFile)
	}
	return filepath.Join(dir, n.UUID)
}

// vmNotes are the notes of one job.
type vmNotes []vmNote

// vmReadNotes reads the notes of a job.
func vmReadNotes(dir, job string) (vmNotes, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look which guests were shut down: %w", err)
	}
	var out vmNotes
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") { // left over by a crash while it was written
			continue
		}
		n, err := vmReadNote(filepath.Join(dir, f.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its guest was started just now
		}
		if err != nil {
			return nil, fmt.Errorf("look which guests were shut down: %w", err)
		}
		if n.Job == job {
			out = append(out, n)
		}
	}
	return out, nil
}

func vmReadNote(file string) (n vmNote, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return n, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}

// of returns the note of a guest of a plan, which may know its name only.
func (ns vmNotes) of(g upgrade.Guest) (vmNote, bool) {
	i := slices.IndexFunc(ns, func(n vmNote) bool {
		switch {
		case n.Protected || g.Protected:
			return n.Protected && g.Protected
		case g.UUID != "":
			return strings.EqualFold(n.UUID, g.UUID)
		}
		return n.Name == g.Name
	})
	if i < 0 {
		return vmNote{}, false
	}
	return ns[i], true
}

// vmRemember writes the note of a guest that is about to be shut down. vm is nil
// for the one that is protected. What an earlier attempt has noted of the same job
// stays: by now the guest is defined, transient as it was.
func vmRemember(dir, job string, earlier vmNotes, g upgrade.Guest, vm *guests.VM) error {
	if _, noted := earlier.of(g); noted {
		return nil
	}
	n := vmNote{Job: job, Name: g.Name, UUID: g.UUID, Protected: g.Protected}
	if vm != nil {
		n.Name, n.UUID, n.Transient = vm.Name, vm.UUID, !vm.Persistent
	}
	data, err := json.Marshal(n)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = hostReplace(n.file(dir), data, 0o600, nil)
	}
	if err != nil {
		return fmt.Errorf("note that it is shut down by this run: %w", err)
	}
	return nil
}

// vmForget removes a note.
func vmForget(dir string, n vmNote) error { return hostRemove(n.file(dir)) }
