package facts

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

// host is a made-up host: files below root, commands in root/bin.
type host struct {
	t    *testing.T
	root string
}

func newHost(t *testing.T) *host {
	h := &host{t, t.TempDir()}
	h.file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")
	h.file("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n")
	h.file("proc/self/mountinfo", "40 24 252:1 / /vms/a rw - ocfs2 /dev/mapper/mpatha rw\n41 24 8:32 / /vms/b rw - ocfs2 /dev/sdc rw\n")
	return h
}

func (h *host) file(name, text string) string {
	h.t.Helper()
	p := filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// command makes a program that runs these lines of a shell.
func (h *host) command(name, script string) string {
	h.t.Helper()
	p := h.file("bin/"+name, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(p, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *host) gather(ctx context.Context, r fact.Request) fact.Facts {
	h.t.Helper()
	g := Gatherer{Root: h.root, Path: filepath.Join(h.root, "bin"), Timeout: 5 * time.Second}
	f := g.Gather(ctx, r)
	if f.Clock.By == "kernel" || f.Unknown["clock"] != "" {
		f.Clock = fact.Clock{} // of the machine that the test runs on
		delete(f.Unknown, "clock")
	}
	return f
}

func TestAHostWithEverything(t *testing.T) {
	h := newHost(t)
	h.file("boot/grub/grub.cfg", strings.Replace(sample(t, "grub-debian.cfg"), "DEFAULT", "0", 1))
	h.file("etc/default/o2cb", "O2CB_ENABLED=true\nO2CB_HEARTBEAT_THRESHOLD=31\n")
	h.file("sys/kernel/config/cluster/pool/heartbeat/dead_threshold", "61\n")
	h.file("sys/class/fc_host/host1/port_state", "Linkdown\n")
	h.file("sys/class/fc_host/host1/port_name", "0x21000024ff\n")
	multipath, err := filepath.Abs("testdata/multipath-new.txt")
	if err != nil {
		t.Fatal(err)
	}
	h.command("multipath", "while read -r line; do echo \"$line\"; done <"+multipath)
	h.command("iscsiadm", "echo 'tcp: [1] 10.0.0.5:3260,1 iqn.a:b (non-flash)'")
	h.command("chronyc", "echo 'System time : 0.25 seconds fast of NTP time'; echo 'Leap status : Normal'")
	h.command("python3", `case "$3" in requests) ;; *) echo "Traceback" >&2; echo "ModuleNotFoundError: No module named '$3'" >&2; exit 1;; esac`)
	h.command("tree", "")
	status := h.command("status", "echo all is well; echo on error >&2; exit 3")
	backup := h.file("backup/one", "x")
	when := time.Unix(1700000000, 0)
	if err := os.Chtimes(backup, when, when); err != nil {
		t.Fatal(err)
	}
	h.file("backup/.partial", "x")
	f := h.gather(t.Context(), fact.Request{
		Host: "h1", Unpack: h.root, Commands: []string{"tree", "gone", "../bin/tree"}, Python: []string{"requests", "paramiko", "os;x"},
		Config: []fact.ConfigFile{{Installed: h.file("etc/app.json", `{"a":1,"b":2}`), Bundle: h.file("new/app.json", `{"a":1,"c":2}`)},
			{Installed: filepath.Join(h.root, "etc/none.ini")}},
		VersionFile: h.file("opt/versions.yml", "name: x\nVersion: 2.0.0.B086\n"), BackupDir: filepath.Join(h.root, "backup"),
		Status: &fact.Program{Name: "status", Run: []string{status}},
		HA:     &fact.Program{Name: "ha", Run: []string{"relative"}}, Replication: []fact.Program{{Name: "slave", Run: []string{status}}},
	})
	same(t, "unknown", f.Unknown, map[string]string{"ha": "ha: want a program with its absolute path"})
	same(t, "kernel", f.Kernel, fact.Kernel{Running: "6.1.0-9-amd64", Next: "6.1.0-18-amd64", By: "grub"})
	same(t, "clock", f.Clock, fact.Clock{Synced: true, OffsetMS: 250, By: "chrony"})
	same(t, "o2cb", f.O2CB, fact.O2CB{Present: true, Configured: 31, Active: 61})
	same(t, "iscsi", f.ISCSI, []fact.Session{{ID: 1, Portal: "10.0.0.5:3260", Target: "iqn.a:b"}})
	same(t, "fc", f.FC, []fact.Port{{Name: "host1 0x21000024ff", State: "Linkdown"}})
	same(t, "mounts", f.Mounts, []fact.Mount{{Name: "a", Dir: "/vms/a", Kind: "ocfs2", Device: "/dev/mapper/mpatha",
		Paths: 2}, {Name: "b", Dir: "/vms/b", Kind: "ocfs2", Device: "/dev/sdc", Paths: 1}})
	same(t, "commands", f.Commands, map[string]string{"tree": filepath.Join(h.root, "bin/tree"), "gone": "", "../bin/tree": ""})
	same(t, "python", f.Python, map[string]string{"requests": "",
		"paramiko": "ModuleNotFoundError: No module named 'paramiko'", "os;x": "it is no name of a module"})
	same(t, "config", f.Config, []fact.Config{{Installed: filepath.Join(h.root, "etc/app.json"),
		Names: []string{"a", "b"}, Bundle: []string{"a", "c"}},
		{Installed: filepath.Join(h.root, "etc/none.ini"), NotThere: true, NotStaged: true}})
	same(t, "version", f.Version, "2.0.0.B086")
	same(t, "backup", f.LastBackup.Unix(), when.Unix())
	same(t, "status", f.Status, &fact.Probe{Name: "status", Exit: 3, Text: "all is well\non error"})
	same(t, "replication", f.Replication, []fact.Probe{{Name: "slave", Exit: 3, Text: "all is well\non error"}})
	if len(f.Maps) != 3 || f.Space.Free <= 0 {
		t.Errorf("%d maps, %+v", len(f.Maps), f.Space)
	}
}

func TestInstalledVersion(t *testing.T) {
	h := newHost(t)
	for text, want := range map[string]string{
		"Version: 1.0\nE0710": "1.0", "V500R001B01D006 V5.0 E0503 Enterprise 45807.": "E0503",
		"V500R001B01D006-V5.0-E0509H01-Enterprise\n": "E0509H01", "E0710": "E0710", "V5.0 e0503": "",
	} {
		f := h.gather(t.Context(), fact.Request{Host: "h1", VersionFile: h.file("etc/version", text)})
		if f.Version != want || (f.Unknown["version"] == "") != (want != "") {
			t.Errorf("%q: %q, %v", text, f.Version, f.Unknown)
		}
	}
}

func TestABareHostIsNoFault(t *testing.T) {
	h := newHost(t)
	h.file("boot/vmlinuz-6.1.0-9-amd64", "")
	h.file("boot/vmlinuz-6.1.0-18-amd64", "")
	h.file("boot/vmlinuz-6.1.0-99-amd64.old", "")
	h.file("boot/vmlinuz-0-rescue-1234", "")
	f := h.gather(t.Context(), fact.Request{Host: "h1", Python: []string{"requests"}, BackupDir: h.root + "/none"})
	same(t, "unknown", f.Unknown, map[string]string{})
	same(t, "kernel", f.Kernel, fact.Kernel{Running: "6.1.0-9-amd64", Next: "6.1.0-18-amd64", By: "boot"})
	same(t, "python", f.Python, map[string]string{"requests": "python3 is not installed"})
	same(t, "o2cb", f.O2CB, fact.O2CB{})
	if f.ISCSI != nil || f.Maps != nil || !f.LastBackup.IsZero() {
		t.Errorf("%+v", f)
	}
}

func TestASavedEntryOfRedHat(t *testing.T) {
	h := newHost(t)
	h.file("boot/grub2/grub.cfg", "set default=\"${saved_entry}\"\nblscfg\n")
	h.file("boot/grub2/grubenv", "saved_entry=abc-5.14.0-362\n")
	h.file("boot/loader/entries/abc-5.14.0-362.conf", "title Rocky\nlinux /vmlinuz-5.14.0-362.el9\n")
	same(t, "kernel", h.gather(t.Context(), fact.Request{}).Kernel, fact.Kernel{Running: "6.1.0-9-amd64", Next: "5.14.0-362.el9", By: "grub"})
}

func TestWhatIsBrokenIsUnknownAndTheRestIsRead(t *testing.T) {
	h := newHost(t)
	h.file("etc/default/o2cb", "O2CB_HEARTBEAT_THRESHOLD=many\n")
	h.command("iscsiadm", "echo 'iscsiadm: can not connect' >&2; exit 20")
	h.command("multipath", "echo 'need to be root'; exit 1")
	h.file("sys/class/misc/device-mapper/dev", "10:236\n")
	h.command("chronyc", "echo nonsense")
	if err := os.Remove(filepath.Join(h.root, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	g := Gatherer{Root: h.root, Path: filepath.Join(h.root, "bin")}
	f := g.Gather(t.Context(), fact.Request{VersionFile: h.file("v", "nothing"), Unpack: h.root,
		Config: []fact.ConfigFile{{Installed: h.file("bad.json", "{"), Bundle: h.file("good.json", "{}")}}})
	for _, fact := range []string{"os", "o2cb", "iscsi", "maps", "clock", "version"} {
		if f.Unknown[fact] == "" {
			t.Errorf("%s is not unknown", fact)
		}
	}
	if len(f.Unknown) != 6 || f.Space.Free <= 0 || f.Kernel.Running == "" || !strings.Contains(f.Config[0].Why, "malformed JSON") {
		t.Errorf("%+v", f)
	}
	same(t, "mounts", f.Mounts, []fact.Mount{{Name: "a", Dir: "/vms/a", Kind: "ocfs2", Device: "/dev/mapper/mpatha",
		Paths: 0}, {Name: "b", Dir: "/vms/b", Kind: "ocfs2", Device: "/dev/sdc", Paths: 1}})
}

func TestAProgramThatHangsIsStoppedWithItsChildren(t *testing.T) {
	h := newHost(t)
	pid := filepath.Join(h.root, "pid")
	slow := h.command("slow", "sleep 600 & echo $! >"+pid+"; wait")
	g := Gatherer{Root: h.root, Path: filepath.Join(h.root, "bin"), Timeout: 300 * time.Millisecond}
	_, err := g.probe(t.Context(), fact.Program{Name: "slow", Run: []string{slow}})
	if err == nil || !strings.Contains(err.Error(), "has not answered within 300ms") { // and it returned, ten minutes before the program's end
		t.Fatal(err)
	}
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	try.Until(t, "the end of its child", func() bool { return !alive(strings.TrimSpace(string(b))) })
}

// alive reports whether a process runs; a zombie does not.
func alive(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	p, err := proc.Here.Read(n)
	return err == nil && !p.Dead()
}

func TestAnEndedContextLeavesProgramsUnknown(t *testing.T) {
	h := newHost(t)
	status := h.command("status", "exit 0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := h.gather(ctx, fact.Request{Status: &fact.Program{Name: "status", Run: []string{status}}})
	if f.Status != nil || f.Unknown["status"] == "" {
		t.Errorf("%+v %v", f.Status, f.Unknown)
	}
}

func TestWhatHangsInTheKernelIsLeft(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, err := bounded(20*time.Millisecond, "/nfs", func() (int, error) { <-release; return 1, nil })
	if err == nil || err.Error() != "/nfs hangs, it has not answered within 20ms" {
		t.Error(err)
	}
}

func TestLongOutputIsCut(t *testing.T) {
	h := newHost(t)
	long := h.command("long", `i=0; while [ $i -lt 3000 ]; do echo "line $i is here"; i=$((i+1)); done`)
	p, err := (&Gatherer{}).probe(t.Context(), fact.Program{Name: "long", Run: []string{long}})
	if err != nil || len(p.Text) > maxText || !strings.HasSuffix(p.Text, "line 2999 is here") {
		t.Errorf("%v %d bytes", err, len(p.Text))
	}
}

// The reasons are keyed by the JSON names of the fields.
func TestUnknownNamesFields(t *testing.T) {
	b, err := json.Marshal(fact.Facts{Unknown: map[string]string{"os": "x"}})
	if err != nil || !strings.Contains(string(b), `"unknown":{"os":"x"}`) {
		t.Errorf("%s %v", b, err)
	}
}
