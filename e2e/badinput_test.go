package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// disk is a path of a host's /srv/host, as the machine sees it.
func (r *rig) disk(h string, path ...string) string {
	return filepath.Join(append([]string{r.lab.Dir(), "hosts", h, "srv"}, path...)...)
}

// refused runs holdfast on a host and wants an exit code and texts on stderr.
func (r *rig) refused(t testing.TB, h string, code int, want []string, args ...string) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	out, err := r.lab.Exec(ctx, h, append([]string{r.exe}, args...)...)
	var e *exec.ExitError
	if !errors.As(err, &e) || e.ExitCode() != code {
		t.Errorf("holdfast %s: %v %s: want exit code %d", strings.Join(args, " "), err, out, code)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
}

// undisturbed watches the guest. The returned function fails the test when it
// was touched, doubled, or given a new epoch.
func (r *rig) undisturbed(t testing.TB, st cluster.Status) func() {
	t.Helper()
	before := r.answer(t)
	end := r.watching(t)
	return func() {
		t.Helper()
		now := r.healthy(t)
		after := r.answer(t)
		if after.Boot != before.Boot || after.N <= before.N {
			t.Errorf("the guest was %+v, is %+v", before, after)
		}
		w := end()
		w.oneHolder(t)
		if longest(w) > 500*time.Millisecond {
			t.Errorf("longest outage %s", longest(w))
		}
		if now.Owner.Epoch != st.Owner.Epoch || now.Owner.Host != st.Owner.Host {
			t.Errorf("owner %+v, was %+v", now.Owner, st.Owner)
		}
	}
}

// why waits until a host's line in the status of another holds all texts.
func (r *rig) why(t testing.TB, h string, fit bool, texts ...string) {
	t.Helper()
	r.until(t, fmt.Sprintf("%s to say %q", h, texts), func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		for _, hs := range st.Hosts {
			if string(hs.Name) != h {
				continue
			}
			ok := hs.Fit == fit
			for _, w := range texts {
				ok = ok && strings.Contains(hs.Why, w)
			}
			return fmt.Sprintf("fit %v, %q", hs.Fit, hs.Why), ok
		}
		return fmt.Sprint(err), false
	})
}

// well waits until a host has nothing to complain of.
func (r *rig) well(t testing.TB, h string) {
	t.Helper()
	r.until(t, h+" to have no trouble", func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		for _, hs := range st.Hosts {
			if string(hs.Name) == h {
				return hs.Why, hs.Fit && hs.Why == ""
			}
		}
		return fmt.Sprint(err), false
	})
}

