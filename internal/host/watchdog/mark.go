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

// markRecord is the file. A holder of an earlier version knows the first two, of
// which the limit is by CLOCK_BOOTTIME, and writes no others.
type markRecord struct {
	Boot    string          `json:"boot"`
	Limit   cluster.Instant `json:"limit_ns"`
	Raw     cluster.Instant `json:"limit_raw_ns,omitempty"` // by the host's clock
	Timeout time.Duration   `json:"timeout_ns,omitempty"`   // of the device
}

// left is what a holder leaves to the next one.
type left struct {
	limit   cluster.Instant // by the host's clock; 0: not known
	timeout time.Duration   // of the device; 0: not known
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
// none left the device armed. After an error one may have. now and boot are
// readings of the host's clock and of CLOCK_BOOTTIME at one moment.
func (m mark) load(now, boot cluster.Instant) (l left, ok bool, err error) {
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return left{}, false, nil
	}
	if err != nil {
		return left{}, false, fmt.Errorf("read the mark of an armed device: %w", err)
	}
	var r markRecord
	if err := json.Unmarshal(b, &r); err != nil || r.Boot == "" {
		return left{}, false, errors.Join(fmt.Errorf("mark of an armed device %s: not {boot, limit_ns}: %.100q", m.path, b), err)
	}
	if r.Boot != m.boot {
		return left{}, false, nil
	}
	if r.Raw == 0 && r.Limit != 0 { // of an earlier version
		r.Raw = max(sooner(r.Limit, boot, now), 1)
	}
	return left{r.Raw, r.Timeout}, true, nil
}

// save writes the mark. The file is never seen half written.
func (m mark) save(l left, now, boot cluster.Instant) error {
	r := markRecord{Boot: m.boot, Raw: l.limit, Timeout: l.timeout}
	if l.limit != 0 {
		r.Limit = max(sooner(l.limit, now, boot), 1)
	}
	b, err := json.Marshal(r)
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
