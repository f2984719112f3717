package drbd

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

// What drbdsetup says, of the modules 8.4.11 and 9.2.16 as measured.
const (
	connected84 = `exists resource name:r0 role:Primary suspended:no write-ordering:flush
exists connection name:r0 peer-node-id:0 conn-name:peer connection:Connected role:Secondary congested:no
exists device name:r0 volume:0 minor:0 disk:UpToDate size:65496 read:0 written:0 blocked:no
exists peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate resync-suspended:no received:0 sent:0 out-of-sync:0 pending:0 unacked:0
exists -
`
	frozen84 = connected84 + `change connection name:r0 peer-node-id:0 conn-name:peer connection:NetworkFailure role:Unknown
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown
2026-11-20T06:34:49.697421+00:00 change resource name:r0 suspended:fencing
call helper name:r0 peer-node-id:0 conn-name:peer helper:fence-peer
response helper name:r0 peer-node-id:0 conn-name:peer helper:fence-peer status:1
change connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting
`
	split84 = connected84 + `call helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:initial-split-brain
change connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone
destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0
destroy connection name:r0 peer-node-id:0 conn-name:peer
`
	// The module 9.2.16 as measured, by drbd-utils 9.22.
	connected9 = `exists resource name:r0 role:Secondary suspended:no force-io-failures:no write-ordering:flush may_promote:yes promotion_score:10102
exists connection name:r0 peer-node-id:0 conn-name:n1 connection:Connected role:Secondary congested:no ap-in-flight:0 rs-in-flight:0
exists device name:r0 volume:0 minor:0 backing_dev:/dev/vda disk:UpToDate client:no quorum:yes size:65496 read:0 written:0 al-writes:0 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists peer-device name:r0 peer-node-id:0 conn-name:n1 volume:0 replication:Established peer-disk:UpToDate peer-client:no resync-suspended:no received:0 sent:0 out-of-sync:0 pending:0 unacked:0
exists path name:r0 peer-node-id:0 conn-name:n1 local:ipv4:10.97.1.2:7789 peer:ipv4:10.97.1.1:7789 established:yes
exists -
`
	frozen9 = `exists resource name:r0 role:Primary suspended:fencing force-io-failures:no write-ordering:flush may_promote:no promotion_score:10101
exists connection name:r0 peer-node-id:1 conn-name:n2 connection:Connecting role:Unknown congested:no ap-in-flight:1 rs-in-flight:0
exists device name:r0 volume:0 minor:0 backing_dev:/dev/vda disk:UpToDate client:no quorum:yes size:65496 read:691 written:70533 al-writes:2 bm-writes:0 upper-pending:1 lower-pending:0 al-suspended:no blocked:upper
exists peer-device name:r0 peer-node-id:1 conn-name:n2 volume:0 replication:Off peer-disk:DUnknown peer-client:no resync-suspended:no received:0 sent:0 out-of-sync:0 pending:1 unacked:0
exists path name:r0 peer-node-id:1 conn-name:n2 local:ipv4:10.97.1.1:7789 peer:ipv4:10.97.1.2:7789 established:no
exists -
`
	alone9 = `exists resource name:r0 role:Secondary suspended:no force-io-failures:no write-ordering:flush may_promote:yes promotion_score:10101
exists connection name:r0 peer-node-id:0 conn-name:n1 connection:StandAlone role:Unknown congested:no ap-in-flight:0 rs-in-flight:0
exists device name:r0 volume:0 minor:0 backing_dev:/dev/vda disk:UpToDate client:no quorum:yes size:65496 read:0 written:0 al-writes:0 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists peer-device name:r0 peer-node-id:0 conn-name:n1 volume:0 replication:Off peer-disk:DUnknown peer-client:no resync-suspended:no received:0 sent:0 out-of-sync:0 pending:0 unacked:0
exists path name:r0 peer-node-id:0 conn-name:n1 local:ipv4:10.97.1.2:7789 peer:ipv4:10.97.1.1:7789 established:no
exists -
`
)

