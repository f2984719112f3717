package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

const whole = `{
  "Node": ["10.0.0.1 h1", "10.0.0.2 h2", "10.0.0.3 h3"], "MemorySizeInGB": 8, "CPU": 4, "Type": "FileConf", "MonAddrs": null,
  "ChronyServers": ["192.0.2.1"], "PoolName": "", "ImageFolder": "/images", "DNS": ["192.0.2.1"],
  "Network": [{"Bridge": "br0", "MacAddress": "02:00:5e:10:00:01", "Ipaddr": "192.0.2.20", "Netmask": "255.255.255.0", "Gateway": "192.0.2.1", "IsMgmt": true, "IsDefRoute": true}],
  "ConsoleProxyOverriddenIP": ""
}`

// wholly gives the world a configuration that has all that an import must have.
func wholly(c *config.Cluster) {
	cl, faults, _ := config.Parse("whole.json", []byte(whole), config.Options{})
	if len(faults) > 0 {
		panic(config.Faults(faults))
	}
	*c = cl
}

// imports asks the agent of a host for the configuration with other texts in it.
func (h *host) imports(in config.Import, oldnew ...string) (config.Imported, error) {
	ctx, cancel := context.WithTimeout(h.w.t.Context(), 5*time.Second)
	defer cancel()
	in.Name, in.Text = "new.json", strings.NewReplacer(oldnew...).Replace(whole)
	return h.agent.ImportConfig(ctx, "tester", in)
}

// wantKind fails when an error is not of a kind, or does not say something.
func wantKind(t *testing.T, err error, kind fail.Kind, says string) {
	t.Helper()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%v: want %s with %q", err, kind, says)
	}
}

// asked is the address at which the management service of a host is asked.
func (h *host) asked() (addr string) {
	h.agent.ask(h.w.t.Context(), func() { addr = h.agent.runningHere().addr })
	return addr
}

// TestAnImportOfWhatCanNotStartHere: whoever imports what hosts can not have learns it at once; by a trial, of the host
// that is asked.
func TestAnImportOfWhatCanNotStartHere(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		h := w.home()
		for _, trial := range []bool{true, false} {
			out, err := h.imports(config.Import{Check: trial}, `"MemorySizeInGB": 8`, `"MemorySizeInGB": 900`)
			var want []string
			for _, id := range []cluster.HostID{"h1", "h2", "h3"} {
				if !trial || id == h.id {
					want = append(want, fmt.Sprintf("host %s can not start the guest with this configuration: %s has less memory", id, id))
				}
			}
			if trial {
				want = append(want, fmt.Sprintf("only host %s was asked whether it can start the guest with this "+
					"configuration: the others look when it is in force", h.id))
			}
			if err != nil || !slices.Equal(slices.DeleteFunc(out.Warnings, func(w string) bool { return strings.HasPrefix(w, "new.json") }), want) {
				t.Errorf("trial %v: %q, %v", trial, out.Warnings, err)
			}
		}
		if out, err := h.imports(config.Import{Check: true}, `"CPU": 4`, `"CPU": 5`); err != nil ||
			slices.ContainsFunc(out.Warnings, func(w string) bool { return strings.Contains(w, "can not start") }) {
			t.Errorf("%q, %v", out.Warnings, err)
		}
	})
}

