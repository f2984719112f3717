package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/drbdnode"
	"holdfast/testbed/need"
	helper "holdfast/testbed/try"
)

// systemDisk is that of the device: what one host and no VM need.
const systemDisk = 12_000_000_000

// newSystems makes laboratory B of two nodes that a distribution has installed: Debian with systemd,
// sshd, MariaDB, drbd-utils and a watchdog of the kernel, and nothing of Holdfast but the program.
func newSystems(t *testing.T) *drbdRig {
	t.Helper()
	r := newB(t, "/run/mysqld/mysqld.sock", "journalctl -u holdfast -n 60 --no-pager")
	r.node = drbdnode.Make(t, drbdnode.Options{
		Pkg: "holdfast/testbed/drbdnode", Memory: 1024, Disk: systemDisk, Files: []string{r.exe},
		Taps: [2]*os.File{r.net.Tap(t, "t1"), r.net.Tap(t, "t2")}, System: true, Addrs: [2]string{drbdAddr[0] + "/24", drbdAddr[1] + "/24"},
	})
	for i := range r.node {
		r.furnish(i)
	}
	return r
}

// furnish gives a node what its platform has: a service, a partition for VMs, and an ordinary login by key.
func (r *drbdRig) furnish(i int) {
	r.t.Helper()
	n := r.node[i]
	n.Run("sh", "-euc", `mkdir -p /vms /root/.ssh
mount -t tmpfs -o size=40g tmpfs /vms
uname -n >/srv/name
printf '[Service]\nExecStart=busybox httpd -f -p 8080 -h /srv\n' >/etc/systemd/system/web.service
printf '[mysqld]\ninnodb_buffer_pool_size=32M\nperformance_schema=OFF\nskip_name_resolve\n' >/etc/mysql/mariadb.conf.d/90-small.cnf
[ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
systemctl daemon-reload`)
	// a time server would: boots take so long here that clocks come apart
	n.Run("date", "-u", "-s", "@"+strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64))
	n.Run("sh", "-euc", `until systemctl is-active ssh; do sleep 0.3; done`)
	for k, other := range r.node {
		if k != i {
			other.Run("sh", "-euc", `printf '%s\n' "$1" >>/root/.ssh/authorized_keys`, "sh", n.Run("cat", "/root/.ssh/id_ed25519.pub"))
			n.Run("sh", "-euc", `printf '%s\n' "$1" >>/root/.ssh/authorized_keys`, "sh",
				other.Run("sh", "-c", "cat /root/.ssh/id_ed25519.pub || true"))
		}
	}
}

// hostKey is the flag that takes a node's key.
func (r *drbdRig) hostKey(i int) string {
	r.t.Helper()
	return "--host-key=" + strings.Fields(r.node[i].Run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ecdsa_key.pub"))[1]
}

// setupArgs writes what a set-up on the first node reads, and gives its command; on are the flag and the path of
// the disk.
func (r *drbdRig) setupArgs(on ...string) []string {
	r.t.Helper()
	cl, _ := r.files("n1", drbdAddr[0], drbdHome)
	var conf struct{ Timings, Pair map[string]any }
	helper.Must(r.t, json.Unmarshal(cl, &conf))
	// Such a host takes half a minute from the loss of the other one until the group was ended and starts
	// in a store of its own, where others take four seconds.
	conf.Timings["Grace"], conf.Timings["Lease"] = "10s", "40s"
	group, err := json.Marshal(map[string]any{"Timings": conf.Timings, "Patience": conf.Pair["Patience"],
		"Group": []any{map[string]any{"Unit": "web.service"}}})
	helper.Must(r.t, err)
	r.node[0].Run("sh", "-euc", `printf '%s' "$1" >/root/group.json`, "sh", string(group))
	return append([]string{r.exe, "pair", "setup", "--vip", drbdVIP + "/24", "--peer", drbdAddr[1], "--arbiter", "disk:/dev/vdc",
		"--hosts", "1", "--vms", "0", "--group", "/root/group.json", r.hostKey(1)}, on...)
}

// killed runs a command on a node until it says something, and kills it then.
func (r *drbdRig) killed(t *testing.T, node int, says string, args ...string) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	var said []string
	for line := range r.node[node].Stream(ctx, args...) {
		said = append(said, line)
		if strings.Contains(line, says) {
			r.node[node].Run("pkill", "-9", "-f", "[ ]pair "+args[2])
			return
		}
	}
	t.Fatalf("%v ended before it said %q: %s", args, says, strings.Join(said, "\n"))
}

