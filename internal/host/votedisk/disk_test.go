package votedisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is a contender, too: PATH NODE GENERATION.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "contend" {
		os.Exit(contend(os.Args[2], os.Args[3], os.Args[4]))
	}
	os.Exit(m.Run())
}

func contend(path, node, gen string) int {
	n, err := strconv.Atoi(node)
	g, gerr := strconv.ParseUint(gen, 10, 64)
	won, cerr := New(path, "p", n).Tiebreak(context.Background(), g)
	if err := errors.Join(err, gerr, cerr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(won)
	return 0
}

func formatted(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "votes")
	err := New(path, "p", 0).Prepare(t.Context())
	if errors.Is(err, unix.EINVAL) {
		t.Skip("skipped: tmpfs of this kernel knows no O_DIRECT (Linux 6.6 does)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask contests and gives up the test when the disk does not answer.
func ask(t *testing.T, d *Disk, gen uint64) bool {
	t.Helper()
	won, err := d.Tiebreak(t.Context(), gen)
	if err != nil {
		t.Fatal(err)
	}
	return won
}

func TestTheFirstWinsForEver(t *testing.T) {
	path := formatted(t)
	a, b := New(path, "p", 0), New(path, "p", 1)
	for gen := uint64(5); gen < 9; gen++ {
		first, second := a, b
		if gen%2 == 0 {
			first, second = b, a
		}
		for range 3 {
			if !ask(t, first, gen) || ask(t, second, gen) {
				t.Fatalf("generation %d: the first did not win, or the second did", gen)
			}
		}
	}
	if ask(t, a, 5) {
		t.Error("a generation that is over was won again")
	}
	if !ask(t, a, 20) || ask(t, a, 19) {
		t.Error("a generation before the last one of this node was won")
	}
}

// TestTwoProcessesContend kills one of two processes in the middle of a contest, at
// random; who asks again hears what was decided.
func TestTwoProcessesContend(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := formatted(t)
	for gen := uint64(1); gen <= 12; gen++ {
		var said [2]string
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				ctx := t.Context()
				if gen%3 == uint64(i) {
					short, cancel := context.WithTimeout(ctx, rand.N(100*time.Millisecond))
					defer cancel()
					ctx = short
				}
				cmd := exec.CommandContext(ctx, exe, "contend", path, strconv.Itoa(i), strconv.FormatUint(gen, 10))
				cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
				out, err := cmd.Output()
				if err != nil && gen%3 != uint64(i) {
					t.Errorf("node %d: %v", i, err)
				}
				said[i] = strings.TrimSpace(string(out))
			})
		}
		all.Wait()
		a, b := ask(t, New(path, "p", 0), gen), ask(t, New(path, "p", 1), gen)
		if a == b {
			t.Fatalf("generation %d: winners: %v and %v", gen, a, b)
		}
		for i, is := range []bool{a, b} {
			if said[i] != "" && said[i] != strconv.FormatBool(is) {
				t.Fatalf("generation %d: node %d heard %s, later %v", gen, i, said[i], is)
			}
		}
	}
}

// TestTornWrites ends contests by a write of which a part reaches the disk.
func TestTornWrites(t *testing.T) {
	contests := uint64(60)
	if testing.Short() {
		contests = 10
	}
	path := formatted(t)
	crash := errors.New("crashed")
	for seed := range contests {
		r := rand.New(rand.NewPCG(seed, 1))
		gen, decided := seed+1, -1
		for range 8 {
			node, left := r.IntN(2), r.IntN(4)
			d := New(path, "p", node)
			d.torn = func(b []byte) []byte {
				if left--; left >= 0 {
					return b
				}
				panic(crash)
			}
			won, torn := tear(t, d, gen, r)
			switch {
			case torn:
			case decided >= 0 && won != (decided == node):
				t.Fatalf("generation %d: node %d is told %v, but %d has won", gen, node, won, decided)
			case won:
				decided = node
			default:
				decided = 1 - node
			}
		}
		if a, b := ask(t, New(path, "p", 0), gen), ask(t, New(path, "p", 1), gen); a == b || decided >= 0 && a != (decided == 0) {
			t.Fatalf("generation %d: winners %v and %v, before %d", gen, a, b, decided)
		}
	}
}

