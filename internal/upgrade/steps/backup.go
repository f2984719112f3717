package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/array"
	"holdfast/internal/host/backup/files"
	"holdfast/internal/host/backup/lvm"
	"holdfast/internal/host/backup/mariadb"
	"holdfast/internal/host/backup/mariadb/ctbackup"
	"holdfast/internal/host/backup/qcow2"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/durable"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/command"
)

// ErrByHand is a backup that an operator has made, and that only an operator can
// restore.
var ErrByHand = errors.New("the backup was made by hand: restore it by hand")

// Suffixes of what is beside a receipt.
const (
	backupByHand   = ".by-hand.json"  // in place of a receipt: an operator has made it
	backupRestored = ".restored.json" // the step that has restored it
	backupAnswers  = ".answers.json"  // what the module's own steps are to answer
)

// Backups are the backups that providers make on this host in upgrades.
type Backups struct {
	Dir       string         // of upgrades, absolute
	Host      cluster.HostID // this one
	Providers map[string]backup.Provider
}

// Providers returns all there are, by name.
func Providers(log *slog.Logger) map[string]backup.Provider {
	out := map[string]backup.Provider{}
	for _, p := range []backup.Provider{files.Provider{}, mariadb.Provider{Log: log}, ctbackup.Provider{},
		qcow2.Provider{}, lvm.Provider{}, array.Provider{Log: log}} {
		out[p.Name()] = p
	}
	return out
}

// runDir is the directory of a run's backups.
func (b *Backups) runDir(run string) (string, error) {
	if !command.IsName(run, "-") {
		return "", fmt.Errorf("upgrade %q: want letters, digits and '-'", run)
	}
	return filepath.Join(b.Dir, "backups", run), nil
}

// backupReceipts is where the providers of a run put what they make. No module has
// a name with a dot first.
const backupReceipts = ".receipts"

// maxBackupName bounds the part of a backup's name that people read, bytes.
const maxBackupName = 34

// request names the backup of a module. Snapshots are called after it: on an array
// that several hosts share, and in images that an earlier run has left one in, so
// that run and host are in it as well.
func (b *Backups) request(run, module string, settings json.RawMessage) (backup.Request, error) {
	dir, err := b.runDir(run)
	if err != nil {
		return backup.Request{}, err
	}
	if !command.IsName(module, "._-") {
		return backup.Request{}, fmt.Errorf("module %q: want letters, digits, '.', '_' and '-'", module)
	}
	name := strings.TrimLeft(strings.ReplaceAll(module[:min(len(module), maxBackupName)], ".", "-"), "_-")
	if name == "" {
		name = "module"
	}
	sum := sha256.Sum256([]byte(run + "\x00" + string(b.Host) + "\x00" + module))
	return backup.Request{ID: name + "-" + hex.EncodeToString(sum[:6]), Host: b.Host,
		Dir: filepath.Join(dir, backupReceipts), Options: settings}, nil
}

func (b *Backups) provider(name string) (backup.Provider, error) {
	p, ok := b.Providers[name]
	if !ok {
		return nil, fmt.Errorf("this host's agent knows no provider of backups %q", name)
	}
	return p, nil
}

// receipt loads the receipt of a module's backup and its provider. A backup that an
// operator has made has none: ErrByHand.
func (b *Backups) receipt(run, module string) (backup.Receipt, backup.Provider, error) {
	q, err := b.request(run, module, nil)
	if err != nil {
		return backup.Receipt{}, nil, err
	}
	rec, err := backup.Load(q)
	if errors.Is(err, fs.ErrNotExist) {
		hand, herr := backup.Exists(q.Path(backupByHand))
		switch {
		case herr != nil:
			return rec, nil, fmt.Errorf("look for the backup of module %s: %w", module, herr)
		case hand:
			return rec, nil, fmt.Errorf("module %s: %w", module, ErrByHand)
		}
		return rec, nil, fmt.Errorf("module %s has no backup of upgrade %s on this host: %w", module, run, err)
	}
	if err != nil {
		return rec, nil, err
	}
	p, err := b.provider(rec.Provider)
	return rec, p, err
}

// VerifyBackup reads the backup that a provider has made of a module in an upgrade,
// on this host. Its error says why a rollback can not rely on it. ctx must have a
// deadline.
func (b *Backups) VerifyBackup(ctx context.Context, run, module string) error {
	rec, p, err := b.receipt(run, module)
	if err != nil {
		return err
	}
	return p.Verify(ctx, rec)
}

// Backup makes the backup of a module by a provider: upgrade.KindBackup. All
// providers take up, or begin anew, what an earlier process has left.
type Backup struct{ Backups }

var _ engine.Executor = (*Backup)(nil)