// served asks the service at the virtual address on which node it runs.
func (r *drbdRig) served(t *testing.T, want string) {
	t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return r.net.Dial(ctx, drbdClient, addr)
		}}}
	r.until(t, "the service at the virtual address", func() (string, bool) {
		resp, err := c.Get("http://" + drbdVIP + ":8080/name")
		if err != nil {
			return err.Error(), false
		}
		b, err := io.ReadAll(resp.Body)
		said := strings.TrimSpace(string(b))
		return fmt.Sprint(said, " ", errors.Join(err, resp.Body.Close())), said == want
	})
}

// TestPairSetupOnDRBD takes two nodes that a distribution has installed to a pair on a DRBD device by one command, which
// is killed in the middle and called again. Then one of the nodes is installed anew, and made the standby again by one command.
// The machine must have nothing else to do: beside other tests two voters that are both emulated lose each other
// again and again.
func TestPairSetupOnDRBD(t *testing.T) {
	need.Drill(t, "P3: one command makes a pair on a real DRBD, killed in the middle, and mends it after a node is installed anew")
	r := newSystems(t)
	const flag = "--device"
	args := r.setupArgs(flag, "/dev/vda")
	for _, c := range []struct{ what, path, want string }{
		{"the system's own disk", "/dev/vdb", "/dev/vdb is in use: mounted at /"},
		{"that of the arbiter", "/dev/vdc", "want another disk than the arbiter"},
	} {
		if out, code := r.node[0].Try(append(slices.Clone(args), flag, c.path, "--yes", "CONFIRM")...); code == 0 ||
			!strings.Contains(out, c.want) {
			t.Errorf("%s: %d: %s", c.what, code, out)
		}
	}
	args = append(args, "--yes", "CONFIRM")
	r.killed(t, 0, "n2: start", args...)
	// What the killed command has begun on a host may not have ended: then people wait, and call it again.
	var out string
	r.until(t, "the set-up", func() (string, bool) {
		var code int
		out, code = r.node[0].Within(3*patience, args...)
		return out, code == 0
	})
	if !strings.Contains(out, "goes on with the set-up of") || !strings.Contains(out, "webip  : ["+drbdVIP+"] Started n1") {
		t.Fatalf("the set-up: %s\n%s", out, r.node[0].Run("sh", "-c", r.log))
	}
	t.Log(out)
	if active, _ := r.healthy(t); active != 0 {
		t.Errorf("%s serves", r.node[active].Name())
	}
	r.served(t, "n1")
	r.table(0)
	stop := r.clients.write(t)
	r.more(t, 20)
	switchDevice(r, t, 0, 1)
	r.more(t, 20)
	active, standby := r.healthy(t)
	if active != 1 {
		t.Fatalf("after the switch %s serves", r.node[active].Name())
	}
	r.served(t, "n2")
	for i, want := range map[int]string{active: "active", standby: "inactive"} {
		if out, _ := r.node[i].Try("systemctl", "is-active", "web.service"); out != want {
			t.Errorf("%s: web.service is %s, want %s", r.node[i].Name(), out, want)
		}
	}

	// The disk is the one of before, the system is new.
	r.node[standby].Crash()
	r.node[standby].Reinstall()
	r.node[standby].Boot()
	r.node[standby].Wait()
	r.furnish(standby)
	r.more(t, 20)
	again := []string{drbdExe, "pair", "recover", drbdAddr[standby], "--yes", r.hostKey(standby)}
	r.killed(t, active, "n1: start", again...)
	// As people do: what a pair refuses that is about to serve again is tried again.
	r.until(t, "the recovery of "+r.node[standby].Name(), func() (string, bool) {
		out, code := r.node[active].Within(3*patience, again...)
		return out, code == 0 && strings.Contains(out, "-----CVM Master/Slave Restore Success-----\n")
	})
	r.more(t, 20)
	serves, _ := r.healthy(t)
	if serves != active {
		t.Errorf("after the recovery %s serves", r.node[serves].Name())
	}
	stop()
	r.clients.check(t, []string{"h1", "h2"}[serves])
}