func TestAnImportTakesEffectWhenItWasSaid(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		home := w.home()
		other := w.hosts["h2"]
		if home.id == "h2" {
			other = w.hosts["h3"]
		}
		change := []string{`"CPU": 4`, `"CPU": 6, "Labels": {"site": "north"}`, "192.0.2.20", "192.0.2.30"}
		plan, err := other.imports(config.Import{Check: true}, change...)
		if err != nil || plan.Number != 1 ||
			fmt.Sprint(plan.Changes) != `[CPU: 4 -> 6 Network[0].Ipaddr: "192.0.2.20" -> "192.0.2.30" Labels.site: (none) -> "north"]` {
			t.Fatalf("%+v, %v", plan, err)
		}
		if s := home.agent.Status(); len(s.Labels) != 0 {
			t.Errorf("a check has changed something: %+v", s)
		}
		done, err := other.imports(config.Import{Base: 1}, change...)
		if err != nil || done.Number != 2 {
			t.Fatalf("%+v, %v", done, err)
		}
		home.stays("after the import", 30*time.Second)
		for _, h := range w.hosts {
			if s := h.agent.Status(); fmt.Sprint(s.Pending) != "[CPU Network[0].Ipaddr]" || s.Labels["site"] != "north" {
				t.Errorf("%s: pending %v, labels %v", h.id, s.Pending, s.Labels)
			}
		}
		if again, err := other.imports(config.Import{}, change...); err != nil || again.Number != 2 || len(again.Changes) != 0 {
			t.Errorf("the same once more: %+v, %v", again, err)
		}

		// What the running guest has is not forgotten by a move, nor by a new agent.
		w.request("h1", func(want *cluster.Want) { want.MoveTo = other.id })
		w.await(string(other.id), 20*time.Second)
		w.settle()
		if got := other.asked(); got != "192.0.2.20" {
			t.Errorf("after a migration it is asked at %q", got)
		}
		other.kill()
		other.begin()
		w.settle()
		if got := other.asked(); got != "192.0.2.20" {
			t.Errorf("after a restart of the agent it is asked at %q", got)
		}

		w.request("h1", func(want *cluster.Want) { want.Run = false })
		w.await("nowhere", 20*time.Second)
		w.settle()
		w.request("h1", func(want *cluster.Want) { want.Run = true })
		w.await("another", 20*time.Second)
		w.settle()
		now := w.home()
		w.locked(func() {
			if now.spec.CPUs != 6 {
				t.Errorf("started anew with %d CPUs", now.spec.CPUs)
			}
		})
		if got := now.asked(); got != "192.0.2.30" {
			t.Errorf("started anew it is asked at %q", got)
		}
		if s := w.status(); len(s.Pending) != 0 {
			t.Errorf("pending after the start: %v", s.Pending)
		}
	})
}

