package guests_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli"
	"holdfast/internal/cli/command"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/feature/guests"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain lets the test program serve as the program that hosts run, and as the laboratory's.
func TestMain(m *testing.M) {
	env := command.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Features: guests.Run}
	if len(os.Args) > 1 && os.Args[1] == "transition" {
		os.Exit(cli.Main(os.Args[1:], env))
	}
	if len(os.Args) == 3 && os.Args[1] == "away" {
		o := feature.Order{Guest: "vm1", Target: os.Args[2], URI: "qemu+tcp://%s/system",
			Shared: []string{"/srv/shared"}, Wait: feature.DefaultWait}
		left, err := guests.Away(context.Background(), o)
		if err != nil || len(left) > 0 {
			fmt.Fprintln(os.Stderr, err, left)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(cli.Run(os.Args[1:], env, func(env command.Env) *cobra.Command { return cli.Complete(lab.Command(), env) }))
	}
	os.Exit(m.Run())
}

// rig is a laboratory of two hosts with a business guest on the first, whose system obeys.
type rig struct {
	*testing.T
	lab *lab.Lab
}

// able says what the laboratory needs and this machine lacks.
func able() error {
	if m := lab.Missing(); len(m) > 0 {
		return errors.New(strings.Join(m, ", "))
	}
	return nil
}

func newRig(t *testing.T) rig {
	t.Helper()
	exe, err := os.Executable()
	try.Must(t, err)
	l, err := lab.Up(t.Context(), lab.Options{Dir: filepath.Join(t.TempDir(), "lab"), Exe: exe, Hosts: 2, Guests: 1})
	try.Must(t, err)
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return rig{t, l}
}

