package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/need"
)

// The test binary is the process of a store's member, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "store-member" {
		os.Exit(memberMain(os.Args[2]))
	}
	os.Exit(m.Run())
}

func memberMain(file string) int {
	// A test that died must not leave this behind for ever.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c, err := etcdstore.LoadMember(file)
	if err == nil {
		err = etcdstore.RunMember(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// members starts three members of a store and returns their URLs. They end with
// the test.
func members(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	ip := netip.AddrFrom4([4]byte{127, byte(1 + rand.N(250)), byte(1 + rand.N(250)), byte(1 + rand.N(250))})
	free := func() string {
		l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	initial := map[string]string{"h1": free(), "h2": free(), "h3": free()}
	var urls []string
	for name, peer := range initial {
		c := etcdstore.MemberConfig{
			Name: name, Cluster: "engine-" + ip.String(), DataDir: filepath.Join(dir, name), Initial: initial,
			ListenPeer: peer, PeerURL: peer, ListenClient: free(), LogFile: filepath.Join(dir, name+".log"),
		}
		c.ClientURL = c.ListenClient
		urls = append(urls, c.ClientURL)
		start(t, dir, c)
	}
	return urls
}

func start(t *testing.T, dir string, c etcdstore.MemberConfig) {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, c.Name+".json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "store-member", file)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("end member %s: %v", c.Name, err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("member %s had ended before", c.Name)
		}
	})
}

// TestOnEtcd does the drill on a real store. On the way the agent of the
// coordinator dies, then that of another host.
func TestOnEtcd(t *testing.T) {
	need.Drill(t, "P3: a job ends as if nothing had happened on a real store of three members when two agents end on its way")
	urls := members(t)
	w := newWorld(t, func(string) store.Store {
		c, err := etcdstore.Open(etcdstore.Options{Endpoints: urls, Prefix: "/engine/", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}, "h1", "h2", "h3")
	w.faster, w.handover = 10, 2*time.Second
	if _, _, err := w.admin.List(t.Context(), ""); err != nil {
		t.Fatalf("the store does not serve: %v", err)
	}
	w.elect("h1")
	for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
		w.boot(h)
	}
	defer w.stop()
	w.submit(upgradeJob("u1"), drill())
	w.await("u1", time.Hour, "begun", stateIs("h1/install", job.Done))
	p := w.kill("h1")
	<-p.done
	w.elect("h2")
	w.boot("h1")
	w.await("u1", time.Hour, "going on", stateIs("h3/install", job.Done))
	p = w.kill("h3")
	<-p.done
	w.boot("h3")
	unknown := w.operate("u1")
	j, err := Load(t.Context(), w.admin, "u1")
	if err != nil || j.Job.Result != "done" {
		t.Fatalf("%v\n%s", err, j.text())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range drill() {
		n, r := w.effects[s.ID], j.Records[s.ID]
		if !r.State.Over() || n < 1 || !s.Idempotent && n != 1 || n > r.Attempt || unknown[s.ID] && s.Kind != "blind" {
			t.Errorf("%s was done %d times: %+v", s.ID, n, r)
		}
	}
}
