package lvm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/lvm"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// The programs of LVM are played by this test binary, which keeps volumes in a
// file and records every call: snapshots need a device mapper, which test machines
// often have not. The answers have the form of those of LVM 2.03.16.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLDFAST_TEST_LVM"); dir != "" {
		os.Exit(play(dir, os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// lv is a volume of the stage, named as lvs names its columns.
type lv struct {
	VG      string `json:"vg_name"`
	LV      string `json:"lv_name"`
	UUID    string `json:"lv_uuid"`
	Size    string `json:"lv_size"`
	Origin  string `json:"origin"`
	Type    string `json:"segtype"`
	Tags    string `json:"lv_tags"`
	Used    string `json:"snap_percent"`
	Invalid string `json:"lv_snapshot_invalid"`
	Merging string `json:"lv_merging"`
	Open    string `json:"lv_device_open"`
}

// stage is what the programs know.
type stage struct {
	LVs  []lv
	Free int64
	Next int
	Data map[string]string // content, by UUID
	Fail map[string]string // error by program and volume
	Slow int               // calls of lvs until a merge that is under way ends
}

func load(dir string) (s stage, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "state"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

func (s stage) save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "state"), b, 0o600)
}

func (s *stage) find(full string) int {
	return slices.IndexFunc(s.LVs, func(l lv) bool { return l.VG+"/"+l.LV == full })
}

// play is one call of a program; it gives the exit code.
func play(dir, program string, args []string) int {
	s, err := load(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	last := args[len(args)-1]
	if why := s.Fail[program+" "+last]; why != "" {
		fmt.Fprintln(os.Stderr, "  "+why)
		return 5
	}
	switch program {
	case "lvs", "vgs":
		err = s.report(program, args)
	case "lvcreate":
		err = s.create(args)
	case "lvconvert":
		err = s.merge(last)
	case "lvremove":
		s.LVs = slices.Delete(s.LVs, s.find(last), s.find(last)+1)
	}
	f, err2 := os.OpenFile(filepath.Join(dir, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err2 == nil && program != "lvs" && program != "vgs" {
		_, err2 = fmt.Fprintln(f, program, strings.Join(args, " "))
	}
	if err = errors.Join(err, err2, s.save(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "  "+err.Error())
		return 5
	}
	return 0
}

func (s *stage) report(program string, args []string) error {
	if args[0] == "--version" {
		fmt.Println("  LVM version:     2.03.16(2) (2022-05-18)\n  Library version: 1.02.185 (2022-05-18)")
		return nil
	}
	if s.Slow > 0 {
		if s.Slow--; s.Slow == 0 {
			s.LVs = slices.DeleteFunc(s.LVs, func(l lv) bool { return l.Merging == "1" })
		}
	}
	shown := []lv{}
	for _, l := range s.LVs {
		if l.Merging == "1" {
			if !slices.Contains(args, "--all") {
				continue
			}
			l.LV = "[" + l.LV + "]"
		}
		shown = append(shown, l)
	}
	var rows any = shown
	if program == "vgs" {
		rows = []map[string]string{{"vg_name": "vg0", "vg_free": strconv.FormatInt(s.Free, 10)}}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"report": []any{map[string]any{map[string]string{"lvs": "lv",
		"vgs": "vg"}[program]: rows}}})
}

func (s *stage) create(args []string) error {
	value := func(option string) string {
		if i := slices.Index(args, option); i >= 0 {
			return args[i+1]
		}
		return ""
	}
	i := s.find(args[len(args)-1])
	if i < 0 {
		return errors.New("Failed to find logical volume")
	}
	o := s.LVs[i]
	if s.find(o.VG+"/"+value("--name")) >= 0 {
		return errors.New("Logical volume already exists in volume group")
	}
	s.Next++
	snap := lv{VG: o.VG, LV: value("--name"), UUID: fmt.Sprintf("uuid-%d", s.Next), Size: o.Size, Origin: o.LV,
		Type: "thin", Tags: value("--addtag"), Invalid: "-1", Merging: "0", Open: "0"}
	if p := value("--extents"); p != "" {
		percent, err := strconv.ParseInt(strings.TrimSuffix(p, "%ORIGIN"), 10, 64)
		size, err2 := strconv.ParseInt(o.Size, 10, 64)
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		snap.Size, snap.Type, snap.Used, snap.Invalid = strconv.FormatInt(size/100*percent, 10), "linear", "0.00", "0"
	}
	s.Data[snap.UUID] = s.Data[o.UUID]
	s.LVs = append(s.LVs, snap)
	return nil
}

func (s *stage) merge(full string) error {
	i := s.find(full)
	if i < 0 {
		return errors.New("Failed to find logical volume")
	}
	o := s.find(s.LVs[i].VG + "/" + s.LVs[i].Origin)
	s.Data[s.LVs[o].UUID] = s.Data[s.LVs[i].UUID]
	if s.Slow > 0 {
		s.LVs[i].Merging = "1"
		return nil
	}
	s.LVs = slices.Delete(s.LVs, i, i+1)
	return nil
}

// rig puts the programs on the path.
type rig struct {
	t   *testing.T
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	bin := filepath.Join(r.dir, "bin")
	try.Must(t, os.Mkdir(bin, 0o700))
	for _, p := range []string{"lvs", "vgs", "lvcreate", "lvconvert", "lvremove"} {
		// The race detector sleeps for a second at the end of a process, unless it is told not to.
		script := fmt.Sprintf("#!/bin/sh\nGORACE=atexit_sleep_ms=0 HOLDFAST_TEST_LVM='%s' exec '%s' %s \"$@\"\n", r.dir, os.Args[0], p)
		try.Must(t, os.WriteFile(filepath.Join(bin, p), []byte(script), 0o700))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	plain := lv{VG: "vg0", LV: "data", UUID: "uuid-data", Size: "1073741824", Type: "linear", Invalid: "-1", Merging: "0", Open: "0"}
	thin := plain
	thin.LV, thin.UUID, thin.Type = "thin", "uuid-thin", "thin"
	try.Must(t, stage{LVs: []lv{plain, thin}, Free: 1 << 30,
		Data: map[string]string{"uuid-data": "old", "uuid-thin": "old"}, Fail: map[string]string{}}.save(r.dir))
	return r
}

// change changes what the programs know.
func (r *rig) change(f func(*stage)) {
	r.t.Helper()
	s, err := load(r.dir)
	try.Must(r.t, err)
	f(&s)
	try.Must(r.t, s.save(r.dir))
}

func (r *rig) calls() string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "calls"))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	return string(b)
}

