package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// tag marks the volumes that are ours.
const tag = "holdfast"

// yes is how the programs say so with --binary.
const yes = "1"

// columns are what lvs is asked for.
const columns = "vg_name,lv_name,lv_uuid,lv_size,origin,segtype,lv_tags,snap_percent,lv_snapshot_invalid,lv_merging,lv_device_open"

// volume is a logical volume as lvs tells it.
type volume struct {
	Group   string `json:"vg_name"`
	Name    string `json:"lv_name"`
	UUID    string `json:"lv_uuid"`
	Size    int64  `json:"lv_size,string"` // bytes
	Origin  string `json:"origin"`         // of a snapshot
	Type    string `json:"segtype"`
	Tags    string `json:"lv_tags"`
	Used    string `json:"snap_percent"`
	Invalid string `json:"lv_snapshot_invalid"`
	Merging string `json:"lv_merging"`
	Open    string `json:"lv_device_open"`
}

func (v volume) full() string { return v.Group + "/" + v.Name }
func (v volume) thin() bool   { return v.Type == "thin" }

// snapshot is the full name of the volume's snapshot.
func (v volume) snapshot(id string) string { return v.Group + "/" + snapshotName(id, v.Name) }

// invalid reports a snapshot that has lost what it kept.
func (v volume) invalid() bool {
	used, err := strconv.ParseFloat(v.Used, 64)
	return v.Invalid == yes || err == nil && used >= 100
}

// tool runs the programs of LVM.
type tool struct{ lock *backup.Lock }

// run runs one of the programs. They go on when the agent is killed: they change
// metadata that others read.
func (t tool) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("the programs of LVM are not installed: %w", err)
	}
	return backup.Run(ctx, backup.Command{
		Path: path, Args: args, Hold: t.lock, Outlives: true,
		Env: []string{"LVM_SUPPRESS_FD_WARNINGS=1"}, // the lock is handed over on purpose
	})
}

func (t tool) version(ctx context.Context) (string, error) {
	out, err := t.run(ctx, "lvs", "--version")
	if err != nil {
		return "", fmt.Errorf("ask for the version: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.Join(strings.Fields(line), " "), nil
}

// report runs lvs or vgs and gives the rows of the one list in its answer.
func report[T any](ctx context.Context, t tool, program, key, columns string, rest ...string) ([]T, error) {
	args := append([]string{"--reportformat", "json", "--units", "b", "--nosuffix", "--binary", "--options", columns}, rest...)
	out, err := t.run(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Report []map[string][]T `json:"report"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("read what %s says: %w", program, err)
	}
	var rows []T
	for _, r := range answer.Report {
		rows = append(rows, r[key]...)
	}
	return rows, nil
}

// groupsOf are the volume groups of volumes, each once.
func groupsOf(volumes []string) []string {
	var out []string
	for _, v := range volumes {
		g, _, _ := strings.Cut(v, "/")
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

// list gives all volumes of the groups by their full names. The wanted volumes must
// be there.
func (t tool) list(ctx context.Context, wanted []string) (map[string]volume, error) {
	// A snapshot that is being merged is hidden, and hidden ones are in brackets.
	rows, err := report[volume](ctx, t, "lvs", "lv", columns, append([]string{"--all"}, groupsOf(wanted)...)...)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	out := make(map[string]volume, len(rows))
	for _, v := range rows {
		v.Name, v.Origin = strings.Trim(v.Name, "[]"), strings.Trim(v.Origin, "[]")
		out[v.full()] = v
	}
	for _, w := range wanted {
		if _, ok := out[w]; !ok {
			return nil, fmt.Errorf("there is no logical volume %s", w)
		}
	}
	return out, nil
}

// room fails with ErrNoSpace when the snapshots do not fit into their groups.
func (t tool) room(ctx context.Context, have map[string]volume, o Options) error {
	type group struct {
		Name string `json:"vg_name"`
		Free int64  `json:"vg_free,string"` // bytes
	}
	groups, err := report[group](ctx, t, "vgs", "vg", "vg_name,vg_free", groupsOf(o.Volumes)...)
	if err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	need := map[string]int64{}
	for _, name := range o.Volumes {
		v := have[name]
		if v.Origin != "" && !v.thin() {
			return fmt.Errorf("%s is a snapshot itself", name)
		}
		if !v.thin() {
			need[v.Group] += v.Size / 100 * int64(o.Percent)
		}
	}
	for _, g := range groups {
		if g.Free < need[g.Name] {
			return fmt.Errorf("%w in volume group %s: %d MiB are free, %d MiB are needed", backup.ErrNoSpace, g.Name, g.Free>>20, need[g.Name]>>20+1)
		}
	}
	return nil
}

// create makes one snapshot.
func (t tool) create(ctx context.Context, id string, v volume, percent int) error {
	args := []string{"--yes", "--snapshot", "--name", snapshotName(id, v.Name), "--addtag", tag}
	if !v.thin() { // a size would make a plain snapshot of a thin volume
		args = append(args, "--extents", strconv.Itoa(percent)+"%ORIGIN")
	}
	if _, err := t.run(ctx, "lvcreate", append(args, v.full())...); err != nil {
		return fmt.Errorf("make a snapshot of %s: %w", v.full(), err)
	}
	return nil
}

// removeAll removes the snapshots of volumes that are there, or none when one of
// them must stay.
func (t tool) removeAll(ctx context.Context, id string, volumes []string) error {
	have, err := t.list(ctx, volumes)
	if err != nil {
		return err
	}
	var gone []string
	for _, v := range volumes {
		s, there := have[have[v].snapshot(id)]
		switch {
		case !there:
			continue
		case !slices.Contains(strings.Split(s.Tags, ","), tag) || s.Origin != have[v].Name:
			return fmt.Errorf("%s is no snapshot of %s that this program has made", s.full(), v)
		case s.Merging == yes:
			return fmt.Errorf("%s %w: it is being merged", s.full(), backup.ErrBusy)
		}
		gone = append(gone, s.full())
	}
	var errs []error
	for _, s := range gone {
		if _, err := t.run(ctx, "lvremove", "--yes", s); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// readBegun gives the snapshots whose merge was begun.
func readBegun(rec backup.Receipt) ([]string, error) {
	b, err := os.ReadFile(rec.Path(merging))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read which merges were begun: %w", err)
	}
	return out, nil
}

// writeBegun notes merges before they are begun.
func writeBegun(rec backup.Receipt, ids []string) error {
	b, err := json.Marshal(ids)
	if err == nil {
		err = durable.WriteFile(rec.Path(merging), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note which merges are begun: %w", err)
	}
	return nil
}
