package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
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
	daemons []proc // libvirt's daemons when it was set: the call dies with them
	kills   int    // so many times Kill was called
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
		n.daemons = append(n.daemons, proc{p.PID, p.Started})
	}
	return n, nil
}

// begin sets the note. It fails when one is set, or when Kill was called since
// generation was asked.
func (n *startNote) begin(daemons []proc, generation int) error {
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

func writeNote(path string, daemons []proc) error {
	var f noteFile
	for _, p := range daemons {
		f.Daemons = append(f.Daemons, noteProc{p.pid, p.started})
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
func (n *startNote) get() (bool, []proc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.set, n.daemons
}

// startOpen reports whether libvirtd may still start the guest. When every
// daemon that had the call is gone, it can not: a QEMU that was forked already
// waits for a word of its parent before it begins, and ends without it.
func (d *Driver) startOpen() (bool, error) {
	set, daemons := d.start.get()
	if !set {
		return false, nil
	}
	for _, p := range daemons {
		alive, err := d.procs.alive(p)
		if err != nil {
			return true, err
		}
		if alive {
			return true, nil
		}
	}
	if len(daemons) == 0 {
		return true, nil // none was found then, so nothing can be said of them now
	}
	if err := d.start.clear(); err != nil {
		return true, err
	}
	return false, nil
}

// settlePause separates the two looks at libvirtd that settle an open start.
const settlePause = time.Second

// settleEvery is how often it is looked whether a start is open that nobody
// waits for.
const settleEvery = 500 * time.Millisecond

// settle learns the outcome of open starts in the background, until ctx ends.
func (d *Driver) settle(ctx context.Context) {
	for sleep(ctx, settleEvery) == nil {
		open, err := d.startOpen()
		if err == nil && open && d.flying.Load() == 0 {
			if err = d.settleStart(ctx); ctx.Err() != nil {
				return
			}
			d.poke()
		}
		if err != nil {
			d.log.Warn("the outcome of the guest's start stays open", "err", err)
		}
	}
}

// settleStart makes some progress in learning the outcome of an open start, or
// returns an error when ctx ends. Normally the answer to the call comes. When
// there is nobody left to receive it (an earlier agent process sent it, or the
// connection broke), libvirtd is asked: a new connection needs three answers,
// which all come after it has read the older call, so the domain is known by then,
// or, to be sure, a second later; or it was refused.
func (d *Driver) settleStart(ctx context.Context) error {
	if d.flying.Load() == 0 {
		known, err := d.domainKnown(ctx)
		if err == nil && !known {
			if err := sleep(ctx, settlePause); err != nil {
				return fmt.Errorf("%w: %w", errStartOpen, err)
			}
			if known, err = d.domainKnown(ctx); err == nil && !known {
				return d.start.clear()
			}
		}
	}
	if err := sleep(ctx, 20*time.Millisecond); err != nil {
		return fmt.Errorf("%w: %w", errStartOpen, err)
	}
	return nil
}

// domainKnown asks libvirtd, on a new connection, whether it has the domain.
func (d *Driver) domainKnown(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, share(ctx, connectLimit))
	defer cancel()
	c, err := d.link.open(ctx)
	if err != nil {
		return false, err
	}
	defer d.link.drop(c)
	err = c.call(ctx, "look for the domain", func(l *golibvirt.Libvirt) error {
		_, err := l.DomainLookupByUUID(d.dom.UUID)
		return err
	})
	if hasCode(err, golibvirt.ErrNoDomain) {
		return false, nil
	}
	return err == nil, err
}
