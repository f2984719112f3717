package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/try"
)

// victim works in a bundle cache and kills itself: DIR FILE WORK STAGE.
func victim(args []string) error {
	dir, work, stage := args[0], args[2], args[3]
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	d := at(dir)
	reach := func(now string) {
		if now == stage {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	d.hook = reach
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	halfway := &tripping{r: bytes.NewReader(data), left: len(data) / 2, trip: func() { reach("halfway") }}
	switch work {
	case "put":
		_, _, err = d.Put(ctx, halfway, unsigned)
	case "fetch":
		err = d.Fetch(ctx, sum(data), func(context.Context, int64) (io.ReadCloser, int64, error) { return io.NopCloser(halfway), 0, nil }, nil)
	case "unpack":
		_, err = d.unpack(ctx, sum(data), 0, func(done, total int64) {
			if done > total*3/4 {
				reach("halfway")
			}
		})
	case "remove":
		err = d.Remove(sum(data))
	default:
		err = errors.New("no such work")
	}
	return err
}

// tripping calls trip once so many bytes are read.
type tripping struct {
	r    io.Reader
	left int
	trip func()
}

func (t *tripping) Read(p []byte) (int, error) {
	if t.left <= 0 {
		t.trip()
	}
	n, err := t.r.Read(p[:min(len(p), 10_000)])
	t.left -= n
	return n, err
}

// TestKilledInTheMiddle kills a process at each point, and looks at what the next
// one finds.
func TestKilledInTheMiddle(t *testing.T) {
	data := native(t, 1<<20, bundle.None, nil)
	sha := sum(data)
	file := filepath.Join(t.TempDir(), "bundle")
	try.Must(t, os.WriteFile(file, data, 0o600))
	whole := []string{"SHA.hfb", "SHA.json"}
	for _, c := range []struct {
		work, stage string
		left        string   // part of a name that the killed process leaves
		want        []string // that the next process finds
	}{
		{"put", "halfway", putting, nil},
		{"put", "received", putting, nil},
		{"put", "noted", noteSuffix, nil},
		{"put", "named", fileSuffix, whole},
		{"fetch", "halfway", partSuffix, []string{"SHA.part"}},
		{"fetch", "fetched", partSuffix, []string{"SHA.part"}},
		{"fetch", "noted", partSuffix, []string{"SHA.part"}},
		{"fetch", "named", fileSuffix, whole},
		{"unpack", "halfway", unpackDir, whole},
		{"remove", "moved", going, whole},
		{"remove", "moved" + fileSuffix, going, nil},
		{"remove", "moved" + noteSuffix, going, nil},
		{"remove", "away", going, nil},
	} {
		t.Run(c.work+" "+c.stage, func(t *testing.T) {
			t.Parallel()
			d := fresh(t)
			if c.work == "unpack" || c.work == "remove" {
				_, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned)
				try.Must(t, err)
			}
			if c.work == "remove" {
				_, err := d.Unpack(context.Background(), sha, 0)
				try.Must(t, err)
			}
			kill(t, d.Dir, file, c.work, c.stage)
			left, err := os.ReadDir(d.Dir)
			try.Must(t, err)
			if !bytes.Contains([]byte(names(left)), []byte(c.left)) {
				t.Fatalf("the process has left %s, want something with %s", names(left), c.left)
			}
			d = at(d.Dir)
			if _, err := d.Have(); err != nil {
				t.Error(err)
			}
			holds(t, d, sha, c.want...)
			// Everything works as if nothing had been.
			b := &breaking{data: data}
			try.Must(t, d.Fetch(context.Background(), sha, b.open, nil))
			if c.stage == "halfway" && c.work == "fetch" && (len(b.asked) != 1 || b.asked[0] < int64(len(data))/2) {
				t.Errorf("the fetch did not go on: asked at %v", b.asked)
			}
			has(t, d, sha, data)
			_, err = d.Unpack(context.Background(), sha, 0)
			try.Must(t, err)
			holds(t, d, sha, "SHA", "SHA.hfb", "SHA.json")
			try.Must(t, d.Remove(sha))
			holds(t, d, sha)
		})
	}
}

func names(entries []os.DirEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// kill runs a victim, which must end by its own hand.
func kill(t *testing.T, dir, file, work, stage string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "victim", dir, file, work, stage)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process did not come to %s of %s: %v\n%s", stage, work, err, out)
	}
}

// TestSweepLeavesOthersAlone: only what this package has left goes.
func TestSweepLeavesOthersAlone(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	d, sha := with(t, data)
	s, err := d.Unpack(context.Background(), sha, 0)
	try.Must(t, err)
	other := sum([]byte("other"))
	old := sum([]byte("old"))
	stay := []string{"lost+found", ".put-", ".put-12x", ".gone", "notes.json", ".holdfast-unpack-other-12",
		"." + other + ".json", other + fileSuffix, other + partSuffix, "x-12", ".hidden.12"}
	go_ := []string{".put-12", ".gone-12", ".holdfast-unpack-" + other + "-12/sub", "." + other + ".json.12",
		sha + partSuffix, old + partSuffix, old + noteSuffix}
	for _, n := range append(stay, go_...) {
		p := filepath.Join(d.Dir, n)
		if strings.HasSuffix(n, "/sub") {
			try.Must(t, os.MkdirAll(p, 0o700))
		} else {
			try.Must(t, os.WriteFile(p, []byte("x"), 0o600))
		}
	}
	week := time.Now().Add(-partFor - time.Hour)
	try.Must(t, os.Chtimes(filepath.Join(d.Dir, old+partSuffix), week, week))
	d = at(d.Dir)
	has(t, d, sha, data)
	if _, err := d.Find(sha); err != nil || !there(s.Dir) {
		t.Errorf("the unpacked bundle: %v", err)
	}
	for _, n := range stay {
		if !there(filepath.Join(d.Dir, n)) {
			t.Errorf("%s is gone", n)
		}
	}
	for _, n := range go_ {
		if there(filepath.Join(d.Dir, strings.TrimSuffix(n, "/sub"))) {
			t.Errorf("%s is still there", n)
		}
	}
}
