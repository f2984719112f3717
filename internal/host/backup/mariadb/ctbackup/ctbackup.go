// Package ctbackup is the backup that a clustered database engine makes with its
// own tool, ctbackup, when it is upgraded. The engine's upgrade asks whether to
// stop and back up first, whether that was done, or whether to do it on the way;
// here that is a choice declared before the run. Holdfast answers the questions
// and looks whether there is a backup, but the backup is the product's own: it is
// restored with ctbackup, by hand, and never deleted from here.
package ctbackup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/internal/host/backup"
)

// name is what plans call this provider.
const name = "ctbackup"

// MaxPath bounds the path of the backups, bytes: the product takes no more.
const MaxPath = 100

// Errors of this provider.
var (
	ErrStopFirst = errors.New("the choice is to stop the upgrade and to back up first")
	ErrUnproved  = errors.New("there is no backup to look at")
	ErrByHand    = errors.New("a backup of ctbackup is restored by hand, with ctbackup")
)

// Choice is what the upgrade asks for.
type Choice string

// Choices, in the order in which the upgrade numbers them.
const (
	Stop   Choice = "stop"   // stop the upgrade and back up first
	Done   Choice = "done"   // it was done before
	During Choice = "during" // the upgrade makes the backup on its way
)

// number is what is typed.
func (c Choice) number() string {
	switch c {
	case Stop:
		return "1"
	case Done:
		return "2"
	case During:
		return "3"
	}
	return ""
}

// Options are the choice and the answers that it needs.
type Options struct {
	Choice       Choice           `json:"choice"`
	Address      string           `json:"address,omitempty"`      // IP address of MySQL; 127.0.0.1 on a physical host. During
	Port         int              `json:"port,omitempty"`         // default 3306. During
	User         string           `json:"user,omitempty"`         // of MySQL. During
	Password     backup.SecretRef `json:"password,omitempty"`     // of MySQL. During
	MetadataPath string           `json:"metadataPath,omitempty"` // of MySQL's metadata; Complete looks for it. During
	// directory of the backup, at most 100 bytes. During; Done if there is to be a way back
	StoragePath string           `json:"storagePath,omitempty"`
	SysPassword backup.SecretRef `json:"sysPassword,omitempty"` // of the engine's user sys. Done, During
}

func (o *Options) check() error {
	if o.Choice.number() == "" {
		return fmt.Errorf("choice %q: want %s, %s or %s", o.Choice, Stop, Done, During)
	}
	if o.Choice == Stop {
		return ErrStopFirst
	}
	if _, err := o.SysPassword.Read(); err != nil {
		return fmt.Errorf("sysPassword: %w", err)
	}
	if o.StoragePath != "" || o.Choice == During {
		if err := plainPath(o.StoragePath); err != nil {
			return fmt.Errorf("storagePath: %w", err)
		}
		if len(o.StoragePath) > MaxPath {
			return fmt.Errorf("storagePath %s: it has %d bytes, ctbackup takes at most %d", o.StoragePath, len(o.StoragePath), MaxPath)
		}
	}
	if o.Choice == During {
		return o.checkDuring()
	}
	return nil
}

func (o *Options) checkDuring() error {
	if o.Port == 0 {
		o.Port = 3306
	}
	switch {
	case net.ParseIP(o.Address) == nil:
		return fmt.Errorf("address %q: want the IP address of MySQL", o.Address)
	case o.Port < 1 || o.Port > 65535:
		return fmt.Errorf("port %d: want 1 to 65535", o.Port)
	case o.User == "":
		return errors.New("user: want a user of MySQL")
	case o.MetadataPath == "":
		return errors.New("metadataPath: want the path of MySQL's metadata")
	}
	if err := plainPath(o.MetadataPath); err != nil {
		return fmt.Errorf("metadataPath: %w", err)
	}
	if _, err := o.Password.Read(); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	return nil
}

// plainPath refuses what a shell script would take apart.
func plainPath(p string) error {
	if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" {
		return fmt.Errorf("%q: want an absolute path", p)
	}
	for _, r := range p {
		if r <= ' ' || r > '~' || r == '\'' || r == '"' || r == '`' || r == '$' || r == '\\' || r == ';' || r == '&' ||
			r == '|' || r == '*' || r == '?' {
			return fmt.Errorf("%q: want letters, digits and plain punctuation", p)
		}
	}
	return nil
}

// Answer is what is typed when the program asks.
type Answer struct {
	Prompt string           // regular expression of the question
	Text   string           // what is typed
	Secret backup.SecretRef // in place of Text: the path of a file with it
}

// Answers are what the upgrade asks with this choice, in its order. The options
// must be such as Backup accepts.
func (o Options) Answers() ([]Answer, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("answer the upgrade's questions: %w", err)
	}
	out := []Answer{{Prompt: `(?i)what's your choice, please input \[1\|2\|3\]`, Text: o.Choice.number()}}
	if o.Choice == During {
		out = append(out,
			Answer{Prompt: `(?i)mysql login ip`, Text: o.Address},
			Answer{Prompt: `(?i)mysql login port`, Text: strconv.Itoa(o.Port)},
			Answer{Prompt: `(?i)mysql login user`, Text: o.User},
			Answer{Prompt: `(?i)mysql login pwd`, Secret: o.Password},
			Answer{Prompt: `(?i)mysql metadata storage path`, Text: o.MetadataPath},
			Answer{Prompt: `(?i)ctbackup storage path`, Text: o.StoragePath},
		)
	}
	return append(out, Answer{Prompt: `(?i)cantian sys pwd`, Secret: o.SysPassword}), nil
}

