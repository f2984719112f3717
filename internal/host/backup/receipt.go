package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/durable"
)

// maxReceipt bounds a receipt, bytes: it is kept in the journal too.
const maxReceipt = 256 << 10

// Receipt says what was backed up and how it is found again. It holds no secret.
type Receipt struct {
	Provider  string          `json:"provider"`
	ID        string          `json:"id"`
	Host      cluster.HostID  `json:"host"`
	Dir       string          `json:"dir"`  // where the receipt is
	What      []string        `json:"what"` // paths, databases, images, volumes or file systems
	Where     string          `json:"where"`
	When      time.Time       `json:"when"`                // it was complete
	Size      int64           `json:"size"`                // bytes that it takes; 0 for snapshots
	SHA256    string          `json:"sha256,omitempty"`    // of the file at Where, or of the list of its files; hex
	Snapshots []Snapshot      `json:"snapshots,omitempty"` // in place of a file
	Tool      string          `json:"tool"`                // program and version that made it
	Notes     []string        `json:"notes,omitempty"`     // what a reader should know, for people
	Data      json.RawMessage `json:"data,omitempty"`      // what the provider needs to restore
}

// Snapshot is one snapshot of a receipt.
type Snapshot struct {
	Of   string `json:"of"`   // image, volume or file system
	Name string `json:"name"` // ours
	ID   string `json:"id"`   // as the tool or the array calls it
}

// Request is the request to which the receipt belongs, without its options.
func (r Receipt) Request() Request { return Request{ID: r.ID, Host: r.Host, Dir: r.Dir} }

// Path is the path of a file of the backup: its directory, id and the suffix.
func (r Receipt) Path(suffix string) string { return r.Request().Path(suffix) }

// File is where the receipt is.
func (r Request) File() string { return r.Path(".receipt.json") }

// Save writes the receipt beside its backup. It comes last.
func Save(r Receipt) error {
	b, err := json.MarshalIndent(r, "", "  ")
	switch {
	case err != nil:
		return fmt.Errorf("backup %s: write the receipt: %w", r.ID, err)
	case len(b) > maxReceipt:
		return fmt.Errorf("backup %s: the receipt has %d bytes, at most %d are kept in the journal: back up fewer "+
			"things at once", r.ID, len(b), maxReceipt)
	}
	if err := durable.WriteFile(r.Request().File(), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("backup %s: write the receipt: %w", r.ID, err)
	}
	return nil
}

// Load reads the receipt of a request. The error wraps fs.ErrNotExist when there
// is none.
func Load(q Request) (Receipt, error) {
	var r Receipt
	f, err := os.Open(q.File())
	if err != nil {
		return r, fmt.Errorf("read the receipt of backup %s: %w", q.ID, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxReceipt+2))
	if err = errors.Join(err, f.Close()); err == nil {
		err = strict(b, &r)
	}
	if err == nil && (r.ID != q.ID || r.Dir != q.Dir) {
		err = fmt.Errorf("it is of backup %s in %s", r.ID, r.Dir)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("read the receipt of backup %s: %w", q.ID, err)
	}
	return r, nil
}

// CheckReceipt looks whether a receipt is one of the provider, and whether the
// copy beside the backup, if it is there, says the same. The data of the provider
// is read into the value that data points to.
func CheckReceipt(r Receipt, provider string, data any) error {
	if r.Provider != provider {
		return fmt.Errorf("backup %s: the receipt is of provider %q, not of %q", r.ID, r.Provider, provider)
	}
	if err := r.Request().Check(&struct{}{}); err != nil {
		return err
	}
	if err := strict(r.Data, data); err != nil {
		return fmt.Errorf("backup %s: read the data of the receipt: %w", r.ID, err)
	}
	beside, err := Load(r.Request())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the journal has it, and that is enough to restore
	}
	if err != nil {
		return err
	}
	if same, err := equal(r, beside); err != nil || !same {
		return errors.Join(fmt.Errorf("backup %s: %w: the receipt in %s says something else", r.ID, ErrDamaged, r.Request().File()), err)
	}
	return nil
}

// equal compares receipts as they are written.
func equal(a, b Receipt) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// Discard removes files and directories that may be there, and then makes the
// removal last.
func Discard(paths ...string) error {
	dirs := map[string]bool{}
	var errs []error
	for _, p := range paths {
		errs = append(errs, os.RemoveAll(p))
		dirs[filepath.Dir(p)] = true
	}
	for d := range dirs {
		if err := durable.SyncDir(d); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Exists reports whether there is something at the path, a dangling link too.
func Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
