package guests

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/testbed/virthost"
)

// protectedUUID is the management VM's.
const protectedUUID = "98000000-0000-4000-8000-00000000c0de"

// escaped writes a text as XML has it.
func escaped(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGuestsOwnWords: whoever makes a guest chooses its name, title, description and MAC. Whatever of that libvirt takes
// hides no guest.
func TestGuestsOwnWords(t *testing.T) {
	shared := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{shared}, Protected: []string{protectedUUID}})[0]
	odd := func(n int, name string) small {
		mac := []string{"52:54:00:98:07:01", "00:00:00:00:00:00", "52:54:00:00:00:01"}[n%3] // the management VM's, none, and the same of several
		title := strings.NewReplacer("\r", "", "\n", "").Replace(name)
		return small{
			name: escaped(t, name), uuid: smallUUID(n),
			extra:   "<title>" + escaped(t, title) + "</title><description>" + escaped(t, name) + "</description>",
			devices: `<interface type='bridge'><mac address='` + mac + `'/><source bridge='br0'/></interface>`,
		}
	}
	names := []string{
		"tab\tx", "cr\rx", "rtl\u202ex", "zero\u200bwidth", "%s%n%d", "'; reboot #", `"q" & <b>`, "]]>", "$(reboot)",
		" lead", "trail ", " ", "--all", "3",
		protectedUUID, smallUUID(1), "mnvm,x", "holdfast:mnvm:9.9", strings.Repeat("y", 200), "*", "a,b=c", "{{.}}", "测试",
	}
	for i, name := range names {
		f.setUp("define", fleetRequest{XML: odd(i+1, name).xml()})
	}
	for i, name := range []string{"new\nline", "../up", "a/b", "."} { // our paths and lines count on it
		if err := f.TrySetUp("define", virthost.Setup{XML: odd(100+i, name).xml()}); err == nil {
			t.Errorf("libvirt takes the name %q", name)
		}
	}
	// libvirtd writes each quote as six characters, and can not send what comes of it.
	huge := small{name: "huge", uuid: smallUUID(300), extra: "<description>@@</description>"}
	f.setUp("define", fleetRequest{XML: huge.xml(), Number: 1_500_000})
	comma := smallUUID(len(names) - 6)
	f.setUp("start", fleetRequest{UUID: comma})
	for _, v := range f.must(request{Op: "list"}).Fleet.VMs {
		if v.UUID == huge.uuid {
			if !strings.Contains(v.Busy, "libvirtd does not tell about it") {
				t.Errorf("a guest whose definition is too long: %+v", v)
			}
			continue
		}
		n := 0
		if _, err := fmt.Sscanf(v.UUID, "98000000-0000-4000-8000-%012d", &n); err != nil || n < 1 || n > len(names) || v.Name != names[n-1] {
			t.Errorf("%s is listed as %q", v.UUID, v.Name)
			continue
		}
		want, at := VMOff, Off
		if v.UUID == comma {
			want, at = VMRunning, Here
		}
		if v.State != want || v.Busy != "" || v.Fixed != nil || v.Protected || v.MemoryMiB != 64 {
			t.Errorf("%+v", v)
		}
		if w := f.call("where", fleetRequest{UUID: v.UUID, Name: v.Name}).Where; w.Place != at {
			t.Errorf("%q is %+v", v.Name, w)
		}
		names[n-1] = ""
	}
	if left := strings.Join(names, ""); left != "" {
		t.Errorf("not listed: %q", left)
	}

	if got := (&Fleet{opt: Options{LogDir: shared}}).log("../" + filepath.Base(shared) + "/x"); strings.HasPrefix(got, shared) {
		t.Errorf("the log of a name that libvirt does not take is %s", got)
	}
}
