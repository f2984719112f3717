package guests

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestFleetMemoryTravelsEncrypted: the other guests' too, and the target lets them go on
// over TLS.
func TestFleetMemoryTravelsEncrypted(t *testing.T) {
	need.Drill(t, "P6: no byte of the memory of a fleet's guest travels in the clear")
	ca := virthost.Authority(t, "memory")
	dir := t.TempDir()
	opt := Options{Shared: []string{dir}, MigrateURI: virthost.TLSURI, MigrateTLS: migration.TLSRequired}
	hosts := withFleets(t, virthost.NewTLS(t, 2, virthost.Authority(t, "libvirtd"), func(int) pki.CA { return ca }, nil), opt)
	from, to := hosts[0], hosts[1]
	s := small{name: "still", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "d"), false), "raw")}
	virthost.Mark(t, filepath.Join(dir, "d"))
	from.setUp("create", fleetRequest{XML: s.xml()})
	time.Sleep(time.Second) // the BIOS has read the marker
	if a, err := from.try("migrate", fleetRequest{UUID: s.uuid, Target: to.Addr}, 20*time.Second); err == nil ||
		a.Place != Here || !strings.Contains(err.Error(), migration.TLSRequired) {
		t.Errorf("to a target that can not: %s, %v", a.Place, err)
	}
	from.must(request{Op: "sniff", Text: virthost.Marker})
	a := from.call("migrate", fleetRequest{UUID: s.uuid, Target: to.Addr, Migrate: migrateRequest{TLS: true}})
	seen := from.must(request{Op: "sniffed"}).Seen
	t.Logf("%s, %+v", a.Place, seen)
	if a.Place != Left || seen.Clear > 0 || seen.Bytes < 1<<20 || seen.Missed > 0 {
		t.Errorf("%s, %+v", a.Place, seen)
	}
	if v := to.vms()[s.name]; v.State != VMRunning {
		t.Errorf("at the target: %+v", v)
	}
}