// Do implements engine.Executor.
func (b *Backup) Do(ctx context.Context, t engine.Task) error {
	args, q, p, err := b.read(t)
	if err != nil {
		return err
	}
	if err := durable.MakeDir(q.Dir); err != nil {
		return fmt.Errorf("make the directory of backups: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Step.Timeout)
	defer cancel()
	t.Note("backs up module "+args.Module+" by "+args.Provider, -1)
	how := ""
	ct := args.Provider == (ctbackup.Provider{}).Name()
	if ct {
		if q.Options, how, err = ctbackup.Complete(ctx, q); err != nil {
			return fmt.Errorf("back up module %s: %w", args.Module, err)
		}
	}
	rec, err := p.Backup(ctx, q)
	if errors.Is(err, array.ErrArrayUnreachable) {
		return b.byHand(t, q, args, err)
	}
	if err != nil {
		return fmt.Errorf("back up module %s: %w", args.Module, err)
	}
	if ct {
		if err := durable.WriteFile(q.Path(backupAnswers), q.Options, 0o600); err != nil {
			return fmt.Errorf("back up module %s: keep the choice: %w", args.Module, err)
		}
	}
	if err := backup.Discard(q.Path(backupByHand)); err != nil {
		return fmt.Errorf("back up module %s: %w", args.Module, err)
	}
	program.Say(t.Log, "backup %s of %s: %d bytes, %s", rec.ID, strings.Join(rec.What, ", "), rec.Size, rec.Where)
	for _, note := range append(rec.Notes, how) {
		if note != "" {
			program.Say(t.Log, "%s", note)
		}
	}
	return nil
}

// byHand accepts that an operator has made the snapshots, if one has said so.
func (b *Backup) byHand(t engine.Task, q backup.Request, args upgrade.BackupArgs, why error) error {
	if !slices.Contains(args.Confirmed, upgrade.SnapshotsDone) {
		return fmt.Errorf("back up module %s: %w; make the snapshots by hand, abort, and run again with --confirmed %s",
			args.Module, why, upgrade.SnapshotsDone)
	}
	text, err := json.Marshal(map[string]any{"provider": args.Provider, "module": args.Module, "when": time.Now().UTC(), "why": why.Error()})
	if err == nil {
		err = durable.WriteFile(q.Path(backupByHand), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("back up module %s: note that it was made by hand: %w", args.Module, err)
	}
	program.Say(t.Log, "%v", why)
	program.Say(t.Log, "an operator has said that the snapshots were made by hand: they are restored and deleted by hand, too")
	return nil
}

func (b *Backup) read(t engine.Task) (args upgrade.BackupArgs, q backup.Request, p backup.Provider, err error) {
	if err = runArgs(t, &args); err != nil {
		return args, q, nil, err
	}
	if q, err = b.request(args.Run, args.Module, args.Settings); err == nil {
		p, err = b.provider(args.Provider)
	}
	if err != nil {
		return args, q, nil, fmt.Errorf("step %s: %w", t.Step.ID, err)
	}
	return args, q, p, nil
}

// Probe implements engine.Executor. What is there in part is begun anew.
func (b *Backup) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	args, q, p, err := b.read(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	hand, err := backup.Exists(q.Path(backupByHand))
	if err != nil {
		return engine.CanNotTell, fmt.Errorf("look for the backup of module %s: %w", args.Module, err)
	}
	if hand {
		return engine.ProbedDone, nil
	}
	state, err := p.Probe(ctx, q)
	if errors.Is(err, array.ErrArrayUnreachable) {
		return engine.NotDone, nil // to begin it again does no harm, and says what to do
	}
	if err != nil {
		return engine.CanNotTell, fmt.Errorf("look for the backup of module %s: %w", args.Module, err)
	}
	if state != backup.Done {
		return engine.NotDone, nil
	}
	if args.Provider == (ctbackup.Provider{}).Name() {
		if kept, err := backup.Exists(q.Path(backupAnswers)); err != nil || !kept {
			return engine.NotDone, err
		}
	}
	return engine.ProbedDone, nil
}

// Restore restores the backup that a provider has made of a module:
// upgrade.KindRestore.
type Restore struct{ Backups }

var _ engine.Executor = (*Restore)(nil)

// backupRestorer is the step that has restored a backup.
type backupRestorer struct {
	Job  string    `json:"job"`
	Step string    `json:"step"`
	When time.Time `json:"when"`
}

func (r *Restore) read(t engine.Task) (args upgrade.RestoreArgs, q backup.Request, err error) {
	if err = runArgs(t, &args); err != nil {
		return args, q, err
	}
	if q, err = r.request(args.Run, args.Module, nil); err != nil {
		err = fmt.Errorf("step %s: %w", t.Step.ID, err)
	}
	return args, q, err
}

// Do implements engine.Executor. The provider looks whether the backup is whole before
// it changes anything; one whose restore was begun may not look so any more.
func (r *Restore) Do(ctx context.Context, t engine.Task) error {
	args, q, err := r.read(t)
	if err != nil {
		return err
	}
	rec, p, err := r.receipt(args.Run, args.Module)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	switch {
	case rec.Provider != args.Provider:
		return fmt.Errorf("restore module %s: the backup was made by provider %q, want %q", args.Module, rec.Provider, args.Provider)
	case rec.Host != r.Host:
		return fmt.Errorf("restore module %s: the backup is of host %s", args.Module, rec.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Step.Timeout)
	defer cancel()
	t.Note("restores module "+args.Module+" by "+args.Provider, -1)
	if err := p.Restore(ctx, rec); err != nil {
		return fmt.Errorf("restore module %s: %w", args.Module, err)
	}
	text, err := json.Marshal(backupRestorer{t.Job, t.Step.ID, time.Now().UTC()})
	if err == nil {
		err = durable.WriteFile(q.Path(backupRestored), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("restore module %s: note that it is done: %w", args.Module, err)
	}
	program.Say(t.Log, "backup %s of %s is restored: %s", rec.ID, rec.When.Format(time.RFC3339), strings.Join(rec.What, ", "))
	return nil
}

// Probe implements engine.Executor. A restore may be begun again.
func (r *Restore) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	args, q, err := r.read(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	data, err := os.ReadFile(q.Path(backupRestored))
	if errors.Is(err, fs.ErrNotExist) {
		return engine.NotDone, nil
	}
	var by backupRestorer
	if err == nil {
		err = json.Unmarshal(data, &by)
	}
	if err != nil {
		return engine.CanNotTell, fmt.Errorf("look whether module %s is restored: %w", args.Module, err)
	}
	if by.Job == t.Job && by.Step == t.Step.ID {
		return engine.ProbedDone, nil
	}
	return engine.NotDone, nil
}
