package mapping

import (
	"strings"
	"testing"
)

// TestTablesThatAreIgnored can be none that the mapping reads.
func TestTablesThatAreIgnored(t *testing.T) {
	for list, want := range map[string]string{
		"[nova.shadow_*, nova.a, 'nova.*$x']": "",
		"[shadow_*]":                          `ignore[0]: value "shadow_*": want DATABASE.TABLE, with * for any letters in TABLE`,
		"['*.a']":                             `ignore[0]: value "*.a": want DATABASE.TABLE`,
		"['nova.a[b]']":                       `want DATABASE.TABLE`,
		"[nova.a, nova.instances]":            `ignore[1]: value "nova.instances": want no table that the mapping reads: nova.instances`,
		"['nova.*_types']":                    `ignore[0]: value "nova.*_types": want no table that the mapping reads: nova.instance_types`,
		"[nova.bdm]":                          `want no table that the mapping reads: nova.bdm`,
		"[nova.instance_extra]":               `want no table that the mapping reads: nova.instance_extra`,
	} {
		_, err := ParseMapping("m.yaml", []byte(example+"ignore: "+list+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
	m := parse(t, example+"ignore: [nova.shadow_*]\n")
	if err := m.Skip([]string{"api.flavors"}); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]bool{
		"nova.instances": true, "nova.bdm": true, "nova.shadow_instances": true, "nova.instance_types": true, // the last is skipped
		"nova.shadows": false, "nova.Shadow_a": false, "glance.shadow_a": false, "nova.x_shadow_a": false, "glance.instances": false,
	} {
		if got := m.Names(table); got != want {
			t.Errorf("%s: %v", table, got)
		}
	}
}