// variant writes a changed copy of a host's agent.json beside it and returns
// its path on the host.
func (r *rig) variant(t testing.TB, from, on, name string, edit func(*config.Node)) string {
	t.Helper()
	n, err := config.LoadNode(r.disk(from, "agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	edit(&n)
	raw, err := json.Marshal(n)
	if err == nil {
		err = os.WriteFile(r.disk(on, name), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(r.disk(on, name)) })
	return lab.HostDir + "/" + name
}

// certificates writes a CA and a pair for a host under a name.
func (r *rig) certificates(t testing.TB, h, name string, valid time.Duration) config.TLS {
	t.Helper()
	dir := r.disk(h, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca, err := pki.NewCA("another", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(h, []netip.Addr{r.lab.Addr(h)}, nil, valid)
	if err == nil {
		err = errors.Join(pair.Write(dir+"/cert.pem", dir+"/key.pem"), ca.WriteCert(dir+"/ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	in := lab.HostDir + "/" + name + "/"
	return config.TLS{CA: in + "ca.pem", Cert: in + "cert.pem", Key: in + "key.pem"}
}

// TestBadSettingsAreRefused starts agents with bad settings beside the living
// one. Each ends with one clear error and exit code 2, and changes nothing.
func TestBadSettingsAreRefused(t *testing.T) {
	need.Drill(t, "P7: an agent with bad settings ends with one clear error and changes nothing")
	onLab(t, plain, badSettingsAreRefused)
}

func badSettingsAreRefused(t testing.TB, r *rig) {
	st := r.healthy(t)
	h := another(r, st.Owner.Host)
	end := r.undisturbed(t, st)
	foreign := r.certificates(t, h, "foreign", time.Hour)
	expired := r.certificates(t, h, "expired", 2*time.Second)
	r.until(t, "the certificate to expire", func(context.Context) (string, bool) {
		dir := r.disk(h, "expired")
		_, _, err := pki.Load(dir+"/ca.pem", dir+"/cert.pem", dir+"/key.pem")
		return fmt.Sprint(err), errors.Is(err, pki.ErrExpired)
	})
	other := lab.HostDir + "/other-data"
	made := "mkdir -p " + other + " && echo elsewhere >" + other + "/cluster && mkfifo " + lab.HostDir + "/pipe"
	if _, err := r.lab.Exec(t.Context(), h, "sh", "-c", made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.disk(h, "other-data")); os.Remove(r.disk(h, "pipe")) })
	apart := func(n *config.Node) { n.DataDir, n.RunDir = lab.HostDir+"/none-data", "/run/none" }
	for name, c := range map[string]struct {
		edit func(*config.Node)
		want []string
	}{
		"another-ca": {func(n *config.Node) { apart(n); ca := n.TLS.CA; n.TLS = foreign; n.TLS.CA = ca },
			[]string{"tls", "cert.pem", "authority"}},
		"expired": {func(n *config.Node) { apart(n); n.TLS = expired }, []string{"tls", "cert.pem", "expired"}},
		"no-key": {func(n *config.Node) { apart(n); n.TLS.Key = "/nonexistent/key" },
			[]string{"tls.key", "/nonexistent/key", "no such file"}},
		"other-data": {func(n *config.Node) { apart(n); n.DataDir = other }, []string{"data_dir", other, `"elsewhere"`, `"lab"`}},
		"read-only":  {func(n *config.Node) { apart(n); n.DataDir = "/sys/data" }, []string{"data_dir", "/sys/data"}},
		"no-cluster": {func(n *config.Node) { apart(n); n.ConfigFile = "/nonexistent" }, []string{"config_file", "/nonexistent"}},
	} {
		file := r.variant(t, h, h, name+".json", c.edit)
		r.refused(t, h, 2, append(c.want, file), "agent", "--config", file)
	}
	r.refused(t, h, 2, []string{"pipe is a pipe"}, "agent", "--config", lab.HostDir+"/pipe")
	r.refused(t, h, 2, []string{"zero is a device"}, "agent", "--config", "/dev/zero")
	for _, path := range []string{lab.HostDir + "/none-data", "/run/none"} {
		if out, err := r.lab.Exec(t.Context(), h, "ls", path); err == nil {
			t.Errorf("a refused agent left %s: %s", path, out)
		}
	}
	if got, err := os.ReadFile(r.disk(h, "other-data", "cluster")); err != nil || string(got) != "elsewhere\n" {
		t.Errorf("the data of the other cluster was changed: %q, %v", got, err)
	}
	end()
}

// TestACopiedHostIsNoticed runs a copy of the holder, with its identity, on
// another host: the copy ends, the guest does not notice.
func TestACopiedHostIsNoticed(t *testing.T) {
	need.Drill(t, "P1: a copy of the active host with its identity ends, and the guest does not notice")
	onLab(t, plain, aCopiedHostIsNoticed)
}

func aCopiedHostIsNoticed(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, h := string(st.Owner.Host), another(r, st.Owner.Host)
	end := r.undisturbed(t, st)
	_, file := r.copied(t, holder, h, func(n *config.Node) { n.Store.Member = nil })
	r.refused(t, h, 2, []string{"another agent uses this host's name", holder, r.lab.Addr(holder).String(),
		"the data directory was copied"}, "agent", "--config", file)
	end()
}

// copied puts a copy of a host's identity and certificate into a folder of another one, and returns that and the settings of an
// agent that lives there.
func (r *rig) copied(t testing.TB, from, on string, change func(*config.Node)) (dir, file string) {
	t.Helper()
	dir = r.disk(on, "copy")
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.MkdirAll(dir+"/data", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"data/identity": "data/identity", "data/cluster": "data/cluster",
		"pki/" + from + ".pem": "cert.pem", "pki/" + from + ".key": "key.pem"} {
		raw, err := os.ReadFile(r.disk(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, r.variant(t, from, on, "copy.json", func(n *config.Node) {
		n.DataDir, n.RunDir, n.Addr = lab.HostDir+"/copy/data", "/run/copy", r.lab.Addr(on).String()
		n.TLS.Cert, n.TLS.Key = lab.HostDir+"/copy/cert.pem", lab.HostDir+"/copy/key.pem"
		n.API.Listen, n.Watchdog.Device = "", "none"
		change(n)
	})
}

// TestAgentKilledAgainAndAgain: the guest, its epoch and its host stay.
func TestAgentKilledAgainAndAgain(t *testing.T) {
	need.Drill(t, "P3: the agent is killed twenty times in a row: the guest, its epoch and its host stay")
	onLab(t, plain, agentKilledAgainAndAgain)
}

func agentKilledAgainAndAgain(t testing.TB, r *rig) {
	st := r.healthy(t)
	end := r.undisturbed(t, st)
	for range 20 {
		r.until(t, "an agent to kill", func(ctx context.Context) (string, bool) {
			err := r.lab.Kill(ctx, string(st.Owner.Host), lab.AgentDaemon)
			return fmt.Sprint(err), err == nil
		})
	}
	end()
}

// TestTheStoreFails: all members killed at once harm nothing; one that can not
// start is told by every host, with the reason and the place of its log.
func TestTheStoreFails(t *testing.T) {
	need.Drill(t, "P3: all members of the store killed at once harm nothing, and one that can not start is told of with the reason")
	onLab(t, plain, theStoreFails)
}

func theStoreFails(t testing.TB, r *rig) {
	st := r.healthy(t)
	end := r.undisturbed(t, st)
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Kill(t.Context(), h, "cmd:store-member"); err != nil {
			t.Fatal(err)
		}
	}
	h := another(r, st.Owner.Host)
	free := r.take(t, h, 2379, "cmd:store-member")
	r.why(t, h, true, "process store has ended", "address is in use", "/run/holdfast/store/store.log")
	free()
	r.well(t, h)
	end()
}

// TestTheAPIPortIsTaken: the agent lives on, and says it.
func TestTheAPIPortIsTaken(t *testing.T) {
	need.Drill(t, "P7: an agent whose port is taken lives on, and says it")
	onLab(t, plain, theAPIPortIsTaken)
}

func theAPIPortIsTaken(t testing.TB, r *rig) {
	st := r.healthy(t)
	end := r.undisturbed(t, st)
	h := another(r, st.Owner.Host)
	free := r.take(t, h, lab.APIPort, lab.AgentDaemon)
	r.why(t, h, true, "the api is not served for other hosts", "address already in use")
	free()
	r.well(t, h)
	end()
}

// take ends what listens at a port of a host and listens there itself, until
// the returned function is called.
func (r *rig) take(t testing.TB, h string, port int, who string) (free func()) {
	t.Helper()
	const listen = `import socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try: s.bind((sys.argv[1], int(sys.argv[2]))); break
    except OSError: time.sleep(0.001)
s.listen(); time.sleep(120)
`
	ctx, cancel := context.WithCancel(context.Background())
	cmd, err := r.lab.Command(ctx, h, "python3", "-c", listen, r.lab.Addr(h).String(), fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	// A group of its own: the program is a child of what enters the host.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // killed
	})
	t.Cleanup(free)
	r.until(t, "the port to be taken", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Exec(ctx, h, "sh", "-c", fmt.Sprintf("ss -Hltnp 'sport = :%d'", port))
		if strings.Contains(out, "python3") {
			return out, true
		}
		return fmt.Sprint(out, err, r.lab.Kill(ctx, h, who)), false
	})
	return free
}

// TestTheImageComesAndGoes: every host says why it is not fit, a start waits, and
// goes on by itself when the image is there.
func TestTheImageComesAndGoes(t *testing.T) {
	need.Drill(t, "P7: hosts say why an image can not be used, and a start that waits goes on by itself")
	onLab(t, plain, theImageComesAndGoes)
}

func theImageComesAndGoes(t testing.TB, r *rig) {
	r.command(t, "h1", "stop")
	image := filepath.Join(r.lab.Dir(), "shared", lab.ImageName)
	away := image + ".away"
	if err := os.Rename(image, away); err != nil {
		t.Fatal(err)
	}
	back := sync.OnceFunc(func() {
		if err := errors.Join(os.RemoveAll(image), os.Rename(away, image)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		back()
		if _, err := r.lab.Exec(context.Background(), "h1", r.exe, "start"); err != nil {
			t.Error(err)
		}
	})
	for _, h := range r.lab.Hosts() {
		r.why(t, h, false, lab.ImageName, "does not exist")
	}
	if err := os.Mkdir(image, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, h := range r.lab.Hosts() {
		r.why(t, h, false, lab.ImageName, "is a directory")
	}
	// Asked again: a host that is slow to look says that first, and the command has two seconds.
	r.until(t, "start to say what the image is", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Exec(ctx, "h2", "timeout", "--preserve-status", "-s", "INT", "2", r.exe, "start")
		return fmt.Sprintf("%s, %v", out, err), err != nil && strings.Contains(err.Error(), "is a directory") &&
			strings.Contains(err.Error(), "the request stands")
	})
	back()
	r.healthy(t)
}

// TestALibvirtdThatHangs also when the agent starts: the host says so, and is fit
// again afterwards.
func TestALibvirtdThatHangs(t *testing.T) {
	need.Drill(t, "P3: a libvirtd that hangs, at the start of the agent too, costs nothing")
	onLab(t, plain, aLibvirtdThatHangs)
}

func aLibvirtdThatHangs(t testing.TB, r *rig) {
	st := r.healthy(t)
	end := r.undisturbed(t, st)
	h := another(r, st.Owner.Host)
	if err := r.lab.Pause(t.Context(), h, "libvirtd"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.lab.Resume(context.Background(), h, "libvirtd"); err != nil {
			t.Error(err)
		}
	})
	if err := r.lab.Kill(t.Context(), h, lab.AgentDaemon); err != nil {
		t.Fatal(err)
	}
	r.why(t, h, false, "libvirt")
	if err := r.lab.Resume(t.Context(), h, "libvirtd"); err != nil {
		t.Fatal(err)
	}
	end()
}

// TestWithoutAWatchdogThereIsNoTakeover boots a host whose device is missing, and
// moves the guest there: the loss of that host would not be answered.
func TestWithoutAWatchdogThereIsNoTakeover(t *testing.T) {
	need.Drill(t, "P2: the loss of a host without a watchdog would not be answered, and status says so")
	onLab(t, plain, withoutAWatchdogThereIsNoTakeover)
}

func withoutAWatchdogThereIsNoTakeover(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, h := string(st.Owner.Host), another(r, st.Owner.Host)
	good, err := os.ReadFile(r.disk(h, "agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	r.variant(t, h, h, "bare.json", func(n *config.Node) { n.Watchdog.Device = "/dev/watchdog9" })
	if err := os.Rename(r.disk(h, "bare.json"), r.disk(h, "agent.json")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(r.disk(h, "agent.json"), good, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(r.lab.Off(ctx, h), r.lab.On(ctx, h)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(r.lab.Off(t.Context(), h), r.lab.On(t.Context(), h)); err != nil {
		t.Fatal(err)
	}
	r.why(t, h, true, "watchdog", "/dev/watchdog9", "no such file")
	// The guest may be moved there; what that costs is said.
	r.mayYet(t, holder, "migrate", h)
	r.until(t, "the refusal of a takeover", func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		return fmt.Sprintf("%+v, %v", st.Takeover, err),
			string(st.Owner.Host) == h && !st.Takeover.Possible && strings.Contains(st.Takeover.Why, "no working watchdog")
	})
	r.mayYet(t, holder, "migrate", holder)
}

// TestACommandThatDiesChangesNothing of what it asked for: stop and migrate go on
// without the one who asked.
func TestACommandThatDiesChangesNothing(t *testing.T) {
	need.Drill(t, "P3: stop and migrate go on without the command that asked for them")
	onLab(t, plain, aCommandThatDiesChangesNothing)
}

func aCommandThatDiesChangesNothing(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, h := st.Owner.Host, cluster.HostID(another(r, st.Owner.Host))
	// Killed as soon as it says that it waits: then the request is recorded.
	const cut = `"$2" "$3" $4 >/run/said 2>&1 & p=$!
while [ ! -s /run/said ] && kill -0 $p; do sleep 0.01; done; kill -s "$1" $p; wait $p; cat /run/said; rm /run/said`
	for _, sig := range []string{"KILL", "TERM"} {
		for _, c := range []struct {
			args []string
			done func(cluster.Status) bool
		}{
			{[]string{"migrate", string(h)}, func(s cluster.Status) bool {
				return s.Owner.Host == h && s.Owner.State == cluster.Running && s.Want.MoveTo == ""
			}},
			{[]string{"stop"}, func(s cluster.Status) bool { return s.Owner.State == cluster.Released && !s.Want.Run }},
		} {
			said, err := r.lab.Exec(t.Context(), string(holder), append([]string{"sh", "-c", cut, "sh", sig, r.exe}, c.args...)...)
			r.until(t, c.args[0]+" to be carried out", func(ctx context.Context) (string, bool) {
				st, serr := r.status(ctx)
				return fmt.Sprintf("%+v, %v; the command said %s, %v", st.Owner, serr, said, err), serr == nil && c.done(st)
			})
		}
		r.command(t, "h1", "start")
		st = r.healthy(t)
		holder, h = st.Owner.Host, cluster.HostID(another(r, st.Owner.Host))
	}
}
