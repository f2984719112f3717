package drbd

import (
	"strings"
	"testing"
)

// What the module 8.4.11 writes to /proc/drbd.
const proc84 = `version: 8.4.11 (api:1/proto:86-101)
srcversion: 211FB288A383ED945B83420
 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
    ns:4 nr:0 dw:4 dr:1025 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
 1: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C s-----
    ns:4 nr:0 dw:4 dr:1025 al:1 bm:0 lo:0 pe:0 ua:0 ap:1 ep:1 wo:f oos:4
 2: cs:StandAlone ro:Secondary/Unknown ds:Consistent/DUnknown   r-----
    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:d oos:65496

 5: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----
    ns:0 nr:25368 dw:25368 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:40128
	[======>.............] sync'ed: 38.9% (40128/65496)K
	finish: 0:00:01 speed: 25,368 (25,368) want: 33,280 K/sec
 6: cs:Unconfigured
`

func TestAGlance(t *testing.T) {
	for minor, want := range map[int]State{
		0: {true, "Primary", "no", "UpToDate", "Connected", "Secondary", "Established", "UpToDate", 0, "0", false},
		1: {true, "Primary", "held", "UpToDate", "Connecting", "Unknown", "Off", "DUnknown", 4, "1", false},
		2: {true, "Secondary", "no", "Consistent", "StandAlone", "Unknown", "Off", "DUnknown", 65496, "2", false},
		5: {true, "Secondary", "no", "Inconsistent", "Connected", "Primary", "SyncTarget", "UpToDate", 40128, "5", false},
	} {
		if st, found, err := glance(proc84, minor); st != want || !found || err != nil {
			t.Errorf("minor %d: %+v, %t, %v", minor, st, found, err)
		}
	}
	for _, minor := range []int{3, 6, 25368} {
		if st, found, err := glance(proc84, minor); found || err != nil {
			t.Errorf("minor %d is there: %+v, %v", minor, st, err)
		}
	}
	for _, bad := range [][2]string{{"Connected ro", "Connectad ro"}, {"ro:Primary/Secondary", "ro:Primary"},
		{"C r-----", "C x-----"}, {"C r-----", "C"}, {"oos:0", "oos:-"}} {
		if st, found, err := glance(strings.Replace(proc84, bad[0], bad[1], 1), 0); found || err == nil {
			t.Errorf("%q is understood: %+v", bad[1], st)
		}
	}
}

func FuzzGlance(f *testing.F) {
	f.Add(proc84, 0)
	f.Add(" 0: cs:Unconfigured", 0)
	f.Fuzz(func(t *testing.T, text string, minor int) {
		st, found, err := glance(text, minor)
		if found && (err != nil || !st.Up || st.Role == "" || st.Disk == "" || st.Connection == "") {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