// tear contests until a write fails; a part of it is on disk then.
func tear(t *testing.T, d *Disk, gen uint64, r *rand.Rand) (won, torn bool) {
	f, err := d.open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var begun []byte
	whole := d.torn
	d.torn = func(b []byte) []byte {
		begun = b
		return whole(b)
	}
	defer func() {
		if recover() == nil {
			return
		}
		torn = true
		mine, err := d.block(f, d.me)
		if err != nil {
			t.Fatal(err)
		}
		at := sectorOf(d.me, mine.Seq+1)
		old, err := get(f, at)
		if err != nil {
			t.Fatal(err)
		}
		n := r.IntN(len(begun))
		if err := put(f, at, append(begun[:n:n], old[n:]...)); err != nil {
			t.Fatal(err)
		}
	}()
	won, err = d.contest(t.Context(), f, gen)
	if err != nil {
		t.Fatal(err)
	}
	return won, false
}

func TestADiskThatCanNotDecide(t *testing.T) {
	path := formatted(t)
	if _, err := New(path, "other", 0).Tiebreak(t.Context(), 1); !errors.Is(err, ErrForeign) {
		t.Errorf("of another pair: %v", err)
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte(magic), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(short, "p", 0).Tiebreak(t.Context(), 1); !errors.Is(err, ErrForeign) {
		t.Errorf("not formatted: %v", err)
	}
	d := New(path, "p", 0)
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), sector*3); err != nil {
		t.Fatal(err)
	}
	if !ask(t, d, 1) {
		t.Error("one bad sector of the peer's two: not won")
	}
	if _, err := f.WriteAt([]byte("x"), sector*4); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tiebreak(t.Context(), 2); !errors.Is(err, ErrDamaged) {
		t.Errorf("both sectors bad: %v", err)
	}
	if err := d.Check(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("both sectors bad: %v", err)
	}
}

func TestADiskThatHangs(t *testing.T) {
	d := New(formatted(t), "p", 0)
	ready, answer := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-ready; cancel() }()
	if err := d.use(ctx, func() error { close(ready); <-answer; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("it hangs: %v", err)
	}
	if _, err := d.Tiebreak(t.Context(), 1); !errors.Is(err, ErrBusy) {
		t.Errorf("it hangs still: %v", err)
	}
	close(answer)
}

// TestPrepare: an empty disk is made the pair's, its own disk keeps its votes, and what holds
// anything else is left as it is.
func TestPrepare(t *testing.T) {
	path := formatted(t)
	if !ask(t, New(path, "p", 1), 7) {
		t.Fatal("the only one that asks does not win")
	}
	if err := New(path, "p", 0).Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if ask(t, New(path, "p", 0), 7) {
		t.Error("the vote is gone")
	}
	dir := t.TempDir()
	for name, held := range map[string][]byte{
		"text":          []byte("what somebody needs"),
		"of another":    slices.Concat([]byte(magic+"other"), make([]byte, sectors*sector)),
		"a file system": slices.Concat(make([]byte, 1080), []byte{0x53, 0xEF}, make([]byte, sectors*sector)),
		"zeros, short":  make([]byte, 100),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, held, 0o600); err != nil {
			t.Fatal(err)
		}
		err := New(file, "p", 0).Prepare(t.Context())
		if now, rerr := os.ReadFile(file); !errors.Is(err, ErrForeign) || rerr != nil || !bytes.Equal(now, held) {
			t.Errorf("%s: %v, %v; it has changed: %v", name, err, rerr, !bytes.Equal(now, held))
		}
	}
	zeros := filepath.Join(dir, "zeros") // a new device, or a disk whose preparation was interrupted
	if err := os.WriteFile(zeros, make([]byte, sectors*sector), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(zeros, "p", 0).Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if err := New(zeros, "p", 1).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := New("/dev/no-such-disk", "p", 0).Prepare(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
}