func TestStatesOfBothForms(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want State
	}{
		"connected": {connected84, State{true, "Primary", "no", "UpToDate", "Connected", "Secondary", "Established",
			"UpToDate", 0, "0", false}},
		"frozen": {frozen84, State{true, "Primary", "fencing", "UpToDate", "Connecting", "Unknown", "Off", "DUnknown", 0, "0", false}},
		"split":  {split84, State{Up: true, Role: "Primary", Suspended: "no", Disk: "UpToDate", Minor: "0"}},
		"connected 9": {connected9, State{true, "Secondary", "no", "UpToDate", "Connected", "Secondary", "Established",
			"UpToDate", 0, "0", true}},
		"frozen 9": {frozen9, State{true, "Primary", "fencing", "UpToDate", "Connecting", "Unknown", "Off", "DUnknown", 0, "0", true}},
		"alone 9":  {alone9, State{true, "Secondary", "no", "UpToDate", "StandAlone", "Unknown", "Off", "DUnknown", 0, "0", true}},
		"no path 9": {alone9 + "destroy path name:r0 peer-node-id:0 conn-name:n1 local:ipv4:10.97.1.2:7789 " +
			"peer:ipv4:10.97.1.1:7789\n", State{true, "Secondary", "no", "UpToDate", "StandAlone", "Unknown", "Off", "DUnknown", 0, "0", false}},
		"down":      {connected84 + "destroy resource name:r0\n", State{}},
		"of others": {strings.ReplaceAll(connected84, "r0", "r1"), State{}},
	} {
		var got State
		ends := 0
		for line := range strings.Lines(c.text) {
			end, err := got.take("r0", line)
			try.Must(t, err)
			if end {
				ends++
			}
		}
		if got != c.want || ends != 1 {
			t.Errorf("%s: %+v, %d ends; want %+v and 1", name, got, ends, c.want)
		}
	}
	for _, bad := range []string{"", "exists", "exists peer-device name:r0 out-of-sync:-4"} {
		var s State
		if _, err := s.take("r0", bad); err == nil {
			t.Errorf("%q is a line of events", bad)
		}
	}
}

func FuzzTake(f *testing.F) {
	for _, text := range []string{connected84, frozen84, split84, connected9, frozen9, alone9} {
		for line := range strings.Lines(text) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		var s State
		end, err := s.take("r0", line)
		if (end || err != nil) && s.Up {
			t.Errorf("%q: end %v, %v, and a state: %+v", line, end, err, s)
		}
		if s.Linked() && !strings.Contains(line, "Connected") {
			t.Errorf("%q is a link", line)
		}
	})
}