// data is what a receipt keeps.
type data struct {
	Choice Choice    `json:"choice"`
	Path   string    `json:"path,omitempty"` // of the backup
	Begun  time.Time `json:"begun,omitzero"` // During: what is older is not of this run
}

// Provider is the provider. Its zero value is ready.
type Provider struct{}

var _ backup.Provider = Provider{}

// Name is "ctbackup".
func (Provider) Name() string { return name }

// Backup checks the choice and its answers and writes the receipt. With Stop it
// fails with ErrStopFirst. With Done it takes stock of what the storage path
// holds. With During the upgrade's own step makes the backup, later.
func (p Provider) Backup(ctx context.Context, q backup.Request) (backup.Receipt, error) {
	var o Options
	if err := q.Prepare(&o, func() error { return o.check() }); err != nil {
		return backup.Receipt{}, err
	}
	return backup.Make(ctx, q, func(*backup.Lock) (backup.State, error) { return p.Probe(ctx, q) },
		func(*backup.Lock) (backup.Receipt, error) {
			return write(ctx, q, o)
		})
}

// write makes the receipt.
func write(ctx context.Context, q backup.Request, o Options) (rec backup.Receipt, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	d := data{Choice: o.Choice, Path: o.StoragePath}
	rec = backup.Receipt{Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir,
		What: []string{"the database, by ctbackup"}, Where: o.StoragePath, When: now, Tool: name}
	switch {
	case o.Choice == During:
		d.Begun = now
		rec.Notes = []string{"the upgrade makes this backup on its way, into " + o.StoragePath}
	case o.StoragePath == "":
		rec.Notes = []string{"an operator has said that the backup was made, and not where: there is no way back"}
	default:
		rec.Notes = []string{"an operator has said that the backup was made, in " + o.StoragePath}
		if rec.SHA256, rec.Size, _, err = stock(ctx, o.StoragePath); err != nil {
			return rec, fmt.Errorf("backup %s with ctbackup: %w", q.ID, err)
		}
	}
	if rec.Data, err = json.Marshal(d); err != nil {
		return rec, err
	}
	return rec, backup.Save(rec)
}

// stock takes names, sizes and times of a directory's files into one hash, and
// gives their size and the time of the youngest.
func stock(ctx context.Context, dir string) (sum string, size int64, young time.Time, err error) {
	h := sha256.New()
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if info.ModTime().After(young) {
			young = info.ModTime()
		}
		_, err = fmt.Fprintf(h, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		return err
	})
	if err != nil {
		return "", 0, young, fmt.Errorf("look at the backup in %s: %w", dir, err)
	}
	if size == 0 {
		return "", 0, young, fmt.Errorf("%w: %s has no files", ErrUnproved, dir)
	}
	return hex.EncodeToString(h.Sum(nil)), size, young, nil
}

// Verify looks at the directory of the backup: with Done it must be as it was when
// the receipt was written, with During it must have files of this run. What is in
// the files only ctbackup knows.
func (Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	var d data
	if err := backup.CheckReceipt(rec, name, &d); err != nil {
		return err
	}
	if err := verify(ctx, rec, d); err != nil {
		return fmt.Errorf("verify backup %s: %w", rec.ID, err)
	}
	return nil
}

func verify(ctx context.Context, rec backup.Receipt, d data) error {
	if d.Path == "" {
		return fmt.Errorf("%w: an operator has said that it was made, and not where", ErrUnproved)
	}
	sum, _, young, err := stock(ctx, d.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrUnproved, err)
	case err != nil:
		return err
	case d.Choice == Done && sum != rec.SHA256:
		return fmt.Errorf("%w: the files in %s have changed", backup.ErrDamaged, d.Path)
	case d.Choice == During && young.Before(d.Begun):
		return fmt.Errorf("%w: the files in %s are older than this run", ErrUnproved, d.Path)
	}
	return nil
}

// Restore always fails with ErrByHand: it says where the backup is.
func (Provider) Restore(_ context.Context, rec backup.Receipt) error {
	var d data
	if err := backup.CheckReceipt(rec, name, &d); err != nil {
		return err
	}
	return fmt.Errorf("restore backup %s: %w, from %q", rec.ID, ErrByHand, d.Path)
}

// Delete removes the receipt. The backup itself stays, it is not ours.
func (Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	return backup.Delete(ctx, rec, name, &data{}, func(*backup.Lock) error { return backup.Discard(rec.Request().File()) })
}

// Probe looks for the receipt.
func (Provider) Probe(_ context.Context, q backup.Request) (backup.State, error) {
	return backup.Look(q, name, nil, nil)
}
