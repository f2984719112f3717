package testroot_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

// settings are those of the only host of three that is there. It runs the store alone.
func settings() (config.Node, config.Cluster) {
	const addr = "192.0.2.11"
	n := config.Node{
		Host: "h1", Addr: addr, Cluster: "unit", ConfigFile: "/etc/holdfast/cluster.json", Undersized: true,
		Libvirt: config.Libvirt{Shared: []string{"/srv/shared"}},
		Store: config.Store{Endpoints: []string{"https://" + addr + ":2379"}, Member: &config.Member{
			ListenPeer: "https://" + addr + ":2380", PeerURL: "https://" + addr + ":2380",
			ListenClient: "https://" + addr + ":2379", ClientURL: "https://" + addr + ":2379",
			Initial: map[string]string{"h1": "https://" + addr + ":2380"},
		}},
		API:      config.API{Listen: addr + ":7443"},
		TLS:      config.TLS{CA: "/etc/holdfast/pki/ca.pem", Cert: "/etc/holdfast/pki/host.pem", Key: "/etc/holdfast/pki/host.key"},
		Watchdog: config.Watchdog{Device: "/dev/watchdog0"},
	}
	cl := config.Cluster{
		Node: []string{addr + " h1", "192.0.2.12 h2", "192.0.2.13 h3"}, CPU: 1, MemorySizeInMB: 64,
		Type: config.FileConf, ImageFolder: "/srv/shared",
		Network: []config.Network{{Bridge: "br0", MacAddress: "02:00:5e:10:00:01", Ipaddr: "192.0.2.3",
			Netmask: "255.255.255.0", Gateway: "192.0.2.1", IsMgmt: true, IsDefRoute: true}},
	}
	// An emulated host is slow, and the machine may be busy: a watchdog of 50 s has reset it
	// when it had a tenth of a processor.
	t := &cl.TimingConf
	t.Lease, t.Watchdog = config.Duration(10*time.Minute), config.Duration(9*time.Minute)
	t.Keepalive, t.Election = config.Duration(10*time.Second), config.Duration(30*time.Second)
	t.Heartbeat, t.Detection = config.Duration(time.Second), config.Duration(20*time.Second)
	return n, cl
}

