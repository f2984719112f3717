package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli/zsha"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// installedZsha is the link that an installation makes.
const installedZsha = "/usr/bin/" + zsha.Name

// zsha runs the program by the source tool's name on a host: what it said on both sides, and its exit code.
func (b *bareRig) zsha(t *testing.T, h, program string, args ...string) (out, said string, code int) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	cmd, err := b.lab.Command(ctx, h, append([]string{program}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var side strings.Builder
	cmd.Stderr = &side
	text, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), side.String(), cmd.ProcessState.ExitCode()
}

// zshaDone is zsha for what must succeed.
func (b *bareRig) zshaDone(t *testing.T, h, program string, args ...string) string {
	t.Helper()
	out, said, code := b.zsha(t, h, program, args...)
	if code != fail.ExitDone {
		t.Fatalf("zsha %q on %s ended with %d\n%s\n%s", args, h, code, out, said)
	}
	return out
}

// inItsWords are an installer's arguments as the source tool's manual has them: the password is one. What
// comes after it is the laboratory's own.
func (b *bareRig) inItsWords(args []string, file string) []string {
	out := []string{"install", "-p", b.password, "-c", file}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-c", "--password-file":
			i++ // and its value
		default:
			out = append(out, args[i])
		}
	}
	return out
}

// zshaInstalls installs as chapter 1 of the source tool's manual does: the sample, which is edited, the
// installation with the password, and the first status. All that is printed is compared.
func (b *bareRig) zshaInstalls(t *testing.T, h string, cl config.Cluster) {
	t.Helper()
	const dir = "/srv/host/kit"
	b.sh(t, h, "mkdir "+dir+" && ln -s "+b.lab.Exe()+" "+dir+"/zsha && rm -f /tmp/sample.FileConf.config.json")
	program := dir + "/zsha"
	if out := b.zshaDone(t, h, program, "config-sample",
		config.FileConf); out != "output config json file to /tmp/sample.FileConf.config.json\n" {
		t.Errorf("config-sample: %q", out)
	}
	b.sh(t, h, "mv /tmp/sample.FileConf.config.json "+dir+"/config.json && grep -q ImageFolder "+dir+"/config.json")
	text, err := json.Marshal(cl)
	if err == nil {
		err = os.WriteFile(b.lab.HostPath(h, "kit/config.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, said, code := b.zsha(t, h, program, b.inItsWords(b.files(t, h, cl), dir+"/config.json")...)
	if code != fail.ExitDone || !strings.Contains(said, "warning: others on this host can read the password") {
		t.Fatalf("zsha install ended with %d\n%s\n%s", code, out, said)
	}
	var each, sent, placed strings.Builder
	link := "Settings for " + cl.Network[0].Bridge + ":\nLink detected: yes\n\n"
	for _, m := range install.Members(cl) {
		fmt.Fprintf(&each, "check environment for %s\nFile %s exists\n%s", m.Addr, cl.ImagePath(), link)
		fmt.Fprintf(&sent, "Send %s to %s\nSend %s to %s\n", install.Program, m.Addr, install.ClusterFile, m.Addr)
		fmt.Fprintf(&placed, "Install for: %s\nconfig file check pass\nFile %s exists\n%sInstall bash "+
			"auto-completion\nInstall to Current Node Finished.\n\n", m.Addr, cl.ImageFolder, link)
	}
	want := "config file check pass\nAll nodes connect success.\n" +
		each.String() + sent.String() + "Not Ceph Type, skip generate ceph auth.\n" + placed.String() +
		"Upsert configuration to consul kv finished.\n\nInstall to All Nodes Finished.\nNow, You can monitor zsha's " +
		"status by using command \"zsha status\".\nMore commands are shown in \"zsha -h\".\n"
	if out != want {
		t.Errorf("zsha install printed\n%s\nwant\n%s", out, want)
	}
	b.sh(t, h, "rm -r "+dir)
	b.exe = install.Command
	b.zshaStatus(t, h, cl)
}

// bare is a status without what differs from one installation to the next: when the VM was started,
// the version of etcd, the widths of columns.
func bare(status string) string {
	for _, v := range [][2]string{{`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `, "TIME "},
		{`(?m)\d+\.\d+\.\d+ +3 +dc1$`, "VERSION 3 dc1"}, {` +`, " "}} {
		status = regexp.MustCompile(v[0]).ReplaceAllString(status, v[1])
	}
	return status
}

// zshaStatus compares the status of a cluster in which the management VM runs, heading by heading.
func (b *bareRig) zshaStatus(t *testing.T, h string, cl config.Cluster) {
	t.Helper()
	b.runs(t, len(cl.Nodes()))
	st, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var hosts, members strings.Builder
	holder := ""
	for _, m := range install.Members(cl) {
		fmt.Fprintf(&hosts, "%s %s\n", m.Addr, m.Name)
		fmt.Fprintf(&members, "%s %s:%d alive server VERSION 3 dc1\n", m.Addr, m.Addr, install.ClientPort)
		if m.Name == string(st.Owner.Host) {
			holder = m.Addr
		}
	}
	guest := b.lab.GuestAddr().String()
	want := ">>>MN-VM Running On\n" + holder + " : running\n\n>>>Last MN-VM Start Record\nTIME " +
		holder + "\n\n>>>ZStack HA Services Running On\n" + hosts.String() +
		"\n>>>Consul Members\nNode Address Status Type Build Protocol DC\n" + members.String() +
		"\n>>>Management Node IP\n" + guest + "\n\n>>>Public Network IP\n" + guest + "\n\n>>>Checking Host I/O\ndone.\n"
	b.until(t, "zsha status is that of the manual", func(context.Context) (string, bool) {
		out, said, code := b.zsha(t, h, installedZsha, "status")
		lines := func(s string) []string { return slices.Sorted(strings.Lines(s)) } // etcd's members have no order
		got := bare(out)
		headings := regexp.MustCompile("(?m)^>>>.*$")
		same := slices.Equal(lines(got), lines(want)) && slices.Equal(headings.FindAllString(got, -1), headings.FindAllString(want, -1))
		return fmt.Sprintf("%d %s\n%s\nwant\n%s", code, said, got, want), code == fail.ExitDone && same
	})
}

// zshaEnds ends a cluster as the manual does: the VM is stopped, that is seen, and all is taken off.
func (b *bareRig) zshaEnds(t *testing.T, h string, cl config.Cluster, flags []string) {
	t.Helper()
	flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == "--allow-undersized" || f == "--yes" })
	var each strings.Builder
	for _, m := range install.Members(cl) {
		fmt.Fprintf(&each, "Do for %s\n", m.Addr)
	}
	const begin, end = "start shutdown cluster\n", "shutdown cluster finished\n"
	if out := b.zshaDone(t, h, installedZsha, "stop"); out != begin+each.String()+end {
		t.Errorf("zsha stop printed\n%s", out)
	}
	if out := b.zshaDone(t, h, installedZsha, "status"); !strings.HasPrefix(out, ">>>MN-VM Running On\nnone : stopped\n") {
		t.Errorf("zsha status of a cluster that was stopped:\n%s", out)
	}
	if out, _, code := b.zsha(t, h, installedZsha, "uninstall"); code != fail.ExitRefused ||
		!strings.HasPrefix(out, "WARNING: this will *DESTROY*") {
		t.Errorf("zsha uninstall, unsure: %d\n%s", code, out)
	}
	out := b.zshaDone(t, h, installedZsha, append([]string{"uninstall", "--yes-i-really-really-mean-it"}, flags...)...)
	if out != "start clean\n"+begin+each.String()+end+each.String()+"clean finished\n" {
		t.Errorf("zsha uninstall printed\n%s", out)
	}
}
