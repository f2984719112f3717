package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	helper "holdfast/testbed/try"
)

// bareRig is a laboratory whose hosts have libvirt, a shared directory and sshd, and
// nothing of Holdfast.
type bareRig struct {
	*rig
	password string
}

// newBareRig makes one with hosts h1, h2, ... Two hosts have management controllers.
func newBareRig(t *testing.T, hosts int) *bareRig {
	t.Helper()
	needLab(t)
	need.Real(t, need.Programs("openssh-server", "sshd"))
	if err := takeDown(); err != nil {
		t.Fatal(err)
	}
	dir, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := waiting(t)
	defer cancel()
	const password = "a & # @ $ 'b' \"c\" d"
	l, err := lab.Up(ctx, programs(lab.Options{
		Dir: filepath.Join(dir, "lab"), Hosts: hosts, Bare: password, BMCs: hosts == 2, Second: hosts == 2,
	}))
	if err != nil {
		t.Fatal(errors.Join(err, dropped(dir)))
	}
	b := &bareRig{rig: &rig{kind: "bare", lab: l, exe: l.Exe(), dir: dir}, password: password}
	t.Cleanup(func() {
		b.failed = t.Failed()
		if err := b.down(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// sh runs a script on a host.
func (b *bareRig) sh(t *testing.T, h, script string) string {
	t.Helper()
	out, err := b.lab.Exec(t.Context(), h, "/bin/sh", "-c", script)
	if err != nil {
		t.Fatalf("on %s: %v", h, err)
	}
	return out
}

// files writes what the installer reads onto a host: the configuration, what all
// agents have in common, and the password. The flags name them.
func (b *bareRig) files(t *testing.T, h string, cl config.Cluster) []string {
	t.Helper()
	for name, v := range map[string]any{"new.json": cl, "settings.json": lab.BareSettings()} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.lab.HostPath(h, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(b.lab.HostPath(h, "pw"), []byte(b.password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", "/srv/host/new.json", "--settings", "/srv/host/settings.json", "--password-file",
		"/srv/host/pw", "--known-hosts", "/srv/host/known_hosts", "--allow-undersized"}
	for _, k := range b.keys(t) {
		args = append(args, "--host-key", k)
	}
	return args
}

// keys are the fingerprints of the hosts' keys.
func (b *bareRig) keys(t *testing.T) (out []string) {
	t.Helper()
	for _, h := range b.lab.Hosts() {
		f := strings.Fields(b.sh(t, h, "ssh-keygen -lf /srv/host/ssh_host_ed25519_key.pub"))
		out = append(out, f[1])
	}
	return out
}

// install runs the installer on a host.
func (b *bareRig) install(t *testing.T, h string, args ...string) (install.Result, string, error) {
	t.Helper()
	return b.installer(t, h, append([]string{"install", "-o", "json"}, args...)...)
}

// installer runs a command that installs.
func (b *bareRig) installer(t *testing.T, h string, args ...string) (install.Result, string, error) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	cmd, err := b.lab.Command(ctx, h, append([]string{b.exe}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	var res install.Result
	if len(out) > 0 {
		if jerr := json.Unmarshal(out, &res); jerr != nil {
			t.Fatalf("%v: %s", jerr, out)
		}
	}
	return res, said.String(), err
}

// uninstall takes Holdfast off all hosts.
func (b *bareRig) uninstall(t *testing.T, h string, args ...string) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--allow-undersized" })
	cmd, err := b.lab.Command(ctx, h, append([]string{b.lab.Exe(), "uninstall", "--yes-i-really-really-mean-it"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("uninstall: %v: %s", err, out)
	} else {
		t.Logf("uninstall:\n%s", out)
	}
}

// tree lists what a host has in the places that an installation writes to.
func (b *bareRig) tree(t *testing.T, h string) string {
	t.Helper()
	return b.sh(t, h, `for d in /opt /etc/holdfast /etc/systemd/system /usr/lib/systemd/system /usr/bin/holdfast /usr/bin/zsha /usr/sbin/crm /usr/sbin/ms_*.sh /usr/sbin/drbd-overview /usr/share/man/man1/holdfast* /usr/lib/tmpfiles.d /var/lib/holdfast* /var/log/holdfast /run/holdfast; do
  [ ! -e "$d" ] && [ ! -L "$d" ] || find "$d" -printf '%p %y %m\n'
done | sort`)
}

// killedWhen runs a command on a host, kills it with what else there has the pattern in its
// command line when it has said something, and returns how it ended, once all hosts have heard of it.
func (b *bareRig) killedWhen(ctx context.Context, t *testing.T, h string, args []string, said, pattern string) error {
	t.Helper()
	cmd, err := b.lab.Command(ctx, h, append([]string{b.exe}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	says, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var before strings.Builder
	if !waitFor(io.TeeReader(says, &before), said) {
		t.Errorf("the command never said %q, but\n%s", said, before.String())
	}
	// At once: a shell on a busy host begins when the command may be over.
	for _, pid := range helper.Children(cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	b.sh(t, h, "pgrep -f '"+pattern+"' | xargs -r kill -9")
	err = cmd.Wait()
	b.until(t, "the hosts have heard of it", func(ctx context.Context) (string, bool) {
		for _, h := range b.lab.Hosts() {
			out, err := b.lab.Exec(ctx, h, "sh", "-c", "pgrep -f '[h]oldfast.* on-host' || true")
			if err != nil || out != "" {
				return fmt.Sprint(h, out, err), false
			}
		}
		return "", true
	})
	return err
}

// waitFor reads until a line has the text.
func waitFor(r io.Reader, text string) bool {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return true
		}
	}
	return false
}
