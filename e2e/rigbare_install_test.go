package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// differ gives the lines that only one of two texts has.
func differ(before, after string) (out []string) {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, l := range was {
		if !slices.Contains(is, l) {
			out = append(out, "gone: "+l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			out = append(out, "new: "+l)
		}
	}
	return out
}

// fails are the checks of a report that failed, as NODE CHECK.
func fails(r install.Report) (out []string) {
	for _, f := range r.Findings {
		if f.Result == install.Fail {
			out = append(out, f.Node+" "+f.Check)
		}
	}
	return out
}

// TestInstall takes three hosts that have libvirt, a shared directory and sshd to a
// management VM that runs, and back to what they were.
func TestInstall(t *testing.T) {
	b := newBareRig(t, 3)
	args := b.files(t, "h1", b.lab.BareCluster())
	unchanged := b.unchanged(t)
	res, said, err := b.install(t, "h1", args...)
	if err != nil || !res.OK {
		t.Fatalf("install: %v\n%s\n%+v", err, said, fails(res.Report))
	}
	b.exe = install.Command
	b.runs(t, 3)
	b.logsIn(t, res.Console)
	b.exe = b.lab.Exe()
	b.uninstall(t, "h1", args...)
	unchanged("an installation that was taken back")
}

// logsIn logs in to the console of h2 with the one-time password, which asks for another one.
func (b *bareRig) logsIn(t *testing.T, c *install.Console) {
	t.Helper()
	if c == nil || c.User != install.FirstAdmin || c.Password == "" || len(c.Addresses) != 3 {
		t.Fatalf("console: %+v", c)
	}
	const script = `
import http.cookiejar, ssl, sys, urllib.parse, urllib.request
at, ca, user, password = sys.argv[1:]
browser = urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)),
    urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
form = urllib.parse.urlencode({"name": user, "password": password}).encode()
print(browser.open(at + "/login", form).geturl())`
	said := b.command(t, "h2", "user", "list")
	at := c.Addresses[1]
	out, err := b.lab.Exec(t.Context(), "h2", "python3", "-c", script, at, install.CAFile, c.User, c.Password)
	if err != nil || strings.TrimSpace(out) != at+"/password" {
		t.Errorf("logged in to %s: %s %v; the users are:\n%s", at, out, err, said)
	}
}

// unchanged is what tells later whether the hosts are as they are now, with a firewall.
func (b *bareRig) unchanged(t *testing.T) func(what string) {
	t.Helper()
	before, rules := map[string]string{}, map[string]string{}
	for _, h := range b.lab.Hosts() {
		rules[h] = b.filters(t, h)
		before[h] = b.tree(t, h)
	}
	return func(what string) {
		t.Helper()
		for _, h := range b.lab.Hosts() {
			if now := b.sh(t, h, "nft list ruleset"); now != rules[h] {
				t.Errorf("%s changed the firewall of %s:\n%s\nbefore:\n%s", what, h, now, rules[h])
			}
			if d := differ(before[h], b.tree(t, h)); len(d) > 0 {
				t.Errorf("%s changed %s:\n%s", what, h, strings.Join(d, "\n"))
			}
		}
	}
}

// TestInstallAtLength does the same with what is refused, with commands that are killed, a second installation, changes, a host
// for guests only, and one that is replaced.
func TestInstallAtLength(t *testing.T) {
	need.Drill(t, "P3: hosts with libvirt get a cluster by one command, also one that is killed, and go back to what "+
		"they were; and P7: what can not be is refused")
	b := newBareRig(t, 4)
	args := b.files(t, "h1", b.lab.BareCluster())
	unchanged := b.unchanged(t)

	b.refusals(t, args)
	unchanged("what was refused")

	res, said, err := b.install(t, "h1", append(args, "--check")...)
	if err != nil || !res.OK {
		t.Fatalf("check: %v\n%s\n%+v", err, said, fails(res.Report))
	}
	unchanged("a check")

	b.says(t, res.Report)
	b.killed(t, args, unchanged)

	lines := b.quickly(t, "h1", b.lab.BareCluster(), args[2:]) // args has -c FILE first
	t.Log(lines[3])
	if status := lines[4]; !strings.Contains(lines[3], "the management VM runs on ") ||
		!strings.Contains(status, "mgmt VM   running on ") || strings.Count(status, " alive ") != 3 {
		t.Errorf("the quick start said:\n%s\nand then:\n%s", lines[3], status)
	}
	b.exe = install.Command
	b.runs(t, 3)
	b.letsIn(t)
	var well install.Report
	if err := json.Unmarshal([]byte(b.command(t, "h3", "doctor", "-o", "json")), &well); err != nil || !well.OK || len(well.Findings) < 10 {
		t.Errorf("doctor: %v, %+v", err, well)
	}
	b.zshaStatus(t, "h2", b.lab.BareCluster())

	again, said, err := b.install(t, "h2", b.files(t, "h2", b.lab.BareCluster())...)
	if err != nil || !again.OK || !strings.Contains(lines[3], "cluster "+again.Cluster+":") {
		t.Fatalf("install again, from another host: %v\n%s\n%+v", err, said, again)
	}
	for h, changed := range again.Changed {
		if len(changed) > 0 {
			t.Errorf("install again: %s: changed %v", h, changed)
		}
	}

	b.changed(t)
	b.guestsOnly(t, args, again.Cluster)
	b.replaced(t, args)

	b.uninstall(t, "h1", append(args[:len(args):len(args)], "--hosts", "/srv/host/list")...)
	unchanged("an installation that was taken back")
	if _, err := os.Stat(b.lab.SharedPath() + "/mnvm.img"); err != nil {
		t.Errorf("the image: %v", err)
	}
}

// runs waits until the management VM answers, and looks at the cluster.
func (b *bareRig) runs(t *testing.T, hosts int) {
	t.Helper()
	b.until(t, "the guest answers", func(ctx context.Context) (string, bool) {
		_, err := b.lab.Ask(ctx)
		return fmt.Sprint(err), err == nil
	})
	b.until(t, "all hosts are alive, and the guest runs", func(ctx context.Context) (string, bool) {
		s, err := b.status(ctx)
		alive := 0
		for _, h := range s.Hosts {
			if h.Alive {
				alive++
			}
		}
		return fmt.Sprintf("%v %+v", err, s), err == nil && alive == hosts && s.Owner.State == cluster.Running
	})
}

// refusals tries what an installation must refuse.
func (b *bareRig) refusals(t *testing.T, args []string) {
	t.Helper()
	without := func(flags ...string) (out []string) { // flags and their values
		for i := 0; i < len(args); i++ {
			if slices.Contains(flags, args[i]) {
				i++
				continue
			}
			out = append(out, args[i])
		}
		return out
	}
	b.sh(t, "h1", "echo wrong >/srv/host/wrong; mkdir -p /srv/host/bad; ssh-keygen -q -t ed25519 -N '' -f "+
		"/srv/host/bad/key; echo \"$(hostname -I | tr ' ' '\\n' | grep -m1 .) x\" >/dev/null")
	changed := fmt.Sprintf("for h in %s; do echo \"$h $(cut -d' ' -f1,2 /srv/host/bad/key.pub)\"; done "+
		">/srv/host/changed", strings.Join([]string{b.lab.Addr("h2").String()}, " "))
	b.sh(t, "h1", changed)
	for _, c := range []struct {
		name string
		args []string
		want []string
		say  string
	}{
		{"wrong password", append(without("--password-file"), "--password-file", "/srv/host/wrong"),
			[]string{"h1 connect", "h2 connect", "h3 connect"}, "denies the login"},
		{"unknown keys", without("--host-key"), []string{"h1 connect", "h2 connect", "h3 connect"}, "is not known"},
	} {
		res, said, err := b.install(t, "h1", c.args...)
		got := fails(res.Report)
		slices.Sort(got)
		if err == nil || res.OK || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, failed %v, want %v\n%s", c.name, err, got, c.want, said)
		}
		for _, f := range res.Findings {
			if !strings.Contains(f.Finding, c.say) {
				t.Errorf("%s: %+v: want a finding with %q", c.name, f, c.say)
			}
		}
		b.sh(t, "h1", "rm -f /srv/host/known_hosts")
	}
	// A key that has changed is taken only by somebody's word for the new one, which --host-key is.
	other := append(without("--known-hosts", "--host-key"), "--known-hosts", "/srv/host/changed")
	for i, k := range b.keys(t) {
		if b.lab.Hosts()[i] != "h2" {
			other = append(other, "--host-key", k)
		}
	}
	res, said, err := b.install(t, "h1", other...)
	got := fails(res.Report)
	if err == nil || res.OK || !slices.Equal(got, []string{"h2 connect"}) ||
		!strings.Contains(fmt.Sprint(res.Findings), " in /srv/host/changed:1") {
		t.Errorf("a changed key: %v, failed %v: %+v\n%s", err, got, res.Findings, said)
	}
	b.sh(t, "h1", "rm -f /srv/host/known_hosts")
	// Ports, and a shared directory that is another one.
	free := b.take(t, "h2", install.ClientPort, "somebody")
	b.sh(t, "h3", "mkdir -p /run/other; cp /srv/shared/mnvm.img /run/other; mount --bind /run/other /srv/shared")
	res, said, err = b.install(t, "h1", args...)
	got = fails(res.Report)
	if err == nil || !slices.Contains(got, "h2 ports") || !slices.Contains(got, "h3 shared directory") {
		t.Errorf("a taken port, another directory: %v, failed %v\n%s", err, got, said)
	}
	free()
	b.sh(t, "h3", "umount /srv/shared; rm -r /run/other")
	// A guest on the same image, under a name that is not ours, on a host that is not asked.
	if _, err := b.lab.StartGuest(t.Context(), "h4"); err != nil {
		t.Fatal(err)
	}
	res, said, err = b.install(t, "h1", args...)
	if got := fails(res.Report); err == nil || !slices.Contains(got, "h1 image") {
		t.Errorf("an image in use: %v, failed %v\n%s", err, got, said)
	}
	b.sh(t, "h4", "virsh destroy "+lab.GuestName)
}