// drill makes the directory that the host sees at /drill: packages, settings, certificates,
// and tests that want a kernel's watchdog, or systemd.
func drill(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "cp", "-r", built+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, of := range map[string]string{"watchdog.test": "host/watchdog", "bridge.test": "transition/pin/bridge"} {
		cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(dir, name), "../../internal/"+of)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	n, cl := settings()
	for name, v := range map[string]any{"agent.json": n, "cluster.json": cl} {
		text, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ca, err := pki.NewCA("unit", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("h1", []netip.Addr{netip.MustParseAddr(n.Addr)}, nil, 24*time.Hour)
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "pki"), 0o700)
	}
	if err == nil {
		err = pair.Write(filepath.Join(dir, "pki/host.pem"), filepath.Join(dir, "pki/host.key"))
	}
	if err == nil {
		err = ca.WriteCert(filepath.Join(dir, "pki/ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Commands of the drill.
const (
	install = "dpkg -i /drill/holdfast_"
	mainPID = "systemctl show -p MainPID --value holdfast"
	// What outlives the agent: the member of the store, the watchdog holder, the VM.
	others   = `for what in "holdfast store-member" "holdfast watchdog-holder" "qemu-system-x86_64 -name"; do pgrep -f -- "$what" || echo "no $what"; done`
	status   = "holdfast status -o json | tr -d ' \\n'"
	dog      = "cat /sys/class/watchdog/watchdog0/state"
	running  = `"state":"running"`
	released = `"state":"released"`
)

// TestUnderSystemd is the life of a host whose first process is systemd, in one boot: the
// package is installed, the agent started, killed, upgraded, stopped with hands off, and
// removed; the watchdog is the kernel's softdog.
func TestUnderSystemd(t *testing.T) {
	need.Drill(t, "P3, P4: the life of a host under systemd: installed, killed, upgraded, stopped with hands off, "+
		"removed; the watchdog of its kernel resets it", need.Root, need.Programs("util-linux", "unshare"),
		need.Programs("qemu-system-x86", "qemu-system-x86_64"), need.Programs("e2fsprogs", "mkfs.ext4"))
	if why != "" {
		t.Skip(why)
	}
	files := drill(t)
	began := time.Now()
	g := boot(t, files)
	// An index of manual pages takes this host longer than the rest of an installation.
	g.run(t, "mkdir /drill && mount -o ro /dev/vdb /drill && rm -f /var/lib/man-db/auto-update")
	g.until(t, "systemctl is-active multi-user.target", "active")
	t.Logf("booted after %v", time.Since(began).Round(time.Second))
	step := func(what string) { t.Logf("%4.0f s: %s", time.Since(began).Seconds(), what) }

	step("installed without settings: nothing runs, nothing has failed")
	if out := g.run(t, install+before+"_amd64.deb"); !strings.Contains(out, "not configured") {
		t.Errorf("installed: %s", out)
	}
	g.run(t, "systemctl start holdfast")
	if out, _ := g.try(t, "systemctl is-active holdfast; systemctl is-failed holdfast"); out != "inactive\ninactive" {
		t.Errorf("without settings: %s", out)
	}

	step("configured and started")
	g.run(t, `modprobe softdog && ip link add br0 type bridge && ip addr add 192.0.2.11/24 dev br0 && ip link set br0 up
mkdir -p /srv/shared && truncate -s 16M /srv/shared/mnvm.img
cp /drill/*.json /etc/holdfast/ && cp /drill/pki/* /etc/holdfast/pki/
holdfast agent --check && systemctl enable --now holdfast`)
	g.until(t, status, `"connected":true`)
	// On a busy machine this host's store may not answer in time: who asked asks again.
	g.until(t, "holdfast start --timeout 4m >/tmp/start 2>&1 || { tail -n 3 /tmp/start; false; }", "")
	g.until(t, status, running)
	g.until(t, dog, "active")
	kept := g.run(t, others)
	if strings.Contains(kept, "no ") {
		t.Fatalf("processes: %s", kept)
	}

	step("denied is what the unit denies, in the mount name space of the host")
	limits := g.run(t, `pid=$(`+mainPID+`); grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/$pid/status
[ "$(readlink /proc/$pid/ns/mnt)" = "$(readlink /proc/1/ns/mnt)" ] && echo same mounts; grep CapBnd: /proc/1/status`)
	caps := strings.Fields(limits[strings.Index(limits, "CapBnd:"):])
	if !strings.Contains(limits, "Seccomp:\t2") || !strings.Contains(limits, "NoNewPrivs:\t0") ||
		!strings.Contains(limits, "same mounts") || caps[1] == caps[len(caps)-1] {
		t.Errorf("limits: %s", limits)
	}
	unit := g.run(t, `pid=$(`+mainPID+`); grep Umask: /proc/$pid/status; grep -E '^Max (data|core)' /proc/$pid/limits | tr -s ' ' | sed 's/ $//'`)
	if want := "Umask:\t0077\nMax data size 1073741824 unlimited bytes\nMax core file size 0 unlimited bytes"; unit != want {
		t.Errorf("umask and limits: %q, want %q", unit, want)
	}
	for _, f := range strings.Fields(g.run(t, writable+"; "+readable)) {
		bill := strings.HasSuffix(f, ".cdx.json")       // of what the test installs: anybody may read it
		if f != "/var/lib/holdfast/seed.iso" && !bill { // libvirtd gives the seed to QEMU's user
			t.Errorf("others than root may write or read: %s", f)
		}
	}
	if out := g.run(t, "stat -c '%a %s' /var/log/holdfast/agent.log"); !strings.HasPrefix(out, "640 ") || out == "640 0" {
		t.Errorf("log: %s", out)
	}

	step("killed: systemd starts it again, and it adopts the others")
	pid := g.run(t, mainPID)
	g.run(t, "kill -9 "+pid)
	g.until(t, "pid=$("+mainPID+"); [ $pid != 0 ] && [ $pid != "+pid+" ] && "+status, `"connected":true`)
	g.until(t, status, running)
	same(t, "killed", kept, g.run(t, others))

	step("upgraded: the agent alone is restarted")
	if out := g.run(t, install+after+"_amd64.deb"); !strings.Contains(out, "the agent is restarted") {
		t.Errorf("upgraded: %s", out)
	}
	g.until(t, "holdfast version", "agent    "+after)
	g.until(t, status, running)
	same(t, "upgraded", kept, g.run(t, others))

	step("settings that the new version does not take: the agent runs on")
	pid = g.run(t, mainPID)
	g.run(t, "mv /etc/holdfast/agent.json /etc/holdfast/good && echo '{}' >/etc/holdfast/agent.json")
	if out, code := g.try(t, install+after+"_amd64.deb"); code == 0 || !strings.Contains(out, "does not take the settings") {
		t.Errorf("upgraded with bad settings: %d, %s", code, out)
	}
	if now := g.run(t, mainPID); now != pid {
		t.Errorf("process %s became %s", pid, now)
	}
	g.run(t, "mv /etc/holdfast/good /etc/holdfast/agent.json && dpkg --configure holdfast")

	step("a removal with the VM here is refused")
	g.until(t, status, running)
	if out, code := g.try(t, "dpkg -r holdfast"); code == 0 || !strings.Contains(out, "holdfast migrate") {
		t.Errorf("removed with the VM here: %d, %s", code, out)
	}
	g.run(t, "systemctl is-active holdfast && holdfast version")
	same(t, "not removed", kept, g.run(t, others))

	step("stopped with hands off: the VM runs on, the host is not reset")
	g.until(t, "holdfast stop --hands-off", "")
	g.until(t, dog, "inactive")
	g.run(t, "systemctl stop holdfast")
	if out, _ := g.try(t, "systemctl is-active holdfast"); out != "inactive" {
		t.Errorf("stopped: %s", out)
	}
	same(t, "hands off", kept, g.run(t, others))
	g.run(t, "systemctl start holdfast")
	g.until(t, "holdfast start", "")
	g.until(t, dog, "active")
	g.until(t, status, running)
	same(t, "hands on", kept, g.run(t, others))

	step("the only member of the store is not removed while its agent runs")
	g.until(t, "holdfast stop --timeout 4m", "")
	g.until(t, status, released)
	g.until(t, dog, "inactive")
	if out, code := g.try(t, "dpkg -r holdfast"); code == 0 || !strings.Contains(out, "no majority") {
		t.Errorf("removed: %d, %s", code, out)
	}

	step("the cluster is given up: purged, and nothing runs")
	g.run(t, "systemctl stop holdfast && dpkg -P holdfast")
	if out, code := g.try(t, "pgrep -a holdfast; ls -d /etc/holdfast /var/lib/holdfast /var/log/holdfast /opt/holdfast"); code == 0 ||
		strings.Contains(out, "store-member") || strings.Count(out, "No such file") != 4 {
		t.Errorf("left: %s", out)
	}
	g.run(t, "[ -e /srv/shared/mnvm.img ]")

	step("the service that deletes the ports of bridges runs nothing while one is pinned")
	const cleans = "TestTheCleanupServiceUnderSystemd"
	if out := g.run(t, "cd /tmp && HOLDFAST_TESTS=drills HOLDFAST_TEST_SYSTEMD=1 /drill/bridge.test -test.run "+
		cleans+" -test.v"); !strings.Contains(out, "--- PASS: "+cleans) {
		t.Errorf("the service: %s", out)
	}

	step("the contract of watchdogs, on the kernel's")
	contract := "cd /tmp && HOLDFAST_TESTS=drills HOLDFAST_TEST_WATCHDOG=/dev/watchdog0 /drill/watchdog.test " +
		"-test.run TestContractKernel -test.v"
	if out := g.run(t, contract); !strings.Contains(out, "--- PASS: TestContractKernel") || strings.Contains(out, "SKIP") {
		t.Errorf("contract: %s", out)
	}
	if _, err := g.conn.Write([]byte(strings.Replace(contract, "cd /tmp &&", "cd /tmp && HOLDFAST_TEST_WATCHDOG_FIRE=1",
		1) + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := g.reset(t.Context()); err != nil {
		t.Fatalf("the host was not reset: %v", err)
	}
	if !g.cmd.ProcessState.Success() {
		t.Errorf("the emulator ended, not the host: %v", g.cmd.ProcessState)
	}
	step("the watchdog has reset the host")
	state := g.cmd.ProcessState
	t.Logf("it took %v of the processors", (state.UserTime() + state.SystemTime()).Round(time.Second))
}
