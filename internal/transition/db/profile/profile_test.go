package profile

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/transition/db/mapping"
)

func TestTheTextIsAMappingByItself(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names() {
		m, text, err := Mapping(name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := mapping.ParseMapping(name+".yaml", text)
		if err != nil {
			t.Fatalf("%s as a file: %v", name, err)
		}
		if !reflect.DeepEqual(m, again) || m.Name != name {
			t.Errorf("%s: as a file it is another mapping", name)
		}
		if seen[string(text)] || bytes.Contains(text, []byte("@{")) {
			t.Errorf("%s: the text is another one's, or has a word left", name)
		}
		seen[string(text)] = true
		if len(m.Tables) < 40 || len(m.Checks) < 15 || len(m.Advice) < 15 || len(m.IDs) < 10 {
			t.Errorf("%s: %d tables, %d checks, %d of advice, %d kinds", name, len(m.Tables), len(m.Checks), len(m.Advice), len(m.IDs))
		}
	}
}

func TestReleasesDiffer(t *testing.T) {
	stein, _, err := Mapping("openstack-liberty-stein")
	if err != nil {
		t.Fatal(err)
	}
	zed, _, err := Mapping("openstack-liberty-zed")
	if err != nil {
		t.Fatal(err)
	}
	value := func(m *mapping.Mapping, table, column string) string {
		for _, x := range m.Tables {
			for _, c := range x.Columns {
				if x.Target == table && c.To == column {
					return c.Value
				}
			}
		}
		t.Errorf("%s: %s has no column %s", m.Name, table, column)
		return ""
	}
	for _, c := range []struct{ table, column, stein, zed string }{
		{"nova.services", "version", "35", "61"},
		{"glance.image_locations", "meta_data", `"backend"`, `"store"`},
		{"cinder.volumes", "volume_type_id", "mapped('volume_type', volume_type_id)", "default_volume_type"},
	} {
		if got := value(stein, c.table, c.column); !strings.Contains(got, c.stein) {
			t.Errorf("stein: %s.%s is %s, want %s", c.table, c.column, got, c.stein)
		}
		if got := value(zed, c.table, c.column); !strings.Contains(got, c.zed) {
			t.Errorf("zed: %s.%s is %s, want %s", c.table, c.column, got, c.zed)
		}
	}
	if len(zed.Tables) != len(stein.Tables) || len(zed.Checks) != len(stein.Checks)+2 {
		t.Errorf("zed has %d tables and %d checks, stein %d and %d", len(zed.Tables), len(zed.Checks), len(stein.Tables), len(stein.Checks))
	}
}

func TestUnknownNames(t *testing.T) {
	for _, name := range []string{"", "openstack", "openstack-liberty-zed ", "../openstack"} {
		if _, _, err := Mapping(name); err == nil || !strings.Contains(err.Error(), "openstack-liberty-stein, openstack-liberty-zed") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