// killed ends installations at some moments without a word: nothing may stay of
// them, or the next one goes on.
func (b *bareRig) killed(t *testing.T, args []string, unchanged func(string)) {
	t.Helper()
	for _, at := range []string{"checks", "h1: files"} {
		ctx, cancel := waiting(t)
		_ = b.killedWhen(ctx, t, "h1", append([]string{"install"}, args...), at, "[h]oldfast install") // it was killed
		cancel()
		b.until(t, "the hosts have taken back what was placed", func(ctx context.Context) (string, bool) {
			for _, h := range b.lab.Hosts() {
				out, err := b.lab.Exec(ctx, h, "sh", "-c", "pgrep -f '[h]oldfast.* on-host' || ls -d /var/lib/holdfast-install* 2>/dev/null || true")
				if err != nil || out != "" {
					return fmt.Sprint(h, out, err), false
				}
			}
			return "", true
		})
		unchanged("an installer that was killed at " + at)
	}
}

// changed installs with another configuration: what can change while the cluster runs
// does, and what can not is refused.
func (b *bareRig) changed(t *testing.T) {
	t.Helper()
	cl := b.lab.BareCluster()
	cl.ImageFolder += "/elsewhere"
	b.sh(t, "h2", "mkdir -p /srv/shared/elsewhere && cp /srv/shared/mnvm.img /srv/shared/elsewhere")
	res, said, err := b.install(t, "h2", b.files(t, "h2", cl)...)
	if got := fails(res.Report); err == nil || !slices.Equal(got, []string{" configuration"}) {
		t.Errorf("another image folder: %v, failed %q\n%s", err, got, said)
	}
	b.sh(t, "h2", "rm -r /srv/shared/elsewhere")
	cl = b.lab.BareCluster()
	cl.AllowResetRootPassword = true
	if _, said, err = b.install(t, "h2", b.files(t, "h2", cl)...); err != nil {
		t.Fatalf("install with another configuration: %v\n%s", err, said)
	}
	if out := b.command(t, "h1", "config", "export"); !strings.Contains(out, `"AllowResetRootPassword": true`) {
		t.Errorf("the configuration in force: %s", out)
	}
	if _, said, err = b.install(t, "h2", b.files(t, "h2", b.lab.BareCluster())...); err != nil {
		t.Fatalf("install with the first configuration: %v\n%s", err, said)
	}
}

