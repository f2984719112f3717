package gather

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

// TestPoolsAreReported: with what decides how a reboot deals with them.
func TestPoolsAreReported(t *testing.T) {
	got := toldPools([]pools.Pool{{Name: "a", Kind: "ocfs2", Shared: true, Paths: 1, Active: true},
		{Name: "b", Kind: "dir", Active: true, Transient: true}})
	want := []inventory.Pool{{Name: "a", Kind: "ocfs2", Shared: true, Paths: 1, Active: true},
		{Name: "b", Kind: "dir", Active: true, Transient: true}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestRecordSaysThatGuestsAreLetGoOn: hosts that send some go by it, and of which generation
// the agent is. Both are told without a hypervisor, too.
func TestRecordSaysThatGuestsAreLetGoOn(t *testing.T) {
	f, err := guests.New(guests.Options{Socket: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	l := &Looker{Fleet: f, Host: "h1", InMaintenance: func() bool { return false }, Bundles: func() ([]string, error) { return nil, nil }}
	r, err := l.Look(t.Context())
	if err == nil || !r.Unobservable || !r.CarriesLive || r.Generation != job.Generation {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestWhatNetworksCarry: by the speeds of cards, where the kernel knows them.
func TestWhatNetworksCarry(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]int64{"1000\n": 110, "25000\n": 2750, "-1\n": 0, "fast\n": 0, "": 0} {
		file := filepath.Join(dir, "speed")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := carries(file); got != want {
			t.Errorf("%q: %d MiB/s, want %d", text, got, want)
		}
	}
	if got := carries(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("no file: %d", got)
	}
}
