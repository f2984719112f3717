package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
)

// Provider backs up one kind of thing. Every method needs a context with a
// deadline. All of them may be repeated: Backup gives the receipt of a backup
// that is there already, Restore restores once more, and Delete accepts that
// nothing is left.
type Provider interface {
	// Name is what plans and receipts call the provider.
	Name() string
	// Backup makes the backup that the request names, and its receipt. When it
	// fails it removes what it made.
	Backup(context.Context, Request) (Receipt, error)
	// Verify looks whether the backup is there and can be restored. It reads all
	// of it.
	Verify(context.Context, Receipt) error
	// Restore verifies the backup and puts everything back as it was.
	Restore(context.Context, Receipt) error
	// Delete removes the backup, what a restore has put aside, and the receipt.
	Delete(context.Context, Receipt) error
	// Probe tells how far the backup has come, without changing anything.
	Probe(context.Context, Request) (State, error)
}

// Errors that the caller treats in its own way.
var (
	ErrBusy    = errors.New("is in use")                   // a program has open what is to be changed
	ErrNoSpace = errors.New("not enough space")            // nothing was begun
	ErrDamaged = errors.New("the backup is not as it was") // it must not be restored
)

// State is how far a backup has come.
type State string

// States of a backup.
const (
	Done    State = "done"     // the receipt is there, and so is the backup
	NotDone State = "not-done" // there is nothing
	Partial State = "partial"  // something is there, but no receipt or not all that it names
)

// Request says what is to be backed up.
type Request struct {
	ID      string          `json:"id"`      // names the backup on this host; letters, digits, '_' and '-', at most 48
	Host    cluster.HostID  `json:"host"`    // this host
	Dir     string          `json:"dir"`     // where backup and receipt are put, absolute; made with mode 0700
	Options json.RawMessage `json:"options"` // the provider's Options
}

// idForm is the form of Request.ID: it becomes part of file and snapshot names.
var idForm = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$`)

// Prepare checks the request, reads its options into the value that options points
// to, has them checked, and makes the request's directory.
func (r Request) Prepare(options any, check func() error) error {
	if err := r.Check(options); err != nil {
		return err
	}
	if err := check(); err != nil {
		return fmt.Errorf("backup %s: %w", r.ID, err)
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("backup %s: make its directory: %w", r.ID, err)
	}
	return nil
}

// Check is Prepare without the directory.
func (r Request) Check(options any) error {
	switch {
	case !idForm().MatchString(r.ID):
		return fmt.Errorf("backup %q: want letters, digits, '_' and '-' as its id, at most 48", r.ID)
	case !filepath.IsAbs(r.Dir) || filepath.Clean(r.Dir) != r.Dir:
		return fmt.Errorf("backup %s: directory %q: want an absolute path", r.ID, r.Dir)
	}
	if err := strict(r.Options, options); err != nil {
		return fmt.Errorf("backup %s: options: %w", r.ID, err)
	}
	return nil
}

// Path is the path of a file of the backup: its directory, id and the suffix.
func (r Request) Path(suffix string) string { return filepath.Join(r.Dir, r.ID+suffix) }

// strict reads one JSON object without unknown fields. Nothing reads as {}.
func strict(b []byte, into any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}
