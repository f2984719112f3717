package guests

import (
	"path/filepath"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/need"
)

// TestWhereAScreenIs: the live definition of a guest tells where its VNC server listens, or what is to be done about it.
func TestWhereAScreenIs(t *testing.T) {
	for graphics, want := range map[string]string{
		`<graphics type='vnc' port='5900' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>`: "tcp 127.0.0.1:5900",
		`<graphics type='vnc' port='5901'><listen type='address' address='0.0.0.0'/></graphics>`:                      "tcp 127.0.0.1:5901",
		`<graphics type='vnc' port='5901' listen='::'/>`:                                                              "tcp [::1]:5901",
		`<graphics type='vnc' port='5902' listen='192.0.2.7'/>`:                                                       "tcp 192.0.2.7:5902",
		`<graphics type='vnc' port='5903'><listen type='network' network='n' address='192.0.2.8'/></graphics>`:        "tcp 192.0.2.8:5903",
		`<graphics type='vnc'><listen type='socket' socket='/run/v.sock'/></graphics>`:                                "unix /run/v.sock",
		`<graphics type='vnc' socket='/run/old.sock'/>`:                                                               "unix /run/old.sock",
		`<graphics type='spice' port='5900'/><graphics type='vnc' port='5904'/>`:                                      "tcp 127.0.0.1:5904",

		`<graphics type='vnc'><listen type='none'/></graphics>`: "g: the VNC server of g listens nowhere: only libvirt itself reaches it",
		`<graphics type='vnc' port='-1' autoport='yes'/>`:       "g: the VNC server of g listens nowhere: only libvirt itself reaches it",
		`<graphics type='spice' port='5900'/>`:                  "g: g has a screen of SPICE only, and this page shows VNC",
		`<graphics type='sdl'/>`:                                "g: g has a screen of another kind only, and this page shows VNC",
		``:                                                      "g: g has no screen",
	} {
		var def libvirtxml.Domain
		if err := def.Unmarshal(`<domain type='qemu'><name>g</name><devices>` + graphics + `</devices></domain>`); err != nil {
			t.Fatal(err)
		}
		network, at, err := screenAt("g", &def)
		got := network + " " + at
		if err != nil {
			got = "g: " + err.Error()
			e := err.(*fail.Error)
			if e.Kind != fail.Refused || !strings.Contains(e.Remedy, "<graphics type='vnc' listen='127.0.0.1'/>") {
				t.Errorf("%s: %+v", graphics, e)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", graphics, got, want)
		}
	}
	if _, _, err := screenAt("g", &libvirtxml.Domain{}); err == nil {
		t.Error("a guest without devices has a screen")
	}
}

// TestScreen: QEMU's VNC server is reached wherever it listens on the host; what is not shown is told.
func TestScreen(t *testing.T) {
	need.Real(t)
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Protected: []string{smallUUID(2)}})[0]
	f.IP("link", "set", "lo", "up")
	video := `<video><model type='vga'/></video>`
	cases := []struct {
		graphics, want string
	}{
		{`<graphics type='vnc'><listen type='socket' socket='` + filepath.Join(dir, "v.sock") + `'/></graphics>` + video, "x "},
		// a protected one
		{`<graphics type='vnc' port='-1' autoport='yes' listen='` + f.Addr + `' passwd='s3cret-7'/>` + video, "wants a password"},
		{`<graphics type='spice' port='-1' autoport='yes' listen='127.0.0.1'/>` + video, "SPICE only"},
	}
	for i, c := range cases {
		g := small{name: "g" + string(rune('a'+i)), uuid: smallUUID(i + 1), devices: c.graphics}
		f.setUp("create", fleetRequest{XML: g.xml()})
		r, _ := f.do(request{Op: "screen", Fleet: fleetRequest{UUID: g.uuid}})
		if got := r.Text + " " + r.Err; !strings.Contains(got, c.want) || c.want == "x " && (r.Err != "" || !strings.Contains(r.Text, g.name)) {
			t.Errorf("%s: %q, want %q", c.graphics, got, c.want)
		}
		f.setUp("destroy", fleetRequest{UUID: g.uuid})
	}
	off := small{name: "off", uuid: smallUUID(20), devices: cases[0].graphics}
	f.setUp("define", fleetRequest{XML: off.xml()})
	for uuid, want := range map[string]string{
		off.uuid: "off is shut off", smallUUID(30): "the guest is not on this host now", "x": "want the form",
	} {
		if r, _ := f.do(request{Op: "screen", Fleet: fleetRequest{UUID: uuid}}); !strings.Contains(r.Err, want) {
			t.Errorf("%s: %q, want %q", uuid, r.Err, want)
		}
	}
}
