package guests

import (
	"path/filepath"
	"testing"

	"holdfast/testbed/need"
)

// TestFleetListsWhatArrives: a guest that comes is told from one that leaves, and
// the list does not wait for it.
func TestFleetListsWhatArrives(t *testing.T) {
	need.Drill(t, "a guest that comes is told from one that leaves, and a list of guests does not wait for it")
	dir := t.TempDir()
	hosts := newFleets(t, 2, Options{Shared: []string{dir}})
	h, to := hosts[0], hosts[1]
	s := small{name: "comes", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "b"), true), "raw")}
	h.setUp("define", fleetRequest{XML: s.xml()})
	h.setUp("start", fleetRequest{UUID: s.uuid})
	if v := h.vms()[s.name]; v.Arriving || v.Job != "" {
		t.Errorf("before: %+v", v)
	}
	r := slow(s, to)
	going := h.begin(r)
	h.wait("leaving", func() bool { return h.where(s).Place == Leaving })
	to.wait("arriving", func() bool { return to.where(s).Place == Arriving })
	if v := to.vms()[s.name]; !v.Arriving || v.Job != "migration" || v.Busy != "migration" || v.State == VMOff {
		t.Errorf("at the target: %+v", v)
	}
	if v := h.vms()[s.name]; v.Arriving || v.Job != "migration" {
		t.Errorf("at the source: %+v", v)
	}
	h.setUp("suspend", fleetRequest{UUID: s.uuid}) // it changes nothing any more, so the migration ends
	if a, err := h.end(going); err != nil {
		t.Fatalf("%+v: %v", a.Fleet, err)
	}
	to.wait("arrived", func() bool { v := to.vms()[s.name]; return !v.Arriving && v.Job == "" && v.State != VMOff })
}
