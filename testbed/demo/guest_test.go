package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/host/process"
	"holdfast/internal/lib/proc"
)

// runTestGuest runs the VM until the returned function is called.
func runTestGuest(t *testing.T, shared, socket, epoch string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Guest(ctx, []string{"--host", "h1", "--epoch", epoch, "--uuid", "u", "--socket", socket, "--shared", shared})
	}()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestTheVMAnswersCountsAndGoesOnCountingInItsNextLife(t *testing.T) {
	shared, socket := t.TempDir(), filepath.Join(t.TempDir(), "s")
	client := newGuestClient(filepath.Join(t.TempDir(), "none"))
	defer client.Close()
	if _, err := client.Ask(ctxFor(t)); err == nil {
		t.Fatal("an answer where nothing runs")
	}
	client.Use(socket)
	var last Answer
	// The second life finds the socket file of the first, as after a SIGKILL.
	for life, epoch := range []string{"1.4", "1.5"} {
		stop := runTestGuest(t, shared, socket, epoch)
		var a Answer
		eventually(t, "an answer", func() bool {
			var err error
			a, err = client.Ask(ctxFor(t))
			return err == nil
		})
		if a.Host != "h1" || a.Epoch.String() != epoch || a.Boot == "" || a.Boot == last.Boot || a.N < last.N {
			t.Errorf("life %d: %+v after %+v", life, a, last)
		}
		first := a
		eventually(t, "the counter grows", func() bool {
			var err error
			a, err = client.Ask(ctxFor(t))
			return err == nil && a.N > first.N
		})
		if a.Boot != first.Boot {
			t.Errorf("boot %s became %s", first.Boot, a.Boot)
		}
		last = a
		stop()
		if err := os.WriteFile(socket, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	journal := string(must[[]byte](t)(os.ReadFile(filepath.Join(shared, "journal"))))
	if strings.Count(journal, " start ") != 2 || strings.Count(journal, " stop ") != 2 {
		t.Errorf("journal:\n%s", journal)
	}
}

func TestTwoVMsCanRunAtOnceSoThatAnObserverWouldSeeIt(t *testing.T) {
	shared, dir := t.TempDir(), t.TempDir()
	o := newObserver(procLimits().noise)
	for i, name := range []string{"a", "b"} {
		runTestGuest(t, shared, filepath.Join(dir, name), "1."+string(rune('1'+i)))
	}
	a, b := newGuestClient(filepath.Join(dir, "a")), newGuestClient(filepath.Join(dir, "b"))
	defer a.Close()
	defer b.Close()
	eventually(t, "two holders", func() bool {
		for _, c := range []*guestClient{a, b} {
			sent := now()
			if answer, err := c.Ask(ctxFor(t)); err == nil {
				o.Answered(answer, sent, now(), true)
			}
		}
		_, most := o.Holders()
		return most == 2
	})
}

func TestTheVMRefusesBadArguments(t *testing.T) {
	dir := t.TempDir()
	good := []string{"--host", "h1", "--epoch", "1.1", "--uuid", "u", "--socket", filepath.Join(dir, "s"), "--shared", dir}
	for i := 0; i < len(good); i += 2 {
		bad := append([]string{}, good...)
		bad[i+1] = ""
		if err := Guest(t.Context(), bad); err == nil {
			t.Errorf("an empty %s is accepted", good[i])
		}
	}
	if err := Guest(t.Context(), append(good, "more")); err == nil {
		t.Error("a further argument is accepted")
	}
	if err := os.WriteFile(filepath.Join(dir, "counter"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Guest(t.Context(), good); err == nil {
		t.Error("a spoilt counter is accepted")
	}
}

func TestTheProcessDriverRunsTheVM(t *testing.T) {
	dir, shared := t.TempDir(), t.TempDir()
	d, err := process.New(process.Options{
		Command: []string{os.Args[0], guestCommand}, Dir: dir, Shared: shared, Host: "h2", Resource: cluster.MgmtVM, UUID: "u" + randomID(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(d.Kill(ctxFor(t)), d.Close()); err != nil {
			t.Error(err)
		}
	}()
	epoch := cluster.Epoch{Gen: 1, Seq: 9}
	if err := d.Start(ctxFor(t), cluster.GuestSpec{Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	client := newGuestClient(filepath.Join(dir, process.SocketName))
	defer client.Close()
	var a Answer
	eventually(t, "an answer", func() bool {
		a, err = client.Ask(ctxFor(t))
		return err == nil
	})
	if a.Host != "h2" || a.Epoch != epoch {
		t.Errorf("got %+v", a)
	}
	g, err := d.Observe(ctxFor(t))
	if err != nil || g.Epoch != epoch {
		t.Fatalf("%+v, %v", g, err)
	}
	p := must[proc.Proc](t)(proc.Here.Read(g.PID))
	if err := syscall.Kill(p.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends by itself", func() bool {
		g, err := d.Observe(ctxFor(t))
		return err == nil && g.State == cluster.GuestAbsent
	})
}
