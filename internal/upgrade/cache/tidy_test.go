package cache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/try"
)

// The bundle of the run stays, what came just now and what is worked on, too; all
// else goes.
func TestTidy(t *testing.T) {
	d, keep := with(t, native(t, 1000, bundle.None, nil))
	put := func(size int) string {
		b, _, err := d.Put(context.Background(), bytes.NewReader(native(t, size, bundle.None, nil)), unsigned)
		try.Must(t, err)
		return b.SHA256
	}
	old, young, busy := put(2000), put(3000), put(4000)
	part, loose := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	try.Must(t, os.WriteFile(d.path(part, partSuffix), []byte("x"), 0o600))
	try.Must(t, os.Mkdir(d.path(loose, ""), 0o700)) // unpacked, and its file is gone
	for _, sha := range []string{keep, old} {
		_, err := d.Unpack(context.Background(), sha, 0)
		try.Must(t, err)
	}
	past := time.Now().Add(-2 * restFor)
	for _, name := range []string{keep + fileSuffix, old + fileSuffix, busy + fileSuffix, part + partSuffix} {
		try.Must(t, os.Chtimes(filepath.Join(d.Dir, name), past, past))
	}
	release, err := d.hold(context.Background(), busy)
	try.Must(t, err)
	names := func() string {
		var out []string
		entries, err := os.ReadDir(d.Dir)
		try.Must(t, err)
		for _, e := range entries {
			n := e.Name()
			for name, sha := range map[string]string{"keep": keep, "old": old, "young": young, "busy": busy, "part": part, "loose": loose} {
				n = strings.ReplaceAll(n, sha, name)
			}
			if !strings.HasPrefix(n, ".") {
				out = append(out, n)
			}
		}
		return strings.Join(slices.Sorted(slices.Values(out)), " ")
	}
	try.Must(t, d.Tidy(keep, true))
	if got := names(); got != "busy.hfb busy.json keep keep.hfb keep.json young.hfb young.json" {
		t.Errorf("left: %s", got)
	}
	release()
	try.Must(t, d.Tidy(keep, false))
	if got := names(); got != "keep.hfb keep.json young.hfb young.json" {
		t.Errorf("left: %s", got)
	}
	if _, err := d.Manifest(context.Background(), keep); err != nil {
		t.Error(err)
	}
	if err := d.Tidy("", true); !errors.Is(err, ErrHash) {
		t.Errorf("without a hash: %v", err)
	}
	try.Must(t, fresh(t).Tidy(keep, true))
}