func (r *rig) request(o lvm.Options) backup.Request {
	b, err := json.Marshal(o)
	try.Must(r.t, err)
	return backup.Request{ID: "up-1", Host: "h1", Dir: filepath.Join(r.dir, "receipts"), Options: b}
}

func (r *rig) expect(q backup.Request, want backup.State) {
	r.t.Helper()
	if got, err := (lvm.Provider{}).Probe(try.Context(r.t), q); err != nil || got != want {
		r.t.Errorf("probe: got %q, %v, want %q", got, err, want)
	}
}

func (r *rig) write(content string) {
	r.change(func(s *stage) { s.Data["uuid-data"], s.Data["uuid-thin"] = content, content })
}

func (r *rig) has(content string) {
	r.t.Helper()
	s, err := load(r.dir)
	try.Must(r.t, err)
	if s.Data["uuid-data"] != content || s.Data["uuid-thin"] != content {
		r.t.Errorf("the volumes have %q, want %q", s.Data, content)
	}
}

func both() lvm.Options { return lvm.Options{Volumes: []string{"vg0/data", "vg0/thin"}} }

func TestRoundTrip(t *testing.T) {
	r, p, ctx := newRig(t), lvm.Provider{}, try.Context(t)
	q := r.request(both())
	r.expect(q, backup.NotDone)
	rec, err := p.Backup(ctx, q)
	try.Must(t, err)
	r.expect(q, backup.Done)
	try.Must(t, p.Verify(ctx, rec))
	if rec.Tool != "LVM version: 2.03.16(2) (2022-05-18)" || len(rec.Notes) != 1 || !strings.Contains(rec.Notes[0], "204 MiB") {
		t.Errorf("%+v", rec)
	}
	r.write("new")
	r.change(func(s *stage) { s.LVs[0].Open = "1" })
	if err := p.Restore(ctx, rec); !errors.Is(err, backup.ErrBusy) {
		t.Errorf("in use: %v", err)
	}
	r.has("new")
	r.change(func(s *stage) { s.LVs[0].Open = "0" })
	for range 2 {
		try.Must(t, p.Restore(ctx, rec))
		r.has("old")
	}
	if err := p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("verified after the merge: %v", err)
	}
	for range 2 {
		try.Must(t, p.Delete(ctx, rec))
	}
	r.expect(q, backup.NotDone)
	want := `lvcreate --yes --snapshot --name hf.up-1.data --addtag holdfast --extents 20%ORIGIN vg0/data
lvcreate --yes --snapshot --name hf.up-1.thin --addtag holdfast vg0/thin
lvconvert --yes --merge --interval 1 vg0/hf.up-1.data
lvconvert --yes --merge --interval 1 vg0/hf.up-1.thin
`
	if got := r.calls(); got != want {
		t.Errorf("calls:\n%s\nwant:\n%s", got, want)
	}
	left, err := os.ReadDir(q.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAllOrNone(t *testing.T) {
	r, p, ctx := newRig(t), lvm.Provider{}, try.Context(t)
	q := r.request(both())
	r.change(func(s *stage) { s.Fail["lvcreate vg0/thin"] = "Insufficient free space" })
	if _, err := p.Backup(ctx, q); err == nil || !strings.Contains(err.Error(), "Insufficient free space") {
		t.Errorf("got %v", err)
	}
	r.expect(q, backup.NotDone)
	if s, err := load(r.dir); err != nil || len(s.LVs) != 2 {
		t.Errorf("left: %+v, %v", s.LVs, err)
	}
	// What a process leaves that was killed in the middle: it is begun anew.
	r.change(func(s *stage) {
		s.Fail = map[string]string{}
		try.Must(t, s.create([]string{"--name", "hf.up-1.data", "--addtag", "holdfast", "--extents", "20%ORIGIN", "vg0/data"}))
	})
	r.expect(q, backup.Partial)
	r.write("newer")
	rec, err := p.Backup(ctx, q)
	try.Must(t, err)
	r.write("spoilt")
	try.Must(t, p.Restore(ctx, rec))
	r.has("newer")
}

// TestMergeIsFinished stops after the first merge, which goes on by itself.
func TestMergeIsFinished(t *testing.T) {
	need.Seconds(t)
	r, p, ctx := newRig(t), lvm.Provider{}, try.Context(t)
	rec, err := p.Backup(ctx, r.request(both()))
	try.Must(t, err)
	r.write("new")
	r.change(func(s *stage) { s.Slow, s.Fail["lvconvert vg0/hf.up-1.thin"] = 3, "killed here" })
	if err := p.Restore(ctx, rec); err == nil || !strings.Contains(err.Error(), "killed here") {
		t.Errorf("got %v", err)
	}
	if err := p.Delete(ctx, rec); !errors.Is(err, backup.ErrBusy) {
		t.Errorf("deleted while it is merged: %v", err)
	}
	r.change(func(s *stage) { s.Slow, s.Fail = 3, map[string]string{} })
	try.Must(t, p.Restore(ctx, rec))
	r.has("old")
}

func TestFull(t *testing.T) {
	r, p, ctx := newRig(t), lvm.Provider{}, try.Context(t)
	rec, err := p.Backup(ctx, r.request(both()))
	try.Must(t, err)
	r.write("new")
	for _, f := range []func(*lv){func(l *lv) { l.Used = "100.00" }, func(l *lv) { l.Invalid = "1" },
		func(l *lv) { l.UUID = "another" }, func(l *lv) { l.Origin = "thin" }} {
		r.change(func(s *stage) {
			l := s.LVs[2]
			f(&l)
			s.LVs = append(s.LVs, s.LVs[2])
			s.LVs[2] = l
			s.LVs[2], s.LVs[4] = s.LVs[4], s.LVs[2] // the last one counts
		})
		for _, err := range []error{p.Verify(ctx, rec), p.Restore(ctx, rec)} {
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		}
		r.change(func(s *stage) { s.LVs = s.LVs[:4] })
		try.Must(t, p.Verify(ctx, rec))
	}
	r.has("new")
}

func TestRefused(t *testing.T) {
	r, p, ctx := newRig(t), lvm.Provider{}, try.Context(t)
	for _, tc := range []struct {
		o    lvm.Options
		want string
	}{
		{lvm.Options{}, "want 1 to"},
		{lvm.Options{Volumes: []string{"data"}}, "GROUP/NAME"},
		{lvm.Options{Volumes: []string{"-x/data"}}, "GROUP/NAME"},
		{lvm.Options{Volumes: []string{"vg0/data", "vg0/data"}}, "twice"},
		{lvm.Options{Volumes: []string{"vg0/none"}}, "no logical volume"},
		{lvm.Options{Volumes: []string{"vg0/data"}, Percent: 101}, "1 to 100"},
		{lvm.Options{Volumes: []string{"vg0/" + strings.Repeat("x", 120)}}, "too long"},
	} {
		if _, err := p.Backup(ctx, r.request(tc.o)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.o, err, tc.want)
		}
	}
	r.change(func(s *stage) { s.Free = 1 << 20 })
	if _, err := p.Backup(ctx, r.request(both())); !errors.Is(err, backup.ErrNoSpace) {
		t.Errorf("no space: %v", err)
	}
	r.change(func(s *stage) {
		s.Free = 1 << 30
		s.LVs = append(s.LVs, lv{VG: "vg0", LV: "hf.up-1.data", UUID: "x", Size: "1", Origin: "data"})
	})
	if _, err := p.Backup(ctx, r.request(both())); err == nil || !strings.Contains(err.Error(), "that this program has made") {
		t.Errorf("somebody else's: %v", err)
	}
	if s, err := load(r.dir); err != nil || len(s.LVs) != 3 {
		t.Errorf("somebody else's snapshot is gone: %v", err)
	}
}
