// Package array takes snapshots of file systems on a storage array that speaks the
// REST interface of OceanStor. Several file systems are one backup: all of them
// have a snapshot, or none.
//
// A reply may be lost after the array has done what was asked. So a creation is
// never simply repeated: the array is first asked for a snapshot of that name. A
// wrong password is never tried twice, since arrays lock accounts.
package array

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/text"
)

// name is what plans call this provider.
const name = "array"

// ErrArrayUnreachable is an array that does not answer: nothing listens, or every
// reply was lost. Whoever runs the upgrade may make the snapshots by hand and say
// so.
var ErrArrayUnreachable = errors.New("the storage array can not be reached")

const (
	defaultPort = "8088"
	maxSystems  = 64
	undoLimit   = 2 * time.Minute // for the removal of snapshots after a failure
)

// Options say which array and which file systems.
type Options struct {
	// IP address or name, with or without :PORT or https://; port 8088 when there is none
	Address  string           `json:"address"`
	User     string           `json:"user"`         // an account that may administrate
	Password backup.SecretRef `json:"password"`     // path of a file of mode 0600
	CA       string           `json:"ca,omitempty"` // path of the PEM file with the CA of the array's certificate
	// SHA-256 of the array's certificate, 64 hex digits, with or without colons; in place of CA
	Fingerprint string   `json:"fingerprint,omitempty"`
	FileSystems []string `json:"fileSystems"` // their names
}

var systemForm = text.Pattern(`^[A-Za-z0-9_.-]{1,127}$`)

// check gives the host and port.
func (o Options) check() (string, error) {
	switch {
	case o.User == "" || o.Password == "":
		return "", errors.New("user and password: want an account of the array and the path of a file with its password")
	case (o.CA == "") == (o.Fingerprint == ""):
		return "", errors.New("ca or fingerprint: want one of them, so that nobody else is taken for the array")
	case len(o.FileSystems) == 0 || len(o.FileSystems) > maxSystems:
		return "", fmt.Errorf("fileSystems: %d of them: want 1 to %d", len(o.FileSystems), maxSystems)
	}
	if _, err := o.pin(); err != nil {
		return "", err
	}
	for i, s := range o.FileSystems {
		if !systemForm().MatchString(s) {
			return "", fmt.Errorf("file system %q: want letters, digits, '_', '.' and '-'", s)
		}
		if slices.ContainsFunc(o.FileSystems[:i], func(t string) bool { return snapshotName("", t) == snapshotName("", s) }) {
			return "", fmt.Errorf("file system %s is there twice, or too much like another", s)
		}
	}
	host := o.Address
	if strings.Contains(host, "://") {
		u, err := url.Parse(host)
		if err != nil || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return "", fmt.Errorf("address %q: want https://HOST or https://HOST:PORT", host)
		}
		host = u.Host
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
	}
	if u, err := url.Parse("https://" + host + "/"); err != nil || u.Hostname() == "" || u.Host != host ||
		!text.Port(u.Port()) || strings.ContainsAny(host, " @/?#") {
		return "", fmt.Errorf("address %q: want an IP address or a name, with or without :PORT", o.Address)
	}
	return host, nil
}

// pin is the fingerprint as bytes, nil when there is none.
func (o Options) pin() ([]byte, error) {
	if o.Fingerprint == "" {
		return nil, nil
	}
	pin, err := hex.DecodeString(strings.ReplaceAll(o.Fingerprint, ":", ""))
	if err != nil || len(pin) != 32 {
		return nil, fmt.Errorf("fingerprint %q: want the 64 hex digits of a SHA-256", o.Fingerprint)
	}
	return pin, nil
}

// snapshotName is how our snapshot of a file system is called. Names are unique on
// the whole array.
func snapshotName(id, system string) string {
	return "holdfast_" + id + "_" + strings.ReplaceAll(system, ".", "_")
}

// Provider is the provider. Its zero value is ready.
type Provider struct {
	Log     *slog.Logger  // nil: nothing is logged
	Request time.Duration // limit of one request; 0: 30 s
	Again   time.Duration // until the first repetition, doubled at each; 0: 0.5 s
}

var _ backup.Provider = Provider{}

// Name is "array".
func (Provider) Name() string { return name }

// with logs in, calls f, and logs out.
func (p Provider) with(ctx context.Context, o Options, f func(*client) error) error {
	c, err := p.client(o)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.login(ctx); err != nil {
		return err
	}
	err = f(c)
	// Arrays allow few sessions, so it logs out also when ctx has ended. What was done
	// is done, so a failure here is only told.
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limit)
	defer cancel()
	if bye := c.logout(out); bye != nil {
		c.log.Warn("could not log out of the storage array", "address", o.Address, "error", bye)
	}
	return err
}

