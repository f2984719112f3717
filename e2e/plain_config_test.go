package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// TestTheConfigurationChangesWhileTheClusterRuns: what takes effect when it was said,
// what is refused, and the password of root by the real agent in the guest.
func TestTheConfigurationChangesWhileTheClusterRuns(t *testing.T) {
	need.Drill(t, "P6: what changes while the cluster runs takes effect when it was said, or is refused; and root's "+
		"password by the real guest agent")
	onLab(t, plain, theConfigurationChanges)
}

func theConfigurationChanges(t testing.TB, r *rig) {
	st, began := r.healthy(t), time.Now()
	holder, other := string(st.Owner.Host), another(r, st.Owner.Host)
	first := r.command(t, other, "config", "export")
	t.Cleanup(func() { // of a test that failed half-way, too
		r.put(t, other, "first.json", first)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// The guest starts again, so that the next test finds what it had.
		for _, args := range [][]string{{"config", "import", "--yes", lab.HostDir + "/first.json"}, {"stop"}, {"start"}} {
			if out, err := r.lab.Exec(ctx, other, append([]string{r.exe}, args...)...); err != nil {
				t.Errorf("go back to what was before: %v: %v: %s", args, err, out)
			}
		}
	})

	end := r.undisturbed(t, st)
	change := func(edit func(*config.Cluster)) {
		t.Helper()
		r.put(t, other, "new.json", r.edited(t, other, edit))
	}
	imports := []string{"config", "import", "--yes", lab.HostDir + "/new.json"}
	change(func(c *config.Cluster) { c.CPU, c.DNS, c.AllowResetRootPassword = 2, []string{"192.0.2.53"}, true })
	r.refused(t, other, 3, []string{"AllowResetRootPassword of the cluster's configuration is false"}, "reset-mnvm-password")
	said := r.command(t, other, imports...)
	for _, want := range []string{"without a restart:\n  AllowResetRootPassword: false -> true\n",
		"holdfast start, or a shutdown from inside it):\n  CPU: 1 -> 2\n", "is in force"} {
		if !strings.Contains(said, want) {
			t.Errorf("import said:\n%s\nwant %q", said, want)
		}
	}
	r.pending(t, "[CPU DNS]")

	// The guest's busybox has all but the program that its agent hands a password to.
	r.inside(t, holder, "sh", "-c", "echo '"+chpasswd+"' >/bin/chpasswd && chmod 755 /bin/chpasswd")
	said = r.command(t, other, "reset-mnvm-password")
	if want := loop.GuestUUID("lab"); !strings.Contains(said, "Reset MNVM root password on "+holder+" ") ||
		!strings.Contains(said, "Password set successfully for root in "+want) {
		t.Errorf("said:\n%s", said)
	}
	hash := strings.Split(r.inside(t, holder, "grep", "^root:", "/etc/shadow"), ":")[1]
	if parts := strings.Split(hash, "$"); len(parts) != 4 ||
		strings.TrimSpace(r.inside(t, holder, "mkpasswd", "-m", "sha512", "-S", parts[2], "password")) != hash {
		t.Errorf("root of the guest has the password %q", hash)
	}

	change(func(c *config.Cluster) { c.ImageFolder = "/elsewhere" })
	r.refused(t, other, 3, []string{"can not be changed while the cluster runs"}, imports...)
	change(func(c *config.Cluster) { c.CPU = 0 })
	r.refused(t, other, 2, []string{"new.json:", "CPU", `"0"`}, imports...)
	r.twoImports(t, holder, other)
	end()

	r.importsWhileMoving(t, holder, other)
	address := func(h string) string { return "198.51.100.1" + strings.TrimPrefix(h, "h") }
	change(func(c *config.Cluster) {
		card := config.Network{Bridge: c.Network[0].Bridge, MacAddress: "02:00:5e:00:53:02", Gateway: "198.51.100.254"}
		for _, h := range r.lab.Hosts() {
			card.Ipaddr += ", " + address(h) + "@" + h
			card.Netmask += ", 255.255.255.0@" + h
		}
		card.Ipaddr, card.Netmask = card.Ipaddr[2:], card.Netmask[2:]
		c.Network = append(c.Network, card)
	})
	r.command(t, other, imports...)
	r.command(t, other, "stop")
	r.command(t, other, "start")
	st = r.healthy(t)
	if got := r.inside(t, string(st.Owner.Host), "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 192.0.2.53") {
		t.Errorf("/etc/resolv.conf in the guest: %q", got)
	}
	if got := r.inside(t, string(st.Owner.Host), "nproc"); strings.TrimSpace(got) != "2" {
		t.Errorf("the guest has %q processors", got)
	}
	r.pending(t, "[]")

	// The card's address is that of the host, by the seed at the start, and by the guest's
	// agent after a migration, which no boot follows.
	from := string(st.Owner.Host)
	to := another(r, st.Owner.Host)
	has := func(h, want, not string) {
		t.Helper()
		r.until(t, "the guest on "+h+" to have "+want, func(ctx context.Context) (string, bool) {
			out := r.inside(t, h, "ip", "-4", "addr", "show")
			return out, strings.Contains(out, want+"/24") && !strings.Contains(out, not)
		})
	}
	has(from, address(from), address(to))
	r.command(t, other, "migrate", to)
	has(to, address(to), address(from))
	r.until(t, "an event to tell of the addresses", func(context.Context) (string, bool) {
		got := fmt.Sprint(r.events(t, began))
		return got, strings.Contains(got, string(cluster.EvAddresses))
	})
}

