// Package mariadb backs up a MariaDB server, in one of two ways: its files by
// mariadb-backup, prepared so that a server can start on them, or its contents by
// mariadb-dump. The server is found by itself, or where the options say. Passwords
// go to the programs in a file of mode 0600, never as an argument.
//
// A restore of files needs the server stopped: the data directory is replaced as a
// whole. A restore of a dump needs it running: every database of the dump is
// dropped and made again, and databases that the dump does not know stay.
package mariadb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"holdfast/internal/host/backup"
)

// name is what plans call this provider.
const name = "mariadb"

// Ways to back up.
const (
	Files = "backup" // mariadb-backup: fast, and as large as the data directory
	Dump  = "dump"   // mariadb-dump: small, any storage engine, any data directory
)

const (
	prepared = ".data"    // directory: what mariadb-backup made
	list     = ".list"    // its files with their hashes
	dumped   = ".sql.zst" // what mariadb-dump printed
	cnf      = ".cnf"     // credentials, as long as a program runs
)

// Options say which server, and how.
type Options struct {
	Method string `json:"method,omitempty"` // Files or Dump; empty: Files
	Connection
}

// data is what a receipt keeps for Restore.
type data struct {
	Method    string     `json:"method"`
	Server    Connection `json:"server"` // where it was found, credentials by reference
	Datadir   string     `json:"datadir"`
	Databases []string   `json:"databases"`
	UID       int        `json:"uid"` // owner of the data directory
	GID       int        `json:"gid"`
	Mode      uint32     `json:"mode"` // of the data directory
}

// Provider is the provider. Its zero value is ready.
type Provider struct {
	Log *slog.Logger // nil: nothing is logged
}

var _ backup.Provider = Provider{}

// Name is "mariadb".
func (Provider) Name() string { return name }

func (p Provider) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// check fills in the method.
func (o *Options) check() error {
	if o.Method = cmp.Or(o.Method, Files); o.Method != Files && o.Method != Dump {
		return fmt.Errorf("method %q: want %s or %s", o.Method, Files, Dump)
	}
	return nil
}

// Backup finds the server, backs it up and looks whether what came out is whole.
func (p Provider) Backup(ctx context.Context, q backup.Request) (backup.Receipt, error) {
	var o Options
	if err := q.Prepare(&o, o.check); err != nil {
		return backup.Receipt{}, err
	}
	return backup.Make(ctx, q, func(*backup.Lock) (backup.State, error) { return p.Probe(ctx, q) },
		func(l *backup.Lock) (backup.Receipt, error) {
			if err := discard(q); err != nil {
				return backup.Receipt{}, fmt.Errorf("backup %s: remove what an earlier attempt has left: %w", q.ID, err)
			}
			rec, err := p.make(ctx, q, o, l)
			if err != nil {
				return rec, errors.Join(fmt.Errorf("backup %s of mariadb: %w", q.ID, err), discard(q))
			}
			return rec, nil
		})
}

func discard(q backup.Request) error {
	return backup.Discard(q.File(), q.Path(prepared), q.Path(prepared+".part"), q.Path(list), q.Path(dumped),
		q.Path(dumped+".part"), q.Path(cnf))
}

func (p Provider) make(ctx context.Context, q backup.Request, o Options, lock *backup.Lock) (rec backup.Receipt, err error) {
	s, err := open(ctx, o.Connection, q, lock)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	d := data{Method: o.Method, Server: s.at, Datadir: s.datadir}
	if d.Databases, err = s.databases(ctx); err != nil {
		return rec, err
	}
	rec = backup.Receipt{
		Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir, What: d.Databases,
		Notes: []string{"the server: version " + s.version + ", data directory " + s.datadir},
	}
	if o.Method == Dump {
		err = s.dump(ctx, q, &rec)
	} else {
		err = s.files(ctx, q, &rec, &d)
	}
	if err != nil {
		return rec, err
	}
	if rec.Data, err = json.Marshal(d); err != nil {
		return rec, err
	}
	rec.When = time.Now().UTC().Truncate(time.Second)
	return rec, backup.Save(rec)
}

// Verify reads all of the backup: the hash of every file and the mark of
// mariadb-backup that they are prepared, or the hash of the dump and its last line.
func (p Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	var d data
	if err := backup.CheckReceipt(rec, name, &d); err != nil {
		return err
	}
	return verify(ctx, rec, d)
}

func verify(ctx context.Context, rec backup.Receipt, d data) (err error) {
	if d.Method == Dump {
		err = verifyDump(ctx, rec)
	} else {
		_, err = verifyFiles(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("verify backup %s: %w", rec.ID, err)
	}
	return nil
}

// Restore puts the server's contents back. See the package for what the server has
// to do meanwhile: it fails with ErrBusy when files are to be restored and a
// server has them open.
func (p Provider) Restore(ctx context.Context, rec backup.Receipt) error {
	var d data
	return backup.Restore(ctx, rec, name, &d, func(l *backup.Lock) error {
		if d.Method != Dump {
			return restoreFiles(ctx, rec, d)
		}
		if err := verify(ctx, rec, d); err != nil {
			return err
		}
		return p.restoreDump(ctx, rec, d, l)
	})
}

// Delete removes the backup, the data directory that a restore has put aside, and
// the receipt.
func (Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	var d data
	return backup.Delete(ctx, rec, name, &d, func(*backup.Lock) error {
		if d.Method == Files {
			if err := (backup.Place{Path: d.Datadir, ID: rec.ID}).Forget(); err != nil {
				return err
			}
		}
		return discard(rec.Request())
	})
}

// Probe looks for the receipt and what it names.
func (Provider) Probe(_ context.Context, q backup.Request) (backup.State, error) {
	var o Options
	if err := q.Check(&o); err != nil {
		return "", err
	}
	must := []string{q.Path(prepared), q.Path(list)}
	may := []string{q.Path(prepared + ".part"), q.Path(dumped + ".part"), q.Path(cnf), q.Path(dumped)}
	if o.Method == Dump {
		must, may = []string{q.Path(dumped)}, append(may[:3], q.Path(prepared), q.Path(list))
	}
	return backup.Look(q, name, must, may)
}

// program finds one of the names that a program goes by.
func program(names ...string) (string, error) {
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", strings.Join(names, " or "))
}