func TestTheHandlerAnswersByTheMarks(t *testing.T) {
	self, err := proc.Here.Read(os.Getpid())
	try.Must(t, err)
	over := exec.Command("true")
	try.Must(t, over.Run())
	alive, over1 := fmt.Sprintf("%d %d\nepoch 1\n", self.PID, self.Started), fmt.Sprintf("%d 1\nepoch 1\n", over.Process.Pid)
	for name, c := range map[string]struct {
		marks map[string]string
		want  int
		fails bool
	}{
		"nothing":                       {nil, NoProof, false},
		"alone":                         {map[string]string{aloneMark + "r0": ""}, PeerOutdated, false},
		"another resource":              {map[string]string{aloneMark + "r1": "", promoteMark + "r1": alive}, NoProof, false},
		"a promotion":                   {map[string]string{promoteMark + "r0": alive}, PeerFenced, false},
		"a promotion that was cut":      {map[string]string{promoteMark + "r0": over1}, NoProof, false},
		"the pid of another process":    {map[string]string{promoteMark + "r0": fmt.Sprintf("%d 1\n", self.PID)}, NoProof, false},
		"a promotion that names nobody": {map[string]string{promoteMark + "r0": "", aloneMark + "r0": ""}, NoProof, true},
	} {
		dir := t.TempDir()
		for mark, text := range c.marks {
			try.Must(t, os.WriteFile(filepath.Join(dir, mark), []byte(text), 0o600))
		}
		if got, err := Handle(dir, "r0"); got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d, %v; want %d", name, got, err, c.want)
		}
	}
	if got, err := Handle(t.TempDir(), "../r0"); got != NoProof || err == nil {
		t.Errorf("a resource that is a path: %d, %v", got, err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	host, err := os.Hostname()
	try.Must(t, err)
	good := Config{
		Resource: "r0", Disk: "/dev/vg/data", RunDir: "/run/holdfast", Handler: []string{"/usr/bin/holdfast", "drbd-fence", "/run/holdfast"},
		Self: Node{host, netip.MustParseAddrPort("10.0.0.1:7789")}, Peer: Node{"other-" + host, netip.MustParseAddrPort("[fd00::2]:7789")},
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	text, err := good.text("8.4.11")
	try.Must(t, err)
	for _, want := range []string{"protocol C;", "  disk {\n    fencing resource-and-stonith;",
		`fence-peer "/usr/bin/holdfast drbd-fence /run/holdfast";`,
		"address ipv4 10.0.0.1:7789;", "address ipv6 [fd00::2]:7789;", "after-sb-1pri disconnect;"} {
		if !strings.Contains(text, want) {
			t.Errorf("the resource file lacks %q:\n%s", want, text)
		}
	}
	nine, err := good.text("9.2.16")
	try.Must(t, err)
	self, peer := "  on "+host+" {\n    node-id 0;", "  on other-"+host+" {\n    node-id 1;"
	if good.Peer.Name < host {
		self, peer = "  on "+host+" {\n    node-id 1;", "  on other-"+host+" {\n    node-id 0;"
	}
	for _, want := range []string{"auto-promote no;", "quorum off;",
		"  net {\n    protocol C;\n    fencing resource-and-stonith;", "  disk {\n    on-io-error", self, peer} {
		if !strings.Contains(nine, want) {
			t.Errorf("the resource file of 9 lacks %q:\n%s", want, nine)
		}
	}
	if strings.Contains(text, "node-id") || strings.Contains(text, "options") {
		t.Errorf("the resource file of 8.4 has words of 9:\n%s", text)
	}
	for want, spoil := range map[string]func(*Config){
		"resource":         func(c *Config) { c.Resource = "a b" },
		"minor":            func(c *Config) { c.Minor = -1 },
		"disk":             func(c *Config) { c.Disk = "/dev/x; }" },
		"self":             func(c *Config) { c.Self.Name = "somebody" },
		"peer":             func(c *Config) { c.Peer.Name = host },
		"secret":           func(c *Config) { c.Secret = `"` },
		"secret: want":     func(c *Config) { c.Secret = strings.Repeat("s", MaxSecret+1) },
		"run directory":    func(c *Config) { c.RunDir = "run" },
		"handler":          func(c *Config) { c.Handler = []string{"a b"} },
		"address of other": func(c *Config) { c.Peer.Addr = netip.AddrPort{} },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestWhatAProgramSaid: why it failed, and no secret. It was recorded from drbd-utils 9.22.
func TestWhatAProgramSaid(t *testing.T) {
	const said = `r0: Failure: (126) UnknownMandatoryTag
additional info from kernel:
invalid attribute value
Command 'drbdsetup-84 connect r0 ipv4:10.77.0.11:7790 ipv4:10.77.0.12:7790 --protocol=C --cram-hmac-alg=sha1 --shared-secret=997dd97c' terminated with exit code 10
`
	if got, want := why(said), "r0: Failure: (126) UnknownMandatoryTag\nadditional info from kernel:\ninvalid attribute value"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheVersionOfTheModule(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drbd")
	try.Must(t, os.WriteFile(file, []byte("version: 8.4.11 (api:1/proto:86-101)\nsrcversion: F\n"), 0o600))
	if v, err := kernel(file); v != "8.4.11" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	try.Must(t, os.WriteFile(file, nil, 0o600))
	if v, err := kernel(file); err == nil {
		t.Errorf("an empty file has %q", v)
	}
}

func TestADiskWithDataIsNotEmpty(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	for _, c := range []struct {
		at    int64 // of a byte that is not zero; -1: none
		empty bool
	}{{-1, true}, {0, false}, {emptyBytes - 1, false}, {emptyBytes, true}} {
		try.Must(t, os.WriteFile(file, nil, 0o600))
		try.Must(t, os.Truncate(file, 2*emptyBytes))
		if c.at >= 0 {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			try.Must(t, err)
			_, err = f.WriteAt([]byte{1}, c.at)
			try.Must(t, err)
			try.Must(t, f.Close())
		}
		if empty, err := Empty(file); err != nil || empty != c.empty {
			t.Errorf("a byte at %d: %v, %v", c.at, empty, err)
		}
	}
	if _, err := Empty(file + "-none"); err == nil {
		t.Error("a disk that is not there is empty")
	}
}

// TestAModuleThatAsksNobody: DRBD 9 would take a peer for fenced.
func TestAModuleThatAsksNobody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usermode_helper")
	for helper, good := range map[string]bool{"/sbin/drbdadm\n": true, "disabled\n": false, "\n": false} {
		try.Must(t, os.WriteFile(file, []byte(helper), 0o600))
		if err := asks(file); (err == nil) != good {
			t.Errorf("%q: %v", helper, err)
		}
	}
	if asks(file+"-missing") == nil {
		t.Error("without the file it passed")
	}
}
