package protected

import (
	"errors"
	"testing"
)

func TestNoteOutlivesItsDriver(t *testing.T) {
	dir := t.TempDir()
	n, err := openStartNote(dir, testUUID)
	if err != nil {
		t.Fatal(err)
	}
	if set, _ := n.get(); set {
		t.Error("set without a start")
	}
	if err := n.begin([]process{{PID: 7, Started: 77}}, n.generation()); err != nil {
		t.Fatal(err)
	}
	if err := n.begin(nil, n.generation()); !errors.Is(err, errStartOpen) {
		t.Errorf("a second start: %v", err)
	}
	later, err := openStartNote(dir, testUUID)
	if err != nil {
		t.Fatal(err)
	}
	if set, daemons := later.get(); !set || len(daemons) != 1 || daemons[0] != (process{PID: 7, Started: 77}) {
		t.Errorf("the next driver reads %v, %v", set, daemons)
	}
	if err := later.clear(); err != nil {
		t.Fatal(err)
	}
	last, err := openStartNote(dir, testUUID)
	if err != nil {
		t.Fatal(err)
	}
	if set, _ := last.get(); set {
		t.Error("still set after it was cleared")
	}
}

// TestKillBarsAStartUnderWay: else the guest could come up after Kill has proved
// it gone.
func TestKillBarsAStartUnderWay(t *testing.T) {
	n, err := openStartNote("", testUUID)
	if err != nil {
		t.Fatal(err)
	}
	gen := n.generation()
	n.killed()
	if err := n.begin(nil, gen); !errors.Is(err, errKilled) {
		t.Errorf("a start from before the kill: %v", err)
	}
	if err := n.begin(nil, n.generation()); err != nil {
		t.Errorf("a start after the kill: %v", err)
	}
}