// guestsOnly adds a host that runs guests only.
func (b *bareRig) guestsOnly(t *testing.T, args []string, id string) {
	t.Helper()
	if err := os.WriteFile(b.lab.HostPath("h1", "list"), []byte("# hosts\n"+b.lab.Addr("h4").String()+" h4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	res, said, err := b.install(t, "h1", append(args[:len(args):len(args)], "--hosts", "/srv/host/list")...)
	if err != nil || res.Cluster != id {
		t.Fatalf("install h4: %v\n%s\n%+v", err, said, res)
	}
	b.until(t, "h4 reports", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h4", b.exe, "host", "list")
		return out, err == nil && strings.Contains(out, "h4")
	})
}

// replaced gives h3 an empty disk, as a new machine in its place has. It is mended as chapter 2 of the
// source tool's manual does.
func (b *bareRig) replaced(t *testing.T, args []string) {
	t.Helper()
	b.sh(t, "h3", "systemctl disable --now holdfast.service; pkill -9 -f '[h]oldfast "+
		"(store-member|watchdog-holder)'; rm -rf /opt/holdfast /etc/holdfast /var/lib/holdfast /run/holdfast")
	b.runs(t, 2)
	// A watchdog that was armed resets it now, as its holder was killed: that is waited for.
	time.Sleep(6 * time.Second)
	b.until(t, "h3 to be there", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h3", "nft", "flush", "ruleset") // a new machine has none of our rules
		return out, err == nil
	})
	b.filters(t, "h3")
	if out := b.zshaDone(t, "h1", installedZsha, "export-config"); out != "output config json file to /tmp/current.config.json\n" {
		t.Errorf("zsha export-config: %q", out)
	}
	out := b.zshaDone(t, "h1", installedZsha, b.inItsWords(args, "/tmp/current.config.json")...)
	for _, h := range b.lab.Hosts()[:3] {
		line := fmt.Sprintf("Send %s to %s\n", install.Program, b.lab.Addr(h))
		if strings.Contains(out, line) != (h == "h3") {
			t.Errorf("the program goes to h3 alone:\n%s", out)
		}
	}
	b.sh(t, "h1", "rm /tmp/current.config.json")
	b.runs(t, 3)
	b.until(t, "three members vote", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h1", b.exe, "store", "status")
		return out, err == nil && strings.Count(out, " ok ") == 3 && !strings.Contains(out, "learner")
	})
}