// chpasswd changes the password of the user in its input, as the program of that name.
const chpasswd = `#!/bin/sh
IFS=: read -r user given
sed -i "s|^$user:[^:]*:|$user:$(mkpasswd -m sha512 "$given"):|" /etc/shadow`

// put writes a file into the folder of a host.
func (r *rig) put(t testing.TB, h, name, text string) {
	t.Helper()
	if err := os.WriteFile(r.disk(h, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// edited is the configuration in force with a change.
func (r *rig) edited(t testing.TB, h string, edit func(*config.Cluster)) string {
	t.Helper()
	text := r.command(t, h, "config", "export")
	cl, faults, _ := config.Parse("export.json", []byte(text), config.Options{AllowUndersized: true})
	if len(faults) > 0 {
		t.Fatalf("what was exported does not load: %v\n%s", config.Faults(faults), text)
	}
	edit(&cl)
	return string(cl.JSON())
}

// pending waits until every host says what takes effect at the next start.
func (r *rig) pending(t testing.TB, want string) {
	t.Helper()
	for _, h := range r.lab.Hosts() {
		r.until(t, h+" to take the configuration over", func(ctx context.Context) (string, bool) {
			st, err := r.statusOf(ctx, h)
			got := fmt.Sprint(st.Pending)
			return fmt.Sprintf("pending %s, want %s, %v", got, want, err), err == nil && got == want
		})
	}
}

// inside runs a program in the guest, by its agent, and returns what it said.
func (r *rig) inside(t testing.TB, h string, argv ...string) (said string) {
	t.Helper()
	ask := func(ctx context.Context, answer any, command string, args any) error {
		text, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
		if err != nil {
			return err
		}
		out, err := r.lab.Exec(ctx, h, "virsh", "-q", "-c", "qemu:///system", "qemu-agent-command", cluster.GuestName, string(text))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return json.Unmarshal([]byte(out), &struct {
			Return any `json:"return"`
		}{answer})
	}
	r.until(t, "the agent in the guest to run "+argv[0], func(ctx context.Context) (string, bool) {
		var run struct{ PID int }
		if err := ask(ctx, &run, "guest-exec", map[string]any{"path": argv[0], "arg": argv[1:], "capture-output": true}); err != nil {
			return err.Error(), false
		}
		var s struct {
			Exited bool
			Out    string `json:"out-data"`
		}
		for !s.Exited {
			if err := ask(ctx, &s, "guest-exec-status", map[string]any{"pid": run.PID}); err != nil {
				return err.Error(), false
			}
		}
		out, err := base64.StdEncoding.DecodeString(s.Out)
		said = string(out)
		return fmt.Sprint(said, err), err == nil
	})
	return said
}

// twoImports imports on two hosts at once: each is told how it ended, and the
// history has those that were done, no other.
func (r *rig) twoImports(t testing.TB, hosts ...string) {
	t.Helper()
	revisions := func() (all []config.Revision) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.command(t, hosts[0], "config", "history", "-o", "json")), &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := revisions()[0].Number
	for i, h := range hosts {
		r.put(t, h, "new.json", r.edited(t, h, func(c *config.Cluster) { c.Labels = map[string]string{"by": fmt.Sprint(i)} }))
	}
	said, errs := make([]string, len(hosts)), make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() {
			said[i], errs[i] = r.lab.Exec(t.Context(), h, r.exe, "config", "import", "--yes", lab.HostDir+"/new.json")
		})
	}
	all.Wait()
	done := 0
	for i := range hosts {
		if errs[i] == nil {
			done++
		} else if text := fmt.Sprint(said[i], errs[i]); !strings.Contains(text, "changed meanwhile") || !strings.Contains(text, "exit status 3") {
			t.Errorf("%s: %s", hosts[i], text)
		}
	}
	if after := revisions(); done == 0 || after[0].Number != before+done {
		t.Errorf("%d imports were done; revision %d before, now %+v", done, before, after[0])
	}
}

// importsWhileMoving asks for an import again and again while the guest moves.
func (r *rig) importsWhileMoving(t testing.TB, holder, other string) {
	t.Helper()
	r.put(t, holder, "new.json", r.edited(t, holder, func(c *config.Cluster) { c.Labels = map[string]string{"site": "moved"} }))
	moved := make(chan error, 1)
	go func() {
		out, err := r.lab.Exec(t.Context(), other, r.exe, "migrate", other)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		moved <- err
	}()
	refused := 0
	for {
		select {
		case err := <-moved:
			if err != nil || refused == 0 {
				t.Errorf("migration: %v; %d imports were refused beside it", err, refused)
			}
			return
		default:
		}
		out, err := r.lab.Exec(t.Context(), holder, r.exe, "config", "import", "--check", lab.HostDir+"/new.json")
		if said := fmt.Sprint(out, err); err != nil {
			if !strings.Contains(said, "can not be changed now: a move to "+other) || !strings.Contains(said, "exit status 3") {
				t.Errorf("beside a migration: %s", said)
			}
			refused++
		}
	}
}
