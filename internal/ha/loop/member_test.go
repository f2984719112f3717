package loop

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
)

// leaver is a host without the guest, and another one that has it not either, or has.
func (w *world) leaver() (leaver, other *host) {
	for _, id := range []cluster.HostID{"h3", "h2"} {
		if h := w.hosts[id]; h != w.home() {
			return h, w.hosts["h1"]
		}
	}
	panic("two hosts have the guest")
}

func TestAMemberIsReplaced(t *testing.T) {
	for name, joined := range map[string]string{"another name": "10.0.0.9 new",
		"another name and the old address": "ADDR new", "another address": "10.0.0.9 NAME"} {
		t.Run(name, func(t *testing.T) {
			sceneWith(t, wholly, func(w *world) {
				left, h1 := w.leaver()
				addr := "10.0.0." + strings.TrimPrefix(string(left.id), "h")
				was := addr + " " + string(left.id)
				swap := []string{was, strings.NewReplacer("ADDR", addr, "NAME", string(left.id)).Replace(joined)}

				_, err := h1.imports(config.Import{}, swap...)
				wantKind(t, err, fail.Refused, "replaces a member")
				_, err = h1.imports(config.Import{Swap: true}, swap...)
				wantKind(t, err, fail.Refused, "the agent of "+string(left.id)+", which is to be replaced, is alive")
				plan, err := h1.imports(config.Import{Swap: true, Check: true}, swap...)
				if err != nil || len(plan.Changes) != 1 || plan.Changes[0].Effect != config.Swap {
					t.Fatalf("a check: %+v, %v", plan, err)
				}

				left.crash()
				time.Sleep(7 * time.Second)
				if _, err := h1.imports(config.Import{Swap: true}, swap...); err != nil {
					t.Fatal(err)
				}
				w.settle()
				for _, s := range h1.agent.Status().Hosts {
					if s.Name == left.id {
						t.Errorf("its record is still there: %+v", s)
					}
				}

				// The machine that left comes back, and stays out for good, even when it alone is
				// able to run the guest.
				left.power()
				time.Sleep(30 * time.Second)
				if s := left.agent.Status(); !strings.Contains(s.Waiting, "no member of this cluster any more") {
					t.Errorf("it says that it waits for %q", s.Waiting)
				}
				home := w.home()
				home.crash()
				w.await("another", 30*time.Second)
				w.home().crash()
				time.Sleep(time.Minute)
				if on := w.on(); on != "nowhere" {
					t.Errorf("the guest runs on %s", on)
				}
				if _, found, err := w.mem.NewClient("look").Get(t.Context(), records.HostKey(left.id)); found || err != nil {
					t.Errorf("it has registered: %v", err)
				}
			})
		})
	}
}

func TestAMemberThatHasTheGuestIsNotReplaced(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		home := w.home()
		asked := w.hosts["h1"]
		if home == asked {
			asked = w.hosts["h2"]
		}
		addr := "10.0.0." + strings.TrimPrefix(string(home.id), "h")
		swap := []string{addr + " " + string(home.id), "10.0.0.9 new"}
		for _, check := range []bool{true, false} {
			_, err := asked.imports(config.Import{Swap: true, Check: check}, swap...)
			wantKind(t, err, fail.Refused, "what the cluster keeps up is running on "+string(home.id))
		}
		// A renewal of the one that leaves, between the look and the write, wins.
		left, _ := w.leaver()
		addr = "10.0.0." + strings.TrimPrefix(string(left.id), "h")
		left.crash()
		time.Sleep(7 * time.Second)
		r, err := asked.agent.readRecords(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := r.cfg
		next.Node = strings.Split(strings.Replace(strings.Join(r.cfg.Node, ";"), addr+" "+string(left.id), "10.0.0.9 new", 1), ";")
		conds, ops, err := asked.agent.leaves(r, next, false)
		if err != nil || len(conds) != 1 || conds[0].Key != records.HostKey(left.id) || conds[0].Rev == 0 || len(ops) != 2 {
			t.Errorf("%+v, %+v, %v", conds, ops, err)
		}
	})
}