// virsh runs it on a host, and returns what it prints.
func (r rig) virsh(host string, args ...string) string {
	r.Helper()
	out, err := r.lab.Exec(context.Background(), host, append([]string{"virsh", "-q", "-c", "qemu:///system"}, args...)...)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

// shared is a file that all hosts have at /srv/shared.
func (r rig) shared(name string) string { return filepath.Join(r.lab.SharedPath(), name) }

// state is all that must be as before: definitions, what runs where, what starts with the host, files.
func (r rig) state() string {
	r.Helper()
	var b strings.Builder
	for _, h := range r.lab.Hosts() {
		for _, kind := range []string{"--state-running", "--autostart", "--persistent", "--transient"} {
			fmt.Fprintf(&b, "%s %s: %s\n", h, kind, strings.Join(strings.Fields(r.virsh(h, "list", "--all", kind, "--name")), " "))
		}
		for _, name := range strings.Fields(r.virsh(h, "list", "--all", "--persistent", "--name")) {
			b.WriteString(r.virsh(h, "dumpxml", "--inactive", "--security-info", name))
		}
		for _, name := range strings.Fields(r.virsh(h, "list", "--name")) {
			cards := strings.Fields(r.virsh(h, "domiflist", name)) // the last field is an address
			b.WriteString(r.virsh(h, "domblklist", name) + r.virsh(h, "domif-getlink", name, cards[len(cards)-1]))
		}
	}
	files, err := os.ReadDir(r.shared("pool"))
	try.Must(r, err)
	for _, f := range files {
		fmt.Fprintln(&b, f.Name())
	}
	return b.String()
}

// unchanged checks that all is as it was.
func (r rig) unchanged(before string) {
	r.Helper()
	if after := r.state(); after != before {
		r.Errorf("not as before:\n%s\nwas:\n%s", after, before)
	}
}

// outcome of a run of the command.
type outcome struct {
	feature.Report
	code         int
	text, stderr string
}

// begin starts the command on the first host.
func (r rig) begin(o *outcome, args ...string) (cmd *exec.Cmd, end func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	// The shell tells its own pid, which becomes the command's.
	argv := append([]string{"/bin/sh", "-c", `echo $$ >/srv/shared/pid.new && mv /srv/shared/pid.new /srv/shared/pid; exec "$@"`, "sh",
		r.lab.Exe(), "transition", "features"}, args...)
	cmd, err := r.lab.Command(ctx, "h1", argv...)
	try.Must(r, err)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	try.Must(r, cmd.Start())
	return cmd, func() {
		r.Helper()
		defer cancel()
		err := cmd.Wait()
		var e *exec.ExitError
		if err != nil && !errors.As(err, &e) {
			r.Fatal(err)
		}
		o.code, o.text, o.stderr = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
		try.Must(r, os.Remove(r.shared("pid")))
		if slices.Contains(args, "json") && stdout.Len() > 0 {
			if err := json.Unmarshal(stdout.Bytes(), &o.Report); err != nil {
				r.Fatalf("%v: %s", err, o.text)
			}
		}
		r.Logf("transition features %s: exit %d\n%s%s", strings.Join(args, " "), o.code, o.text, o.stderr)
	}
}

func (r rig) run(args ...string) (o outcome) {
	r.Helper()
	_, end := r.begin(&o, args...)
	end()
	return o
}

// moved are the flags of a run that moves the guest to the second host.
func (r rig) moved(guest string) []string {
	return []string{"--guest", guest, "--yes", "--target", r.lab.Addr("h2").String(), "--uri", "qemu+tcp://%s/system",
		"--shared", "/srv/shared", "-o", "json"}
}

// want checks which features are ok, by a letter each: o, f or s.
func (r rig) want(o outcome, want string) {
	r.Helper()
	got := ""
	for _, f := range o.Features {
		got += string(f.Result)[:1]
	}
	if got != want {
		r.Errorf("results %s, want %s", got, want)
	}
	if len(o.Left) > 0 || strings.Contains(o.stderr, "could not be put back") {
		r.Errorf("not put back: %q", o.Left)
	}
}

// deaf is a guest without a system: it obeys nothing.
const deaf = `<domain type='qemu'><name>deaf</name><uuid>98000000-0000-4000-8002-000000000001</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/srv/shared/pool/deaf.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><mac address='52:54:00:98:ff:01'/><source bridge='br0'/><model type='virtio'/></interface>
<memballoon model='none'/></devices></domain>`

// TestFeatures tries all on a guest whose system obeys, on two hosts, and compares.
func TestFeatures(t *testing.T) {
	need.Drill(t, "360, tests of features: all that a guest can do is tried on a real one, compared, and put back", need.Root, able)
	r := newRig(t)
	r.virsh("h1", "autostart", "vm1")
	before := r.state()
	first := r.run(append(r.moved("vm1"), "--out", "/srv/shared/first.json")...)
	r.want(first, "oooooooooooo")
	if first.code != 0 || first.Guest.Name != "vm1" || first.Libvirt == "" || first.QEMU == "" || first.At.IsZero() {
		t.Errorf("exit %d, %+v", first.code, first.Report)
	}
	for _, f := range first.Features {
		if f.Seconds <= 0 || f.Why != "" {
			t.Errorf("%+v", f)
		}
	}
	r.unchanged(before)
	saved, err := os.ReadFile(r.shared("first.json"))
	try.Must(t, err)
	if string(saved) != first.text {
		t.Errorf("--out has %s", saved)
	}
	if a, err := r.lab.AskVM(t.Context(), "vm1"); err != nil {
		t.Error(err)
	} else {
		t.Logf("the guest answers: %+v", a)
	}

	// A folder that can not be written, and nowhere to go.
	if _, err := r.lab.Exec(t.Context(), "h1", "/bin/sh", "-c",
		"mkdir /srv/full && mount -t tmpfs -o ro,size=64k tmpfs /srv/full"); err != nil {
		t.Fatal(err)
	}
	full := r.run("--guest", "98000000-0000-4000-8001-000000000001", "--yes", "--dir", "/srv/full", "--before",
		"/srv/shared/first.json", "--out", "/srv/shared/full.json")
	saved, err = os.ReadFile(r.shared("full.json"))
	try.Must(t, err)
	try.Must(t, json.Unmarshal(saved, &full.Report))
	r.want(full, "ooofffooossf")
	if full.code != 1 || !strings.Contains(full.Features[3].Why, "read-only file system") || full.Features[9].Why != "no --target given" {
		t.Errorf("exit %d, %+v", full.code, full.Features)
	}
	for _, want := range []string{"worse than before: attach a volume, detach a volume, image of a disk, live",
		"the guest is as it was before"} {
		if !strings.Contains(strings.Join(strings.Fields(full.text), " "), want) {
			t.Errorf("%q is not in %s", want, full.text)
		}
	}
	r.unchanged(before)
}

// TestGuestsThatAreNotAsUsual has a transient guest, and one that is off and obeys nothing.
func TestGuestsThatAreNotAsUsual(t *testing.T) {
	need.Drill(t, "360, tests of features: a transient guest and one that obeys nothing are told, and put back", need.Root, able)
	r := newRig(t)
	r.virsh("h1", "undefine", "vm1")
	run := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", r.shared("pool/deaf.qcow2"), "8M")
	try.Must(t, run.Run())
	try.Must(t, os.WriteFile(r.shared("deaf.xml"), []byte(deaf), 0o644))
	r.virsh("h1", "define", "/srv/shared/deaf.xml")
	before := r.state()
	floats := r.run(r.moved("vm1")...)
	r.want(floats, "oooooooosooo")
	if floats.code != 0 || !strings.Contains(floats.Features[8].Why, "transient") {
		t.Errorf("exit %d: %+v", floats.code, floats.Features[8])
	}
	r.unchanged(before)
	off := r.run("--guest", "deaf", "--yes", "--wait", "3s", "-o", "json")
	r.want(off, "ffoofoooosso")
	if off.code != 1 {
		t.Errorf("exit %d", off.code)
	}
	r.unchanged(before)
}

// TestInterrupted interrupts a run when a volume is made, when the guest has another definition, or when it is on the
// other host; and kills one.
func TestInterrupted(t *testing.T) {
	need.Drill(t, "P3: a trial of features that is interrupted or killed at any moment puts the guest back", need.Root, able)
	r := newRig(t)
	before := r.state()
	def := r.virsh("h1", "dumpxml", "--inactive", "vm1")
	volume := r.shared("pool/holdfast-feature-98000000-0000-4000-8001-000000000001-volume.raw")
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	for _, c := range []struct {
		when string
		is   func() bool
		want string // of the features, until the first that is skipped
	}{
		{"a volume is made", func() bool { return exists(volume) }, "ooo"},
		{"the definition is another one", func() bool {
			out, err := r.lab.Exec(context.Background(), "h1", "virsh", "-q", "-c", "qemu:///system", "dumpxml", "--inactive", "vm1")
			return err == nil && out != def
		}, "oooooooos"},
		{"it is on the other host", func() bool { return strings.Contains(r.virsh("h2", "list", "--all", "--name"), "vm1") }, "ooooooooo"},
	} {
		t.Run(c.when, func(t *testing.T) {
			r := rig{t, r.lab}
			var o outcome
			_, end := r.begin(&o, r.moved("vm1")...)
			try.Until(t, c.when, c.is)
			r.signal("INT")
			end()
			got := ""
			for _, f := range o.Features {
				got += string(f.Result)[:1]
			}
			if o.code != 1 || !o.Interrupted || !strings.HasPrefix(got, c.want) || !strings.Contains(got, "s") {
				t.Errorf("exit %d, interrupted %v, results %s, want %s and skipped ones", o.code, o.Interrupted, got, c.want)
			}
			if len(o.Left) > 0 {
				t.Errorf("not put back: %q", o.Left)
			}
			r.unchanged(before)
		})
	}
	t.Run("it is off on the other host", func(t *testing.T) {
		r := rig{t, r.lab}
		cmd, err := r.lab.Command(try.Context(t), "h1", r.lab.Exe(), "away", r.lab.Addr("h2").String())
		try.Must(t, err)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		r.unchanged(before)
	})
	t.Run("libvirtd dies", func(t *testing.T) {
		r := rig{t, r.lab}
		var o outcome
		_, end := r.begin(&o, r.moved("vm1")...)
		try.Until(t, "a volume", func() bool { return exists(volume) })
		if _, err := r.lab.Exec(context.Background(), "h1", "/bin/sh", "-c", "kill -KILL $(cat /run/libvirtd.pid)"); err != nil {
			t.Fatal(err)
		}
		end()
		if o.Interrupted || len(o.Left) > 0 || len(o.Features) != len(feature.All()) {
			t.Errorf("interrupted %v, not put back: %q", o.Interrupted, o.Left)
		}
		r.unchanged(before)
	})
	t.Run("killed", func(t *testing.T) {
		r := rig{t, r.lab}
		var o outcome
		_, end := r.begin(&o, r.moved("vm1")...)
		try.Until(t, "a volume", func() bool { return exists(volume) })
		r.signal("KILL")
		end()
		if again := r.run(r.moved("vm1")...); again.code != 3 || !strings.Contains(again.stderr, "which an earlier run has left") {
			t.Errorf("exit %d: %s", again.code, again.stderr)
		}
	})
}

func (r rig) signal(name string) {
	r.Helper()
	if _, err := r.lab.Exec(context.Background(), "h1", "/bin/sh", "-c", "kill -"+name+" $(cat /srv/shared/pid)"); err != nil {
		r.Fatal(err)
	}
}

// TestRefused has guests and hosts that can not be tried on. Nothing is changed.
func TestRefused(t *testing.T) {
	need.Drill(t, "P7: guests and hosts that can not be tried on are refused, and nothing is changed", need.Root, able)
	r := newRig(t)
	before := r.state()
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown", []string{"--guest", "vm9", "--yes"}, 2, "does not know a guest"},
		{"no word", []string{"--guest", "vm1"}, 3, "give --yes"},
		{"target", []string{"--guest", "vm1", "--yes", "--target", "10.98.255.1", "--uri", "qemu+tcp://%s/system"}, 4, "the target's libvirtd"},
		{"folder", []string{"--guest", "vm1", "--yes", "--dir", "/srv/none"}, 2, "want a directory that is there"},
	} {
		if o := r.run(c.args...); o.code != c.code || !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s: exit %d: %s", c.name, o.code, o.stderr)
		}
	}
	r.unchanged(before)
	r.virsh("h1", "suspend", "vm1")
	if o := r.run("--guest", "vm1", "--yes"); o.code != 3 || !strings.Contains(o.stderr, "stands still") {
		t.Errorf("paused: exit %d: %s", o.code, o.stderr)
	}
	r.virsh("h1", "resume", "vm1")
	if _, err := r.lab.Exec(t.Context(), "h1", "/bin/sh", "-c", "mv /run/libvirt/libvirt-sock /run/libvirt/away"); err != nil {
		t.Fatal(err)
	}
	if o := r.run("--guest", "vm1", "--yes"); o.code != 4 || !strings.Contains(o.stderr, "this host's libvirtd") {
		t.Errorf("no libvirtd: exit %d: %s", o.code, o.stderr)
	}
}
