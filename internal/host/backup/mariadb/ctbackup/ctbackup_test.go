package ctbackup_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/mariadb/ctbackup"
	"holdfast/testbed/try"
)

// Output as the product's own guide shows it, columns out of line included.
const (
	guidePods = `        kubectl get pods -n cantian -owide
        NAME                              READY   STATUS    RESTARTS      AGE     IP               NODE           NOMINATED NODE   READINESS GATES
        rto1221125555-0                   2/2     Running   0             9m45s   192.168.135.153   10.10.163.101   <none>           <none>
        rto1221125555-1                   2/2     Running   1 (15m ago)   8m16s   192.168.222.180   10.10.163.103   <none>           <none>
        rto1221125555-2                   2/2     Running   1 (15m ago)   8m16s   192.168.135.163   10.10.163.101   <none>           <none>
`
	guideClaim = "        cantian     data-rto1221125555-0   Bound    pvc-ba009f8f-98b7-4557-a44e-b985f9cbd332   " +
		"20Gi       RWO            teledb-nfs-storage   95m\n"
	allClaims = `NAMESPACE   NAME                   STATUS    VOLUME                                     CAPACITY   ACCESS MODES   STORAGECLASS         AGE
cantian     data-rto1221125555-0   Bound     pvc-ba009f8f-98b7-4557-a44e-b985f9cbd332   20Gi       RWO            teledb-nfs-storage   95m
cantian     data-rto1221125555-1   Pending                                                                        teledb-nfs-storage   2s
other       data-rto1221125555-0   Bound     pvc-11111111-98b7-4557-a44e-b985f9cbd332   20Gi       RWO            teledb-nfs-storage   95m
`
	volume = "pvc-ba009f8f-98b7-4557-a44e-b985f9cbd332"
)

func TestParse(t *testing.T) {
	pods, err := ctbackup.ParsePods([]byte(guidePods))
	try.Must(t, err)
	if want := (ctbackup.Pod{Name: "rto1221125555-1", Status: "Running", IP: "192.168.222.180",
		Node: "10.10.163.103"}); len(pods) != 3 || pods[1] != want {
		t.Errorf("got %+v", pods)
	}
	for _, none := range []string{"", "No resources found in cantian namespace.\n"} {
		if pods, err := ctbackup.ParsePods([]byte(none)); err != nil || len(pods) != 0 {
			t.Errorf("%q: %v, %v", none, pods, err)
		}
	}
	want := ctbackup.Claim{Namespace: "cantian", Name: "data-rto1221125555-0", Status: "Bound", Volume: volume}
	for _, text := range []string{guideClaim, allClaims} {
		claims, err := ctbackup.ParseClaims([]byte(text))
		if err != nil || len(claims) == 0 || claims[0] != want {
			t.Errorf("got %+v, %v", claims, err)
		}
	}
	claims, err := ctbackup.ParseClaims([]byte(allClaims))
	if err != nil || len(claims) != 3 || claims[1] != (ctbackup.Claim{Namespace: "cantian", Name: "data-rto1221125555-1", Status: "Pending"}) {
		t.Errorf("got %+v, %v", claims, err)
	}
	for _, bad := range []string{
		"error: something\n", strings.Replace(allClaims, "data-rto1221125555-0 ", "../../etc/passwd    ", 1),
		strings.Replace(allClaims, volume, "..", 1), strings.Replace(allClaims, "Pending ", "Pending x", 1), allClaims + strings.Repeat("a  ", 9),
	} {
		if claims, err := ctbackup.ParseClaims([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, claims)
		}
	}
	if pods, err := ctbackup.ParsePods([]byte(strings.Replace(guidePods, "rto1221125555-0 ", "../x/y          ", 1))); err == nil {
		t.Errorf("got %+v", pods)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{guidePods, guideClaim, allClaims, "NAME  READY  STATUS\na", "\t\t\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		pods, err := ctbackup.ParsePods(b)
		for _, p := range pods {
			if err != nil || filepath.Base(p.Name) != p.Name || p.Name == ".." {
				t.Errorf("%+v, %v", p, err)
			}
		}
		claims, err := ctbackup.ParseClaims(b)
		for _, c := range claims {
			if path := c.Namespace + "-" + c.Name + "-" + c.Volume; err != nil || c.Status == "Bound" && filepath.Base(path) != path {
				t.Errorf("%+v, %v", c, err)
			}
		}
	})
}

