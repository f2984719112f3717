package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/lib/durable"
)

var errKilled = errors.New("killed here")

// place makes a path with old content and, when staged, new content beside it.
func place(t *testing.T, dirs, old, staged bool) Place {
	t.Helper()
	p := Place{Path: filepath.Join(t.TempDir(), "app"), ID: "b1"}
	put := func(path, content string) {
		if dirs {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(path, "f")
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if old {
		put(p.Path, "old")
	}
	if staged {
		put(p.Stage(), "new")
	}
	return p
}

// content is what is at a path: "" when nothing is.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		b, err = os.ReadFile(filepath.Join(path, "f"))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// points counts the places at which a call can be killed.
func points(t *testing.T, p Place, call func(Place) error) int {
	t.Helper()
	n := 0
	p.at = func(string) error { n++; return nil }
	if err := call(p); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSwapKilled kills a swap at every point, and looks that the path has the old
// or the new content, that Recover ends it, and that the next swap succeeds.
func TestSwapKilled(t *testing.T) {
	for _, dirs := range []bool{false, true} {
		for _, old := range []bool{true, false} {
			n := points(t, place(t, dirs, old, true), Place.Swap)
			if n < 6 {
				t.Fatalf("only %d points", n)
			}
			for k := range n {
				t.Run(fmt.Sprintf("dirs %v old %v point %d", dirs, old, k), func(t *testing.T) {
					p := place(t, dirs, old, true)
					kill(t, p, k, Place.Swap)
					now := content(t, p.Path)
					if now != "new" && (now == "old") != old {
						t.Errorf("the path has %q", now)
					}
					if err := p.Recover(); err != nil {
						t.Fatal(err)
					}
					got := content(t, p.Path)
					if got != now && (now != "" || got != "new") { // nothing may become the new content
						t.Errorf("the path has %q after the recovery, %q before", got, now)
					}
					if old && now == "new" && content(t, p.Before()) != "old" {
						t.Errorf("the old content is lost: %q", content(t, p.Before()))
					}
					again(t, p, dirs, old)
				})
			}
		}
	}
}

func kill(t *testing.T, p Place, at int, call func(Place) error) {
	t.Helper()
	n := 0
	p.at = func(string) error {
		if n++; n > at {
			return errKilled
		}
		return nil
	}
	if err := call(p); !errors.Is(err, errKilled) {
		t.Fatalf("got %v", err)
	}
}

// again stages and swaps once more.
func again(t *testing.T, p Place, dirs, old bool) {
	t.Helper()
	at := p.Stage()
	if dirs {
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		at = filepath.Join(at, "f")
	}
	if err := os.WriteFile(at, []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Swap(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, p.Path); got != "newer" {
		t.Errorf("the path has %q", got)
	}
	if got := content(t, p.Before()); old && got != "old" {
		t.Errorf("kept is %q", got)
	}
	if err := p.Forget(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(p.Path))
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestTwoRenames stops where there is no exchange, between the two renames.
func TestTwoRenames(t *testing.T) {
	p := place(t, true, true, true)
	ino, err := inode(p.Stage())
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(p.note(), fmt.Append(nil, ino), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.Path, p.old()); err != nil {
		t.Fatal(err)
	}
	if err := p.Recover(); err != nil {
		t.Fatal(err)
	}
	if now, kept := content(t, p.Path), content(t, p.Before()); now != "new" || kept != "old" {
		t.Errorf("the path has %q, kept is %q", now, kept)
	}
}

func TestVacate(t *testing.T) {
	n := points(t, place(t, true, true, false), Place.Vacate)
	for k := range n {
		p := place(t, true, true, false)
		kill(t, p, k, Place.Vacate)
		if err := p.Recover(); err != nil {
			t.Fatal(err)
		}
		if err := p.Vacate(); err != nil {
			t.Fatal(err)
		}
		if now, kept := content(t, p.Path), content(t, p.Before()); now != "" || kept != "old" {
			t.Errorf("point %d: the path has %q, kept is %q", k, now, kept)
		}
	}
	if n < 4 {
		t.Errorf("only %d points", n)
	}
}

func TestRecoverRemovesAStage(t *testing.T) {
	p := place(t, true, true, true)
	if err := p.Recover(); err != nil {
		t.Fatal(err)
	}
	if now, staged := content(t, p.Path), content(t, p.Stage()); now != "old" || staged != "" {
		t.Errorf("the path has %q, staged is %q", now, staged)
	}
}