func TestOneOfTwoImportsAtOnceIsTold(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		var errs [2]error
		var both sync.WaitGroup
		for i, h := range []cluster.HostID{"h1", "h2"} {
			both.Go(func() {
				_, errs[i] = w.hosts[h].imports(config.Import{Base: 1}, `"CPU": 4`, fmt.Sprintf(`"CPU": %d`, 5+i))
			})
		}
		both.Wait()
		won := slices.Index(errs[:], nil)
		if won < 0 || errs[1-won] == nil {
			t.Fatalf("outcomes %v, want one without an error", errs)
		}
		wantKind(t, errs[1-won], fail.Refused, "changed meanwhile: revision 2 is by tester")
		w.settle()
		r, err := w.hosts["h3"].agent.ReadConfig(w.t.Context(), 0)
		if err != nil || !strings.Contains(string(r.Config), fmt.Sprintf(`"CPU":%d`, 5+won)) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestImportsThatAreRefused(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		h1 := w.hosts["h1"]
		more := []string{`"CPU": 4`, `"CPU": 5`}
		refused := func(kind fail.Kind, says string, oldnew ...string) {
			t.Helper()
			before, _, err := w.mem.NewClient("before").Get(w.t.Context(), records.KeyConfig)
			if err != nil {
				t.Fatal(err)
			}
			_, err = h1.imports(config.Import{}, oldnew...)
			wantKind(t, err, kind, says)
			after, _, err := w.mem.NewClient("after").Get(w.t.Context(), records.KeyConfig)
			if err != nil || after.ModRev != before.ModRev {
				t.Errorf("%s: the configuration was written: %v", says, err)
			}
		}
		refused(fail.Invalid, `new.json:2:86: CPU: value "0"`, `"CPU": 4`, `"CPU": 0`)
		refused(fail.Refused, "this replaces a member of the cluster", "10.0.0.3", "10.0.0.4")
		refused(fail.Refused, "Node: it says which hosts are members", "10.0.0.3 h3", "10.0.0.4 h4", "10.0.0.2 h2", "10.0.0.5 h5")
		refused(fail.Refused, "ImageFolder: it names the disk", "/images", "/other")
		refused(fail.Refused, "Timings.Lease: what the hosts have promised", `"CPU": 4`, `"CPU": 4, "Timings": {"Lease": "9s"}`)
		h1.agent.Busy = func(context.Context) ([]store.Cmp, string, error) { return nil, "the job up-1 is active", nil }
		refused(fail.Refused, "can not be changed now: the job up-1 is active", more...)
		h1.agent.Busy = func(context.Context) ([]store.Cmp, string, error) { return nil, "", errors.New("no word of jobs") }
		if _, err := h1.imports(config.Import{}, more...); err == nil || !strings.Contains(err.Error(), "no word of jobs") {
			t.Errorf("what is under way is not known: %v", err)
		}
		h1.agent.Busy = nil

		home := w.home()
		to := cluster.HostID("h2")
		if home.id == to {
			to = "h3"
		}
		w.request("h1", func(want *cluster.Want) { want.MoveTo = to })
		refused(fail.Refused, "a move to "+string(to), more...)
		time.Sleep(300 * time.Millisecond)
		refused(fail.Refused, "a move to "+string(to)+" is under way", more...)
		w.await(string(to), 20*time.Second)
		w.settle()

		if to == "h1" {
			t.Fatal("h1 must stay up")
		}
		w.hosts[to].crash()
		time.Sleep(6500 * time.Millisecond)
		refused(fail.Refused, string(to)+", which is the holder, is silent", more...)
		w.await("another", 20*time.Second)
		w.settle()
		w.hosts[to].version = "0.9"
		w.hosts[to].power()
		time.Sleep(20 * time.Second)
		refused(fail.Refused, "the agent on "+string(to)+" is of version 0.9", more...)
	})
}

func TestAnImportWhoseReplyIsLostIsCarriedOutOnce(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		h1 := w.hosts["h3"]
		if w.home() == h1 {
			h1 = w.hosts["h2"]
		}
		h1.store.HoldWrites(true) // on their way: the sender never learns of them
		go func() { time.Sleep(3 * time.Second); h1.store.HoldWrites(false) }()
		done, err := h1.imports(config.Import{Key: "once", Base: 1}, `"CPU": 4`, `"CPU": 5`)
		if err != nil || done.Number != 2 || len(done.Changes) != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
		all, err := h1.agent.Configs(w.t.Context())
		if err != nil || len(all) != 2 || all[0].User != "tester" || all[0].Host != h1.id || all[0].Time.IsZero() ||
			fmt.Sprint(all[0].Changed) != "[CPU]" {
			t.Errorf("history %+v, %v", all, err)
		}
	})
}

func TestTheHistoryKeepsTheLastRevisions(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		h1 := w.hosts["h1"]
		for i := range config.Kept + 3 {
			if done, err := h1.imports(config.Import{Base: i + 1}, `"CPU": 4`, fmt.Sprintf(`"CPU": %d`, 5+i)); err != nil || done.Number != i+2 {
				t.Fatalf("%+v, %v", done, err)
			}
		}
		all, err := h1.agent.Configs(w.t.Context())
		if err != nil || len(all) != config.Kept || all[0].Number != config.Kept+4 || all[config.Kept-1].Number != 5 {
			t.Errorf("history %+v, %v", all, err)
		}
		_, err = h1.agent.ReadConfig(w.t.Context(), 4)
		wantKind(t, err, fail.Invalid, "revision 4 of the configuration is not kept: want 5 to 14")
		old, err := h1.agent.ReadConfig(w.t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		back, err := h1.agent.ImportConfig(w.t.Context(), "tester", config.Import{Name: "back.json", Text: string(old.Config)})
		if err != nil || back.Number != config.Kept+5 {
			t.Errorf("back to an earlier one: %+v, %v", back, err)
		}
	})
}
