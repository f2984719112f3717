package watchdog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// mark is a file that exists while the device's timer may run. It lets the next
// holder continue after the death of this one, and disarm what this one armed.
// It is not synced: it must survive the process only, since the timer of an
// earlier boot means nothing (boot tells them apart).
type mark struct {
	path string
	boot string // id of this boot
}

// markRecord is the file.
type markRecord struct {
	Boot    string          `json:"boot"`
	Limit   cluster.Instant `json:"limit_raw_ns"` // by the host's clock; 0: not known
	Timeout time.Duration   `json:"timeout_ns"`   // of the device
}

// leftover is what a holder leaves to the next one: the limit and the device's timeout.
type leftover struct {
	limit   cluster.Instant
	timeout time.Duration
}

func newMark(path, bootIDFile string) (mark, error) {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return mark{}, fmt.Errorf("read the boot id: %w", err)
	}
	boot := strings.TrimSpace(string(b))
	if boot == "" {
		return mark{}, fmt.Errorf("read the boot id: %s is empty", bootIDFile)
	}
	return mark{path: path, boot: boot}, nil
}

// load returns what an earlier holder of this boot obeyed last. ok is false when
// none left the device armed. After an error one may have.
func (m mark) load() (l leftover, ok bool, err error) {
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return leftover{}, false, nil
	}
	if err != nil {
		return leftover{}, false, fmt.Errorf("read the mark of an armed device: %w", err)
	}
	var r markRecord
	if err := json.Unmarshal(b, &r); err != nil || r.Boot == "" {
		return leftover{}, false, errors.Join(fmt.Errorf("mark of an armed device %s: not {boot, limit_raw_ns, "+
			"timeout_ns}: %.100q", m.path, b), err)
	}
	if r.Boot != m.boot {
		return leftover{}, false, nil
	}
	return leftover{r.Limit, r.Timeout}, true, nil
}

// save writes the mark. The file is never seen half written.
func (m mark) save(l leftover) error {
	b, err := json.Marshal(markRecord{Boot: m.boot, Limit: l.limit, Timeout: l.timeout})
	if err != nil {
		return fmt.Errorf("encode the mark of an armed device: %w", err)
	}
	next := m.path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write the mark of an armed device: %w", err)
	}
	if err := os.Rename(next, m.path); err != nil {
		return fmt.Errorf("write the mark of an armed device: %w", err)
	}
	return nil
}

func (m mark) remove() error {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the mark of an armed device: %w", err)
	}
	return nil
}
