package loop

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestTwoRestoresAreTwoGenerations: nobody who has seen the one may take the other
// for it, nor a guest of the one for a guest of the other.
func TestTwoRestoresAreTwoGenerations(t *testing.T) {
	restored := func() uint64 {
		st := storetest.NewMem().NewClient("h")
		defer st.Close()
		g, err := NewGeneration(t.Context(), st, 1)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	one, other := restored(), restored()
	if one == other || one < 2 || other < 2 {
		t.Fatalf("generations %d and %d of two restores of one backup", one, other)
	}
	older, newer := min(one, other), max(one, other)
	if (cluster.Epoch{Gen: older, Seq: 9}) == (cluster.Epoch{Gen: newer, Seq: 9}) {
		t.Error("their epochs are equal")
	}
	for _, c := range []struct {
		running, store uint64
		seen           uint64
		want           error // nil: it is followed
	}{
		{0, older, 1, nil}, {older, newer, older, ErrRestored}, {0, newer, older, nil},
		{0, older, newer, errOlder}, {newer, older, newer, errOlder},
	} {
		a := New(Parts{Host: "h1", Seen: c.seen})
		a.s.gen, a.s.core.Gen = c.store, c.running
		_, err := a.generation()
		if err = errors.Join(err, a.fatal); !errors.Is(err, c.want) || c.want == nil && (err != nil || a.s.seen != c.store) {
			t.Errorf("store of %d, seen %d, running with %d: %v", c.store, c.seen, c.running, err)
		}
	}
}

// TestARestoredStoreHasNoWords: what operators said of hosts, and the hosts' records, are of the time of the backup. A word
// about a host without a record would count again, as no host has one.
func TestARestoredStoreHasNoWords(t *testing.T) {
	st := storetest.NewMem().NewClient("h")
	defer st.Close()
	was := cluster.Want{Run: true, Off: []cluster.Off{{Host: "h2", User: "anna"}}}
	if _, ok, err := st.Txn(t.Context(), nil, []store.Op{
		{Key: records.WantKey(cluster.MgmtVM), Value: records.Encode(was)},
		{Key: records.HostKey("h1"), Value: records.Encode(cluster.Host{Name: "h1"})},
	}); err != nil || !ok {
		t.Fatal(err, ok)
	}
	if _, err := NewGeneration(t.Context(), st, 1); err != nil {
		t.Fatal(err)
	}
	kv, found, err := st.Get(t.Context(), records.WantKey(cluster.MgmtVM))
	want, derr := records.Decode[cluster.Want](kv, !found)
	hosts, _, herr := st.List(t.Context(), records.KeyHosts)
	if err := errors.Join(err, derr, herr); err != nil || len(want.Off) != 0 || !want.Run || len(hosts) != 0 {
		t.Errorf("%v: %+v, %d hosts", err, want, len(hosts))
	}
}

// TestAGenerationThatWasGivenUp: the store of a lesser generation is followed when this host has
// given its own up for it, and for no other; an agent that runs with its own begins anew.
func TestAGenerationThatWasGivenUp(t *testing.T) {
	for _, c := range []struct {
		running, store uint64
		want           error
	}{
		{0, 5, nil}, {9, 5, ErrRestored}, {0, 4, errOlder}, {9, 4, errOlder},
	} {
		var noted uint64
		a := New(Parts{Host: "h1", Seen: 9, Settled: func(g uint64) bool { return g == 5 },
			Remember: func(g uint64) error { noted = g; return nil }})
		a.s.gen, a.s.core.Gen = c.store, c.running
		_, err := a.generation()
		if err = errors.Join(err, a.fatal); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("store of %d, running with %d: %v", c.store, c.running, err)
		}
		if follows := c.store == 5; follows != (noted == 5) || follows != (a.s.seen == 5) {
			t.Errorf("store of %d, running with %d: noted %d, seen %d", c.store, c.running, noted, a.s.seen)
		}
	}
}

// TestGenerationsGrow: whatever the clock says, and read by programs that count in
// doubles.
func TestGenerationsGrow(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, known := range []uint64{0, 1, 2, 1 << 40, 1 << 52, 1<<53 - 1, 1 << 60} {
		for _, at := range []time.Time{time.Unix(-5, 0), time.Unix(0, 0), now, now.AddDate(60, 0, 0)} {
			g, err := nextGeneration(known, at)
			if err != nil || g <= known {
				t.Errorf("after %d at %s: %d, %v", known, at, g, err)
			}
			if known <= 2 && g >= 1<<53 {
				t.Errorf("after %d at %s: %d is no exact double", known, at, g)
			}
		}
	}
	early, _ := nextGeneration(1, now)
	if late, _ := nextGeneration(1, now.Add(time.Minute)); late <= early {
		t.Errorf("%d a minute after %d", late, early)
	}
	if g, err := nextGeneration(1<<64-1, now); err == nil {
		t.Errorf("%d after the last", g)
	}
}

// TestOldGenerationFilesAreRead: a plain small number, as before.
func TestOldGenerationFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"2", "2\n"} {
		if err := os.WriteFile(filepath.Join(dir, generationFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := LoadGeneration(dir); g != 2 || err != nil {
			t.Errorf("%q: %d, %v", text, g, err)
		}
	}
	g, err := nextGeneration(2, time.Now())
	if err == nil {
		err = StoreGeneration(dir, g)
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadGeneration(dir); again != g || err != nil {
		t.Errorf("%d, wrote %d: %v", again, g, err)
	}
}

// TestAGenerationIsOnDiskWithItsName: in a directory that may be changed but not
// opened, the name can not be put on disk, and that is told.
func TestAGenerationIsOnDiskWithItsName(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o300); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(dir, 0o700); err != nil { // so that it can be removed by others than root
			t.Error(err)
		}
	})
	err := make(chan error)
	go func() {
		// Root may open everything: this thread gives up its rights, and ends with
		// the goroutine, as it is never unlocked.
		runtime.LockOSThread()
		none := [2]unix.CapUserData{}
		if e := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); e != nil {
			err <- e
			return
		}
		err <- StoreGeneration(dir, 7)
	}()
	if err := <-err; !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), dir+" on disk") {
		t.Errorf("%v: want that the names in %s are not on disk", err, dir)
	}
}

// TestAStoreOfBeforeTheRestoreIsNotFollowed: it has no generation, and answers in
// place of the restored one. When that one answers again, a new agent begins: what was read
// of the other store may have later revisions.
func TestAStoreOfBeforeTheRestoreIsNotFollowed(t *testing.T) {
	a := New(Parts{Host: "h1", Clock: func() cluster.Instant { return 1 }, Log: slog.New(slog.DiscardHandler)})
	g, err := nextGeneration(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	restored := []store.KV{{Key: records.KeyGeneration, Value: records.Encode(g), ModRev: 9}}
	a.relist(restored)
	if a.s.storeErr != nil || a.fatal != nil || a.s.core.Gen != g {
		t.Fatalf("generation %d of %d: %v, %v", a.s.core.Gen, g, a.s.storeErr, a.fatal)
	}
	for range 2 {
		if a.relist(nil); !errors.Is(a.s.storeErr, errOlder) || a.s.core.Synced || a.fatal != nil {
			t.Errorf("it follows a store without a generation: %v, %v", a.s.storeErr, a.fatal)
		}
	}
	if a.relist(restored); !errors.Is(a.fatal, ErrRestored) {
		t.Errorf("it goes on with what it has read of both stores: %v", a.fatal)
	}
}