// TestComplete has a kubectl that answers as the guide shows, and a client of MySQL.
func TestComplete(t *testing.T) {
	r := newRig(t, ctbackup.During)
	r.o.Address, r.o.MetadataPath = "192.168.135.153", ""
	tool := func(name, script string) {
		try.Must(t, os.WriteFile(filepath.Join(r.dir, name), []byte("#!/bin/sh\n"+script), 0o700))
	}
	t.Setenv("PATH", r.dir+":"+os.Getenv("PATH"))
	root := filepath.Join(r.dir, "remote")
	complete := func(want, how string) {
		t.Helper()
		q := r.request()
		try.Must(t, os.MkdirAll(q.Dir, 0o700))
		text, said, err := ctbackup.CompleteIn(try.Context(t), q, root)
		var o ctbackup.Options
		if err == nil {
			try.Must(t, json.Unmarshal(text, &o))
		}
		if o.MetadataPath != want || !strings.Contains(fmt.Sprint(said, err), how) || (want == "") != (err != nil) {
			t.Errorf("got %q, %q, %v; want %q, %q", o.MetadataPath, said, err, want, how)
		}
	}
	tool("kubectl", "echo no cluster >&2; exit 1")
	complete("", "no cluster")
	for name, text := range map[string]string{"pods": guidePods, "claims": allClaims} {
		try.Must(t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600))
	}
	tool("kubectl", fmt.Sprintf("case $* in 'get pods -n cantian -owide') cat %s/pods;; 'get pvc -A') cat "+
		"%s/claims;; *) exit 1;; esac", r.dir, r.dir))
	complete("", "volumes of pod rto1221125555-0 have 0 directories below "+root)
	want := filepath.Join(root, "metadata_metadata_fs_101_103", "cantian-data-rto1221125555-0-"+volume, "mysql")
	for _, d := range []string{want, filepath.Join(root, "metadata_fs2",
		"other-data-rto1221125555-0-pvc-11111111-98b7-4557-a44e-b985f9cbd332", "mysql"), filepath.Join(root, "share_fs")} {
		try.Must(t, os.MkdirAll(d, 0o700))
	}
	complete(want, "is in "+want+": the volume of pod rto1221125555-0 on 10.10.163.101")
	r.o.Address = "192.168.222.180" // its claim is not bound
	complete("", "volumes of pod rto1221125555-1 have 0 directories")
	r.o.Address = "192.0.2.1"
	complete("", "of the 3 pods of namespace cantian none has the address 192.0.2.1")

	r.o.Address = "127.0.0.1"
	tool("mariadb", "printf '/mnt/dbdata/remote/metadata_metadata_fs2/node0/\\t8.0.26\\n'")
	complete("/mnt/dbdata/remote/metadata_metadata_fs2/node0", "the data directory of MySQL at 127.0.0.1")
	tool("mariadb", "exit 1")
	complete("", "metadataPath does not name it")
	r.o.MetadataPath = "/given"
	complete("/given", "")
	r.o.Choice, r.o.MetadataPath = ctbackup.Done, ""
	if text, how, err := ctbackup.Complete(try.Context(t), r.request()); err != nil || how != "" ||
		string(text) != string(r.request().Options) {
		t.Errorf("nothing is to be found: %s, %q, %v", text, how, err)
	}
}

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
	r.o = ctbackup.Options{Choice: c, Address: "127.0.0.1", User: "root", Password: secret("mysql"),
		MetadataPath: "/mnt/dbdata/remote/metadata_fs/node0", StoragePath: r.storage, SysPassword: secret("sys")}
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
		{func(o *ctbackup.Options) { o.MetadataPath = "" }, "want the path of MySQL"},
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
