package qcow2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/qcow2"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// rig is images in a directory.
type rig struct {
	t      *testing.T
	dir    string
	images []string
}

func newRig(t *testing.T, n int) *rig {
	t.Helper()
	need.Real(t, need.Programs("qemu-utils", "qemu-img", "qemu-io"))
	r := &rig{t: t, dir: t.TempDir()}
	for i := range n {
		image := filepath.Join(r.dir, fmt.Sprintf("disk, number %d.qcow2", i))
		r.tool("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
		r.images = append(r.images, image)
		r.fill(i, 0x11)
	}
	return r
}

func (r *rig) tool(args ...string) string {
	r.t.Helper()
	out, err := exec.CommandContext(r.t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// fill writes a pattern over a part of an image.
func (r *rig) fill(i int, pattern byte) {
	r.t.Helper()
	r.tool("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d 1M 2M", pattern), r.images[i])
}

// has fails when a part of an image has not the pattern.
func (r *rig) has(i int, pattern byte) {
	r.t.Helper()
	if out := r.tool("qemu-io", "-r", "-f", "qcow2", "-c", fmt.Sprintf("read -P %d 1M 2M", pattern),
		r.images[i]); strings.Contains(out, "failed") {
		r.t.Errorf("%s has not the pattern %#x: %s", r.images[i], pattern, out)
	}
}

func (r *rig) snapshots(i int) string {
	return r.tool("qemu-img", "snapshot", "-l", r.images[i])
}

// hold opens an image for writing, as a guest would, until the function that it
// gives is called.
func (r *rig) hold(i int) (release func()) {
	r.t.Helper()
	cmd := exec.Command("qemu-io", "-f", "qcow2", r.images[i])
	in, err := cmd.StdinPipe()
	try.Must(r.t, err)
	out, err := cmd.StdoutPipe()
	try.Must(r.t, err)
	try.Must(r.t, cmd.Start())
	ended := false
	release = func() {
		if !ended {
			ended = true
			try.Must(r.t, in.Close())
			try.Must(r.t, cmd.Wait())
		}
	}
	r.t.Cleanup(release)
	_, err = fmt.Fprintln(in, "length")
	try.Must(r.t, err)
	var said []byte
	for b := make([]byte, 100); !bytes.Contains(said, []byte("16 MiB")); {
		n, err := out.Read(b)
		try.Must(r.t, err)
		said = append(said, b[:n]...)
	}
	return release
}

func (r *rig) request(id string) backup.Request {
	b, err := json.Marshal(qcow2.Options{Images: r.images})
	try.Must(r.t, err)
	return backup.Request{ID: id, Host: "h1", Dir: filepath.Join(r.dir, "receipts"), Options: b}
}

func (r *rig) expect(q backup.Request, want backup.State) {
	r.t.Helper()
	if got, err := (qcow2.Provider{}).Probe(try.Context(r.t), q); err != nil || got != want {
		r.t.Errorf("probe: got %q, %v, want %q", got, err, want)
	}
}

func TestRoundTrip(t *testing.T) {
	r, p, ctx := newRig(t, 2), qcow2.Provider{}, try.Context(t)
	q := r.request("up-1")
	r.expect(q, backup.NotDone)
	rec, err := p.Backup(ctx, q)
	try.Must(t, err)
	r.expect(q, backup.Done)
	try.Must(t, p.Verify(ctx, rec))
	if !strings.HasPrefix(rec.Tool, "qemu-img version") {
		t.Errorf("made by %q", rec.Tool)
	}
	if again, err := p.Backup(ctx, q); err != nil || again.Snapshots[0] != rec.Snapshots[0] {
		t.Errorf("the second call gives another snapshot: %+v, %v", again, err)
	}
	for range 2 {
		r.fill(0, 0x22)
		r.fill(1, 0x33)
		try.Must(t, p.Restore(ctx, rec))
		r.has(0, 0x11)
		r.has(1, 0x11)
	}
	// A guest uses the image: it can be verified, and nothing else.
	r.fill(0, 0x22)
	release := r.hold(1)
	try.Must(t, p.Verify(ctx, rec))
	for _, err := range []error{p.Restore(ctx, rec), p.Delete(ctx, rec)} {
		if !errors.Is(err, backup.ErrBusy) {
			t.Errorf("in use: %v", err)
		}
	}
	release()
	r.has(0, 0x22)
	for range 2 {
		try.Must(t, p.Delete(ctx, rec))
	}
	r.expect(q, backup.NotDone)
	left, err := os.ReadDir(q.Dir)
	if err != nil || len(left) > 0 || r.snapshots(0) != "" || r.snapshots(1) != "" {
		t.Errorf("left: %v, %v, %s %s", left, err, r.snapshots(0), r.snapshots(1))
	}
	if err := p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("verified after the deletion: %v", err)
	}
}

func TestAllOrNone(t *testing.T) {
	r, p, ctx := newRig(t, 3), qcow2.Provider{}, try.Context(t)
	q := r.request("up-2")
	release := r.hold(2)
	if _, err := p.Backup(ctx, q); !errors.Is(err, backup.ErrBusy) {
		t.Errorf("in use: %v", err)
	}
	release()
	r.expect(q, backup.NotDone)
	if got := r.snapshots(0); got != "" {
		t.Errorf("left: %s", got)
	}
	// What a process leaves that was killed in the middle.
	r.tool("qemu-img", "snapshot", "-c", "holdfast-up-2", r.images[0])
	r.expect(q, backup.Partial)
	r.fill(0, 0x44)
	rec, err := p.Backup(ctx, q)
	try.Must(t, err)
	r.expect(q, backup.Done)
	r.fill(0, 0x55)
	try.Must(t, p.Restore(ctx, rec))
	r.has(0, 0x44)
	// Another snapshot of the same name is not ours.
	r.tool("qemu-img", "snapshot", "-d", "holdfast-up-2", r.images[1])
	r.expect(q, backup.Partial)
	r.tool("qemu-img", "snapshot", "-c", "holdfast-up-2", r.images[1])
	for _, err := range []error{p.Verify(ctx, rec), p.Restore(ctx, rec)} {
		if !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("another snapshot: %v", err)
		}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Backup(over, r.request("up-3")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.expect(r.request("up-3"), backup.NotDone)
}

func TestRefused(t *testing.T) {
	r, p, ctx := newRig(t, 1), qcow2.Provider{}, try.Context(t)
	raw := filepath.Join(r.dir, "raw.img")
	try.Must(t, os.WriteFile(raw, make([]byte, 1<<20), 0o600))
	for _, tc := range []struct {
		images []string
		want   string
	}{
		{nil, "want 1 to"},
		{[]string{"disk"}, "absolute"},
		{[]string{r.images[0], r.images[0]}, "twice"},
		{[]string{r.images[0], raw}, "not in qcow2 format"},
		{[]string{r.dir + "/none"}, "No such file"},
	} {
		r.images = tc.images
		if _, err := p.Backup(ctx, r.request("no")); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: got %v, want %q", tc.images, err, tc.want)
		}
	}
}
