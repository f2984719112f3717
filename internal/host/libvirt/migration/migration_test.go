package migration

import (
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
)

func TestNamesOfJobs(t *testing.T) {
	for kind, want := range map[golibvirt.DomainJobOperation]string{
		golibvirt.DomainJobOperationStrUnknown: "a job", golibvirt.DomainJobOperationStrStart: "start",
		golibvirt.DomainJobOperationStrSave:    "save",
		golibvirt.DomainJobOperationStrRestore: "restore", golibvirt.DomainJobOperationStrMigrationIn: "migration",
		golibvirt.DomainJobOperationStrMigrationOut: "migration", golibvirt.DomainJobOperationStrSnapshot: "snapshot",
		golibvirt.DomainJobOperationStrSnapshotRevert: "snapshot", golibvirt.DomainJobOperationStrDump: "dump",
		golibvirt.DomainJobOperationStrBackup: "backup", golibvirt.DomainJobOperationStrSnapshotDelete: "snapshot",
	} {
		if got := (Operation{Active: true, Kind: kind}).String(); got != want {
			t.Errorf("job %d: %q, want %q", kind, got, want)
		}
	}
	if got := (Operation{}).String(); got != "" {
		t.Errorf("no job: %q", got)
	}
}

func TestAddressesOfTargets(t *testing.T) {
	settings, err := New("", "", libvirt.Certificates{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ target, data, uri, host string }{
		{"10.0.0.2", "", "qemu+tls://10.0.0.2/system", "10.0.0.2"},
		{"10.0.0.2:99", "", "qemu+tls://10.0.0.2:99/system", "10.0.0.2"},
		{"h2", "10.1.0.2", "qemu+tls://h2/system", "10.1.0.2"},
		{"h2:99", "", "qemu+tls://h2:99/system", "h2"},
		{"fd00::2", "", "qemu+tls://[fd00::2]/system", "[fd00::2]"},
		{"[fd00::2]:99", "fd01::2", "qemu+tls://[fd00::2]:99/system", "[fd01::2]"},
		{"[fd00::2]:99", "", "qemu+tls://[fd00::2]:99/system", "[fd00::2]"},
	} {
		if to := settings.To(c.target, c.data); to.URI != c.uri || to.Data != c.host {
			t.Errorf("%s, %s: %s and %s, want %s and %s", c.target, c.data, to.URI, to.Data, c.uri, c.host)
		}
	}
	for _, bad := range []string{"qemu:///system", "%s%s"} {
		if _, err := New(bad, "", libvirt.Certificates{}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
