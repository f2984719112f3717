package ctbackup_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb/ctbackup"
	"holdfast/internal/testbed/try"
)

// rig has secrets and a place for backups.
type rig struct {
	t       *testing.T
	dir     string
	storage string
	o       ctbackup.Options
}

func newRig(t *testing.T, c ctbackup.Choice) *rig {
	r := &rig{t: t, dir: t.TempDir()}
	r.storage = filepath.Join(r.dir, "ct")
	try.Must(t, os.Mkdir(r.storage, 0o700))
	secret := func(name string) backup.SecretRef {
		path := filepath.Join(r.dir, name)
		try.Must(t, os.WriteFile(path, []byte("secret of "+name), 0o600))
		return backup.SecretRef(path)
	}
	r.o = ctbackup.Options{Choice: c, Address: "127.0.0.1", User: "root", Password: secret("mysql"), MetadataPath: "/mnt/dbdata/remote/metadata_fs/node0", StoragePath: r.storage, SysPassword: secret("sys")}
	return r
}

func (r *rig) request() backup.Request {
	b, err := json.Marshal(r.o)
	try.Must(r.t, err)
	return backup.Request{ID: "up-1", Host: "n0", Dir: filepath.Join(r.dir, "receipts"), Options: b}
}

func (r *rig) file(content string, at time.Time) {
	path := filepath.Join(r.storage, "data")
	try.Must(r.t, os.WriteFile(path, []byte(content), 0o600))
	try.Must(r.t, os.Chtimes(path, at, at))
}

func TestChoices(t *testing.T) {
	p, ctx := ctbackup.Provider{}, try.Context(t)
	r := newRig(t, ctbackup.Stop)
	if _, err := p.Backup(ctx, r.request()); !errors.Is(err, ctbackup.ErrStopFirst) {
		t.Errorf("stop: %v", err)
	}

	r = newRig(t, ctbackup.Done)
	if _, err := p.Backup(ctx, r.request()); !errors.Is(err, ctbackup.ErrUnproved) {
		t.Errorf("done, without files: %v", err)
	}
	r.file("backup", time.Unix(1e9, 0))
	rec, err := p.Backup(ctx, r.request())
	try.Must(t, err)
	try.Must(t, p.Verify(ctx, rec))
	if s, err := p.Probe(ctx, r.request()); err != nil || s != backup.Done {
		t.Errorf("probe: %q, %v", s, err)
	}
	if err := p.Restore(ctx, rec); !errors.Is(err, ctbackup.ErrByHand) || !strings.Contains(err.Error(), r.storage) {
		t.Errorf("restore: %v", err)
	}
	r.file("changed", time.Now())
	if err := p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("changed: %v", err)
	}
	for range 2 {
		try.Must(t, p.Delete(ctx, rec))
	}
	if s, err := p.Probe(ctx, r.request()); err != nil || s != backup.NotDone {
		t.Errorf("probe: %q, %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(r.storage, "data")); err != nil {
		t.Errorf("the backup itself is gone: %v", err)
	}
	r.o.StoragePath = ""
	rec, err = p.Backup(ctx, r.request())
	try.Must(t, err)
	if err := p.Verify(ctx, rec); !errors.Is(err, ctbackup.ErrUnproved) {
		t.Errorf("by word only: %v", err)
	}

	r = newRig(t, ctbackup.During)
	rec, err = p.Backup(ctx, r.request())
	try.Must(t, err)
	if err := p.Verify(ctx, rec); !errors.Is(err, ctbackup.ErrUnproved) {
		t.Errorf("before the upgrade: %v", err)
	}
	r.file("old", time.Unix(1e9, 0))
	if err := p.Verify(ctx, rec); !errors.Is(err, ctbackup.ErrUnproved) {
		t.Errorf("an old backup: %v", err)
	}
	r.file("new", time.Now())
	try.Must(t, p.Verify(ctx, rec))
}

func TestAnswers(t *testing.T) {
	r := newRig(t, ctbackup.During)
	got, err := r.o.Answers()
	try.Must(t, err)
	var text []string
	for _, a := range got {
		text = append(text, a.Text+string(a.Secret))
	}
	want := []string{"3", "127.0.0.1", "3306", "root", r.dir + "/mysql", "/mnt/dbdata/remote/metadata_fs/node0", r.storage, r.dir + "/sys"}
	if !reflect.DeepEqual(text, want) {
		t.Errorf("got %q, want %q", text, want)
	}
	r.o.Choice = ctbackup.Done
	if got, err := r.o.Answers(); err != nil || len(got) != 2 || got[0].Text != "2" || got[1].Secret != r.o.SysPassword {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		change func(*ctbackup.Options)
		want   string
	}{
		{func(o *ctbackup.Options) { o.Choice = "" }, "want stop, done or during"},
		{func(o *ctbackup.Options) { o.StoragePath = "/" + strings.Repeat("x", 100) }, "at most 100"},
		{func(o *ctbackup.Options) { o.StoragePath = "" }, "absolute"},
		{func(o *ctbackup.Options) { o.StoragePath = "/a b" }, "plain"},
		{func(o *ctbackup.Options) { o.MetadataPath = "" }, "confirmed by an operator"},
		{func(o *ctbackup.Options) { o.MetadataPath = "/a/$(id)" }, "plain"},
		{func(o *ctbackup.Options) { o.Address = "localhost" }, "IP address"},
		{func(o *ctbackup.Options) { o.Port = 70000 }, "1 to 65535"},
		{func(o *ctbackup.Options) { o.User = "" }, "want a user"},
		{func(o *ctbackup.Options) { o.Password = "/none" }, "password"},
		{func(o *ctbackup.Options) { o.SysPassword = "" }, "sysPassword"},
	} {
		r := newRig(t, ctbackup.During)
		tc.change(&r.o)
		if _, err := (ctbackup.Provider{}).Backup(try.Context(t), r.request()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
	r := newRig(t, ctbackup.During)
	r.o.StoragePath = "/" + strings.Repeat("x", 99)
	if _, err := (ctbackup.Provider{}).Backup(try.Context(t), r.request()); err != nil {
		t.Errorf("100 bytes: %v", err)
	}
}
