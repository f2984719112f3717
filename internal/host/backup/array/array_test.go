package array_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/array"
	"holdfast/internal/host/backup/array/arraytest"
	"holdfast/testbed/try"
)

// The file systems of the product whose upgrade needs them.
var systems = []string{"storage_dbstore_fs", "storage_dbstore_page_fs", "storage_metadata_fs", "storage_archive_fs", "storage_share_fs"}

// rig is a stand-in and a provider that does not wait long.
type rig struct {
	*arraytest.Server
	t *testing.T
	p array.Provider
	o array.Options
	q backup.Request
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{Server: arraytest.Start(append([]string{"storage_dbstore_fs_old"}, systems...)...), t: t}
	t.Cleanup(r.Close)
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	try.Must(t, os.WriteFile(secret, []byte(arraytest.Password+"\n"), 0o600))
	r.p = array.Provider{Request: 5 * time.Second, Again: time.Millisecond}
	r.o = array.Options{Address: r.Address(), User: arraytest.User, Password: backup.SecretRef(secret),
		Fingerprint: r.Fingerprint(), FileSystems: systems}
	r.q = backup.Request{ID: "up-1", Host: "h1", Dir: filepath.Join(dir, "receipts")}
	r.use(r.o)
	for _, s := range systems {
		r.Write(s, "old "+s)
	}
	return r
}

func (r *rig) use(o array.Options) {
	r.t.Helper()
	b, err := json.Marshal(o)
	try.Must(r.t, err)
	r.q.Options = b
}

func (r *rig) expect(want backup.State) {
	r.t.Helper()
	if got, err := r.p.Probe(try.Context(r.t), r.q); err != nil || got != want {
		r.t.Errorf("probe: got %q, %v, want %q", got, err, want)
	}
}

// has looks what all file systems hold.
func (r *rig) has(word string) {
	r.t.Helper()
	for _, s := range systems {
		if got := r.Read(s); got != word+" "+s {
			r.t.Errorf("%s holds %q, want %q", s, got, word)
		}
	}
}

func (r *rig) write(word string) {
	for _, s := range systems {
		r.Write(s, word+" "+s)
	}
}

// clean looks that nothing is left on the array.
func (r *rig) clean() {
	r.t.Helper()
	if n, left := r.Sessions(), r.Snapshots(); n != 0 || len(left) > 0 {
		r.t.Errorf("left: %d sessions, snapshots %v", n, left)
	}
}

func TestRoundTrip(t *testing.T) {
	r := newRig(t)
	r.Rolling = 50 * time.Millisecond
	ctx := try.Context(t)
	r.expect(backup.NotDone)
	rec, err := r.p.Backup(ctx, r.q)
	try.Must(t, err)
	r.expect(backup.Done)
	try.Must(t, r.p.Verify(ctx, rec))
	if again, err := r.p.Backup(ctx, r.q); err != nil || len(r.Snapshots()) != 5 || again.Snapshots[4] != rec.Snapshots[4] {
		t.Errorf("the second call: %v, %v", err, r.Snapshots())
	}
	text, err := json.Marshal(rec)
	if err != nil || strings.Contains(string(text), "S3cret") {
		t.Errorf("the receipt has the password: %s, %v", text, err)
	}
	for range 2 {
		r.write("new")
		try.Must(t, r.p.Restore(ctx, rec))
		r.has("old")
	}
	for range 2 {
		try.Must(t, r.p.Delete(ctx, rec))
	}
	r.expect(backup.NotDone)
	r.clean()
	left, err := os.ReadDir(r.q.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := r.p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("verified after the deletion: %v", err)
	}
}

