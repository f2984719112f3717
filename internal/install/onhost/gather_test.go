package onhost

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestWhoseProcessItIs: the source tool's daemons are found by their names, and this program, called by
// such a name, is none of them.
func TestWhoseProcessItIs(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	begin := func(path string) {
		t.Helper()
		cmd := exec.Command(path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		if _, err := in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it is cat by now
			t.Fatal(err)
		}
	}
	const theirs, ours, nobody = "hf-theirs", "hf-ours", "hf-nobody"
	for _, name := range []string{theirs, "holdfast"} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("holdfast", filepath.Join(dir, ours)); err != nil {
		t.Fatal(err)
	}
	begin(filepath.Join(dir, theirs))
	begin(filepath.Join(dir, theirs))
	begin(filepath.Join(dir, ours))
	if got := running(theirs, ours, nobody); !slices.Equal(got, []string{theirs}) {
		t.Errorf("%q run, want %s alone", got, theirs)
	}
}