// Backup makes a snapshot of each file system.
func (p Provider) Backup(ctx context.Context, q backup.Request) (rec backup.Receipt, err error) {
	var o Options
	if err := q.Prepare(&o, func() error { _, err := o.check(); return err }); err != nil {
		return rec, err
	}
	lock, err := backup.Acquire(ctx, q)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	err = p.with(ctx, o, func(c *client) error {
		if state, err := c.state(ctx, q, o, true); err != nil || state == backup.Done {
			if err == nil {
				rec, err = backup.Load(q)
			}
			return err
		}
		if rec, err = c.all(ctx, q, o); err == nil {
			return nil
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
		defer cancel()
		return errors.Join(err, c.removeAll(undo, q.ID, o.FileSystems), backup.Discard(q.File()))
	})
	if err != nil {
		return backup.Receipt{}, fmt.Errorf("backup %s of file systems on %s: %w", q.ID, o.Address, err)
	}
	return rec, nil
}

func (c *client) all(ctx context.Context, q backup.Request, o Options) (rec backup.Receipt, err error) {
	data, err := json.Marshal(o)
	if err != nil {
		return rec, err
	}
	rec = backup.Receipt{
		Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir, What: o.FileSystems, Where: o.Address,
		Tool: "OceanStor REST, device " + c.device, Data: data,
	}
	if err := c.removeAll(ctx, q.ID, o.FileSystems); err != nil {
		return rec, err
	}
	var ids []string
	for _, system := range o.FileSystems { // every one is found before anything is made
		id, err := c.fileSystem(ctx, system)
		if err != nil {
			return rec, err
		}
		ids = append(ids, id)
	}
	for i, system := range o.FileSystems {
		s, err := c.create(ctx, ids[i], snapshotName(q.ID, system))
		if err != nil {
			return rec, fmt.Errorf("make a snapshot of %s: %w", system, err)
		}
		rec.Snapshots = append(rec.Snapshots, backup.Snapshot{Of: system, Name: snapshotName(q.ID, system), ID: string(s.ID)})
	}
	rec.When = time.Now().UTC().Truncate(time.Second)
	return rec, backup.Save(rec)
}

// Verify asks the array for every snapshot.
func (p Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	var o Options
	if err := backup.CheckReceipt(rec, name, &o); err != nil {
		return err
	}
	err := p.with(ctx, o, func(c *client) error { return c.verify(ctx, rec) })
	if err != nil {
		return fmt.Errorf("verify backup %s: %w", rec.ID, err)
	}
	return nil
}

func (c *client) verify(ctx context.Context, rec backup.Receipt) error {
	if len(rec.Snapshots) == 0 {
		return fmt.Errorf("%w: the receipt names no file system", backup.ErrDamaged)
	}
	for _, want := range rec.Snapshots {
		parent, err := c.fileSystem(ctx, want.Of)
		if err != nil {
			return err
		}
		s, err := c.find(ctx, parent, want.Name)
		if err != nil {
			return err
		}
		switch {
		case s == nil || string(s.ID) != want.ID:
			return fmt.Errorf("%w: %s has no snapshot %s with the id %s", backup.ErrDamaged, want.Of, want.Name, want.ID)
		case s.Health != "" && s.Health != healthy:
			return fmt.Errorf("%w: snapshot %s has the health status %s", backup.ErrDamaged, want.Name, s.Health)
		}
	}
	return nil
}

// Restore rolls every file system back to its snapshot, which stays, and waits
// until the array has done it. What uses the file systems must be stopped.
func (p Provider) Restore(ctx context.Context, rec backup.Receipt) error {
	var o Options
	return backup.Restore(ctx, rec, name, &o, func(*backup.Lock) error {
		return p.with(ctx, o, func(c *client) error {
			if err := c.verify(ctx, rec); err != nil {
				return err
			}
			for _, s := range rec.Snapshots {
				if err := c.rollBack(ctx, s); err != nil {
					return fmt.Errorf("roll %s back: %w", s.Of, err)
				}
			}
			return nil
		})
	})
}

// Delete removes the snapshots and the receipt.
func (p Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	var o Options
	return backup.Delete(ctx, rec, name, &o, func(*backup.Lock) error {
		if err := p.with(ctx, o, func(c *client) error { return c.removeAll(ctx, rec.ID, o.FileSystems) }); err != nil {
			return err
		}
		return backup.Discard(rec.Request().File())
	})
}

// Probe looks for the snapshots and for the receipt.
func (p Provider) Probe(ctx context.Context, q backup.Request) (state backup.State, err error) {
	var o Options
	if err := q.Check(&o); err != nil {
		return "", err
	}
	err = p.with(ctx, o, func(c *client) (err error) {
		state, err = c.state(ctx, q, o, false)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look for backup %s: %w", q.ID, err)
	}
	return state, nil
}

func (c *client) state(ctx context.Context, q backup.Request, o Options, locked bool) (backup.State, error) {
	state, err := backup.Look(q, name, nil, nil)
	if err != nil {
		return "", err
	}
	n := 0
	for _, system := range o.FileSystems {
		parent, err := c.fileSystem(ctx, system)
		if err != nil {
			return "", err
		}
		s, err := c.find(ctx, parent, snapshotName(q.ID, system))
		if err != nil {
			return "", err
		}
		if s != nil {
			n++
		}
	}
	switch {
	case state == backup.Done && n == len(o.FileSystems):
		return backup.Done, nil
	case state == backup.NotDone && n == 0, state == backup.Partial && n == 0 && locked:
		return backup.NotDone, nil // a lock that was seen with ours held is ours
	}
	return backup.Partial, nil
}

// removeAll removes our snapshots of the file systems, those that are there.
func (c *client) removeAll(ctx context.Context, id string, systems []string) error {
	var errs []error
	for _, system := range systems {
		parent, err := c.fileSystem(ctx, system)
		if err == nil {
			err = c.remove(ctx, parent, snapshotName(id, system))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the snapshot of %s: %w", system, err))
		}
	}
	return errors.Join(errs...)
}