// TestFaults lets each request of a backup, a restore and a deletion fail once, in
// every way, and looks that each succeeds all the same, with one snapshot for each
// file system.
func TestFaults(t *testing.T) {
	kinds := []arraytest.Fault{arraytest.Refused, arraytest.FailedAfter, arraytest.DroppedFirst, arraytest.DroppedAfter,
		arraytest.Half, arraytest.Nonsense, arraytest.Hang, arraytest.Busy, arraytest.Expired}
	for i, kind := range kinds {
		for j, call := range []string{"POST sessions", "GET filesystem", "GET FSSNAPSHOT", "POST FSSNAPSHOT",
			"PUT rollback", "GET progress", "DELETE FSSNAPSHOT"} {
			if testing.Short() && (i+j)%3 != 0 {
				continue
			}
			t.Run(string(kind)+" "+call, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.Rolling = 20 * time.Millisecond
				few := r.o
				few.FileSystems = systems[:3]
				r.use(few)
				if kind == arraytest.Hang {
					r.p.Request = 500 * time.Millisecond
				}
				method, resource, _ := strings.Cut(call, " ")
				ctx := try.Context(t)
				if kind == arraytest.Expired && call == "POST sessions" {
					return // there is none yet
				}
				r.Inject(method, resource, "", kind)
				if call == "POST sessions" || call == "GET progress" {
					r.Inject(method, resource, "", kind, "", kind)
				}
				rec, err := r.p.Backup(ctx, r.q)
				try.Must(t, err)
				try.Must(t, r.p.Verify(ctx, rec))
				if n := len(r.Snapshots()); n != 3 {
					t.Errorf("%d snapshots: %v", n, r.Snapshots())
				}
				for _, s := range few.FileSystems {
					r.Write(s, "new")
				}
				try.Must(t, r.p.Restore(ctx, rec))
				r.has("old")
				try.Must(t, r.p.Delete(ctx, rec))
				if left := r.Snapshots(); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

func TestAllOrNone(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	for n := range systems {
		r.Inject("POST", "FSSNAPSHOT", append(make([]arraytest.Fault, n), arraytest.Fails)...)
		if _, err := r.p.Backup(ctx, r.q); err == nil || !strings.Contains(err.Error(), systems[n]) ||
			!strings.Contains(err.Error(), "1077949002") {
			t.Errorf("failure at %d: %v", n, err)
		}
		r.clean()
		r.expect(backup.NotDone)
	}
	// One that is missing is found before anything is made.
	o := r.o
	o.FileSystems = append(slices.Clone(systems), "storage_none_fs")
	r.use(o)
	if _, err := r.p.Backup(ctx, r.q); err == nil || !strings.Contains(err.Error(), "no file system storage_none_fs") {
		t.Errorf("got %v", err)
	}
	if slices.Contains(r.Calls()[len(r.Calls())-8:], "POST FSSNAPSHOT") {
		t.Errorf("a snapshot was made: %v", r.Calls())
	}
}

// TestPartial begins anew when an earlier attempt was stopped half-way.
func TestPartial(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	rec, err := r.p.Backup(ctx, r.q)
	try.Must(t, err)
	try.Must(t, os.Remove(r.q.File()))
	r.expect(backup.Partial)
	r.write("newer")
	rec2, err := r.p.Backup(ctx, r.q)
	try.Must(t, err)
	if len(r.Snapshots()) != len(systems) || rec2.When.Before(rec.When) {
		t.Errorf("%v", r.Snapshots())
	}
	r.write("new")
	try.Must(t, r.p.Restore(ctx, rec2))
	r.has("newer")
}

func TestUnreachable(t *testing.T) {
	r := newRig(t)
	rec, err := r.p.Backup(try.Context(t), r.q)
	try.Must(t, err)
	// A port at which nobody listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	o := r.o
	o.Address = l.Addr().String()
	try.Must(t, l.Close())
	away := backup.Request{ID: "up-2", Dir: r.q.Dir}
	away.Options, err = json.Marshal(o)
	try.Must(t, err)
	if _, err := r.p.Backup(try.Context(t), away); !errors.Is(err, array.ErrArrayUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
	r.Close()
	for what, err := range map[string]error{"verify": r.p.Verify(try.Context(t), rec),
		"restore": r.p.Restore(try.Context(t), rec), "delete": r.p.Delete(try.Context(t), rec)} {
		if !errors.Is(err, array.ErrArrayUnreachable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if ok, err := backup.Exists(r.q.File()); err != nil || !ok {
		t.Errorf("the receipt is gone, the snapshots are not: %v", err)
	}
	over, cancel := context.WithCancelCause(try.Context(t))
	why := errors.New("the run was aborted")
	cancel(why)
	if _, err := r.p.Backup(over, away); !errors.Is(err, why) || errors.Is(err, array.ErrArrayUnreachable) {
		t.Errorf("aborted: %v", err)
	}
}

func TestHangs(t *testing.T) {
	r := newRig(t)
	r.p.Request = 100 * time.Millisecond
	r.Inject("POST", "sessions", arraytest.Hang, arraytest.Hang, arraytest.Hang)
	if _, err := r.p.Backup(try.Context(t), r.q); !errors.Is(err, array.ErrArrayUnreachable) {
		t.Errorf("got %v", err)
	}
	// An array that answers with errors only is there.
	r.p.Request = 5 * time.Second
	r.Inject("POST", "sessions", arraytest.Refused, arraytest.Refused, arraytest.Refused)
	if _, err := r.p.Backup(try.Context(t), r.q); err == nil || errors.Is(err, array.ErrArrayUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestTrust(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	try.Must(t, os.WriteFile(ca, r.CA(), 0o600))
	o := r.o
	o.Fingerprint, o.CA = "", ca
	r.use(o)
	r.expect(backup.NotDone)
	o = r.o
	o.Fingerprint = strings.Repeat("ab", 32)
	r.use(o)
	if _, err := r.p.Backup(ctx, r.q); err == nil || errors.Is(err, array.ErrArrayUnreachable) ||
		!strings.Contains(err.Error(), "certificate is not the array's") {
		t.Errorf("another certificate: %v", err)
	}
	if calls := r.Calls(); len(calls) != len(systems)*2+2 { // those of the first
		t.Errorf("the password was sent to somebody else: %v", calls)
	}
}

func TestRefused(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	wrong := filepath.Join(t.TempDir(), "wrong")
	try.Must(t, os.WriteFile(wrong, []byte("guess"), 0o600))
	open := filepath.Join(t.TempDir(), "open")
	try.Must(t, os.WriteFile(open, []byte("guess"), 0o644))
	for _, tc := range []struct {
		change func(*array.Options)
		want   string
	}{
		{func(o *array.Options) { o.Password = backup.SecretRef(wrong) }, "1077987870"},
		{func(o *array.Options) { o.Password = backup.SecretRef(open) }, "chmod 600"},
		{func(o *array.Options) { o.User = "" }, "want an account"},
		{func(o *array.Options) { o.Fingerprint = "" }, "want one of them"},
		{func(o *array.Options) { o.CA = "/x" }, "want one of them"},
		{func(o *array.Options) { o.Fingerprint = "abc" }, "64 hex digits"},
		{func(o *array.Options) { o.FileSystems = nil }, "want 1 to"},
		{func(o *array.Options) { o.FileSystems = []string{"a b"} }, "want letters"},
		{func(o *array.Options) { o.FileSystems = []string{"a.b", "a_b"} }, "twice"},
		{func(o *array.Options) { o.Address = "http://x" }, "want https"},
		{func(o *array.Options) { o.Address = "" }, "want an IP address"},
		{func(o *array.Options) { o.Address = "x/y" }, "want an IP address"},
	} {
		o := r.o
		tc.change(&o)
		r.use(o)
		if _, err := r.p.Backup(ctx, r.q); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
	if n := r.WrongPasswords(); n != 1 {
		t.Errorf("the wrong password was sent %d times", n)
	}
	r.use(r.o)
	r.MaxSessions = 1
	r.Inject("DELETE", "sessions", arraytest.Refused) // so that one is left
	r.expect(backup.NotDone)
	if _, err := r.p.Backup(ctx, r.q); err == nil || !strings.Contains(err.Error(), "too many sessions") {
		t.Errorf("too many sessions: %v", err)
	}
}

func TestSpoilt(t *testing.T) {
	r := newRig(t)
	ctx := try.Context(t)
	rec, err := r.p.Backup(ctx, r.q)
	try.Must(t, err)
	r.write("new")
	s := rec.Snapshots[3]
	for _, f := range []func(){func() { r.Spoil(s.Name, "2", s.ID) }, func() { r.Spoil(s.Name, "1", "9@other") }} {
		f()
		for _, err := range []error{r.p.Verify(ctx, rec), r.p.Restore(ctx, rec)} {
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		}
	}
	r.has("new")
}
